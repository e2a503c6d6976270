package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/logging"
)

const (
	// Lines that wait for whoever reads our output; more are dropped and counted, the monitor never waits for them.
	tellQueue = 256
	// How long the end waits for the last lines to be read.
	tellEnd = 250 * time.Millisecond
)

// teller prints what the monitor does: the original's lines, or JSON. This file owns what it says. Telling never blocks.
type teller struct {
	json    bool
	log     *logging.Log
	out     *sink
	err     *sink
	queue   chan told
	dropped atomic.Uint64
	quit    chan struct{} // closed when what is queued shall be the last
	over    chan struct{}
}

type told struct {
	to   *sink
	text []byte
}

// lines takes whole lines from a logger.
type lines struct{ t *teller }

func (l lines) Write(p []byte) (int, error) {
	l.t.push(l.t.out, bytes.Clone(p))
	return len(p), nil
}

func newTeller(s *settings, out, err *sink) (*teller, error) {
	t := &teller{json: s.json, out: out, err: err, queue: make(chan told, tellQueue), quit: make(chan struct{}), over: make(chan struct{})}
	o := logging.Options{App: lookup(s.env, "APP_NAME"), Device: lookup(s.env, "DEVICE_NAME"), Deployment: lookup(s.env, "DEPLOYMENT_ID"),
		Level: slog.LevelWarn, Format: "console", Syslog: "off", Out: lines{t}}
	if s.json {
		o.Level, o.Format = slog.LevelInfo, "json"
		if s.verbose {
			o.Level = slog.LevelDebug
		}
	}
	var e error
	if t.log, e = logging.New(o); e != nil {
		return nil, e
	}
	t.log.Started()
	go t.print()
	return t, nil
}

func (t *teller) print() {
	defer close(t.over)
	for quit := t.quit; ; {
		select {
		case l := <-t.queue:
			l.to.writeOwn(l.text)
			continue
		default:
		}
		if quit == nil {
			return
		}
		select {
		case l := <-t.queue:
			l.to.writeOwn(l.text)
		case <-quit:
			quit = nil
		}
	}
}

func (t *teller) push(to *sink, text []byte) {
	select {
	case t.queue <- told{to, text}:
	default:
		t.dropped.Add(1)
	}
}

// close waits a while until what was told is printed.
func (t *teller) close() {
	close(t.quit)
	timer := time.NewTimer(tellEnd)
	defer timer.Stop()
	select {
	case <-t.over:
	case <-timer.C:
	}
}

// say prints one of the original's lines, or a record.
func (t *teller) say(level slog.Level, text, record string, attrs ...any) {
	if t.json {
		t.log.Logger().With("worker", "monitor").Log(context.Background(), level, record, attrs...)
		return
	}
	t.push(t.out, []byte(text+"\n"))
}

func (t *teller) running(command string, pid, restarts int) {
	t.say(slog.LevelInfo, "[monitor] Running "+command+" ... ", "running", "command", command, "pid", pid, "restarts", restarts)
}

// blank is the original's empty line before each start.
func (t *teller) blank() {
	if !t.json {
		t.push(t.out, []byte("\n"))
	}
}

func (t *teller) beat(verbose bool, b fmt.Stringer) {
	if verbose {
		t.say(slog.LevelDebug, "[monitor] Got heartbeat.", "got heartbeat", "beat", b.String())
	}
}

func (t *teller) missing(missed, allowed int) {
	t.say(slog.LevelWarn, "[monitor] Missing a timeout ...", "missing a timeout", "missed", missed, "allowed", allowed)
}

func (t *teller) late(lag time.Duration) {
	t.say(slog.LevelWarn, fmt.Sprintf("[monitor] Held up for %v, which is not the program's fault.", lag.Round(time.Millisecond)), "the monitor itself was held up", "lag_ms", lag.Milliseconds())
}

func (t *teller) killing(pid int) {
	t.say(slog.LevelError, "[monitor] Killing off the process ...", "killing off the process", "pid", pid)
}

func (t *teller) order(what, why, by string) {
	text := "[monitor] Order to execute"
	if what != "kill" {
		text = "[monitor] Order to " + what
	}
	if why != "" {
		text += ": " + why
	}
	t.say(slog.LevelWarn, text, "order", "order", what, "why", why, "by", by)
}

// ended prints the original's error line, with what the process's end really was.
func (t *teller) ended(o outcome) {
	if t.json {
		t.say(slog.LevelError, "", "the program ended", "reason", string(o.reason), "cause", o.cause, "code", o.code(), "signal", signalName(o.status),
			"oom", o.oom, "uptime_s", o.lived().Seconds())
		return
	}
	t.push(t.err, []byte("Error = "+o.String()+"\n\n"))
}

func (t *teller) restarting(pause time.Duration, counts map[reason]int) {
	t.say(slog.LevelWarn, fmt.Sprintf("[monitor] Restarting in %v (dying %d, never dying %d, aberrant %d)", pause.Round(time.Millisecond), counts[dying], counts[neverDying], counts[aberrant]),
		"restarting", "pause_ms", pause.Milliseconds(), "dying", counts[dying], "never_dying", counts[neverDying], "aberrant", counts[aberrant])
}

func (t *teller) budgetSpent(b budget) {
	t.say(slog.LevelError, fmt.Sprintf("[monitor] Giving up: the budget of %v restarts is spent", b), "giving up: the budget is spent", "budget", b.String())
}

func (t *teller) stopping(s string, grace time.Duration) {
	t.say(slog.LevelInfo, fmt.Sprintf("[monitor] Stopping (%s), KILL follows after %v", s, grace), "stopping", "by", s, "grace_s", grace.Seconds())
}

func (t *teller) note(text string, attrs ...any) {
	line := "[monitor] " + text
	for i := 0; i+1 < len(attrs); i += 2 {
		line += fmt.Sprintf(" %v=%v", attrs[i], attrs[i+1])
	}
	t.say(slog.LevelWarn, line, text, attrs...)
}

func (t *teller) exiting(code int) {
	t.say(slog.LevelInfo, fmt.Sprintf("[monitor] Exiting with return code %d", code), "exiting", "code", code)
}
