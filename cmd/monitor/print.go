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
	// How many lines may wait while nobody reads our output. More are dropped and counted; the monitor never waits.
	printQueue = 256
	// How long the end waits for the last lines to be read.
	printEnd = 250 * time.Millisecond
)

// printer prints what the monitor does, as the original's lines or as JSON. Every text of the monitor stands in this
// file. Printing never blocks.
type printer struct {
	json    bool
	log     *logging.Log
	out     *sink
	err     *sink
	queue   chan queued
	dropped atomic.Uint64
	quit    chan struct{} // closed when what is queued shall be the last
	over    chan struct{}
}

type queued struct {
	to   *sink
	text []byte
}

// lines passes a logger's records, one whole line per call, to the printer.
type lines struct{ to *printer }

func (l lines) Write(p []byte) (int, error) {
	l.to.push(l.to.out, bytes.Clone(p))
	return len(p), nil
}

func newPrinter(s *settings, out, err *sink) (*printer, error) {
	p := &printer{json: s.json, out: out, err: err,
		queue: make(chan queued, printQueue), quit: make(chan struct{}), over: make(chan struct{})}
	o := logging.Options{
		App: lookup(s.env, "APP_NAME"), Device: lookup(s.env, "DEVICE_NAME"), Deployment: lookup(s.env, "DEPLOYMENT_ID"),
		Level: slog.LevelWarn, Format: "console", Syslog: "off", Out: lines{p},
	}
	if s.json {
		o.Level, o.Format = slog.LevelInfo, "json"
		if s.verbose {
			o.Level = slog.LevelDebug
		}
	}
	var e error
	if p.log, e = logging.New(o); e != nil {
		return nil, e
	}
	p.log.Started()
	go p.run()
	return p, nil
}

func (p *printer) run() {
	defer close(p.over)
	for quit := p.quit; ; {
		select {
		case l := <-p.queue:
			l.to.writeOwn(l.text)
			continue
		default:
		}
		if quit == nil {
			return
		}
		select {
		case l := <-p.queue:
			l.to.writeOwn(l.text)
		case <-quit:
			quit = nil
		}
	}
}

func (p *printer) push(to *sink, text []byte) {
	select {
	case p.queue <- queued{to, text}:
	default:
		p.dropped.Add(1)
	}
}

// close waits until the queued lines are printed, for printEnd at most.
func (p *printer) close() {
	close(p.quit)
	timer := time.NewTimer(printEnd)
	defer timer.Stop()
	select {
	case <-p.over:
	case <-timer.C:
	}
}

// line prints text, one of the original's lines, or with --json a record.
func (p *printer) line(level slog.Level, text, record string, attrs ...any) {
	if p.json {
		p.log.Logger().With("worker", "monitor").Log(context.Background(), level, record, attrs...)
		return
	}
	p.push(p.out, []byte(text+"\n"))
}

func (p *printer) running(command string, pid, restarts int) {
	p.line(slog.LevelInfo, "[monitor] Running "+command+" ... ", "running", "command", command, "pid", pid, "restarts", restarts)
}

// blank is the original's empty line before each start.
func (p *printer) blank() {
	if !p.json {
		p.push(p.out, []byte("\n"))
	}
}

func (p *printer) beat(verbose bool, b fmt.Stringer) {
	if verbose {
		p.line(slog.LevelDebug, "[monitor] Got heartbeat.", "got heartbeat", "beat", b.String())
	}
}

func (p *printer) missing(missed, allowed int) {
	p.line(slog.LevelWarn, "[monitor] Missing a timeout ...", "missing a timeout", "missed", missed, "allowed", allowed)
}

func (p *printer) late(lag time.Duration) {
	p.line(slog.LevelWarn, fmt.Sprintf("[monitor] Held up for %v, which is not the program's fault.", lag.Round(time.Millisecond)),
		"the monitor itself was held up", "lag_ms", lag.Milliseconds())
}

func (p *printer) killing(pid int) {
	p.line(slog.LevelError, "[monitor] Killing off the process ...", "killing off the process", "pid", pid)
}

func (p *printer) order(what, why, by string) {
	text := "[monitor] Order to execute"
	if what != "kill" {
		text = "[monitor] Order to " + what
	}
	if why != "" {
		text += ": " + why
	}
	p.line(slog.LevelWarn, text, "order", "order", what, "why", why, "by", by)
}

// ended prints the original's error line, with what the process's end really was.
func (p *printer) ended(o outcome) {
	if p.json {
		p.line(slog.LevelError, "", "the program ended", "reason", string(o.reason), "cause", o.cause, "code", o.code(),
			"signal", signalName(o.status), "oom", o.oom, "uptime_s", o.lived().Seconds())
		return
	}
	p.push(p.err, []byte("Error = "+o.String()+"\n\n"))
}

func (p *printer) restarting(pause time.Duration, counts map[reason]int) {
	text := fmt.Sprintf("[monitor] Restarting in %v (dying %d, never dying %d, aberrant %d)", pause.Round(time.Millisecond),
		counts[dying], counts[neverDying], counts[aberrant])
	p.line(slog.LevelWarn, text, "restarting", "pause_ms", pause.Milliseconds(),
		"dying", counts[dying], "never_dying", counts[neverDying], "aberrant", counts[aberrant])
}

func (p *printer) budgetSpent(b budget) {
	p.line(slog.LevelError, fmt.Sprintf("[monitor] Giving up: the budget of %v restarts is spent", b),
		"giving up: the budget is spent", "budget", b.String())
}

func (p *printer) stopping(s string, grace time.Duration) {
	p.line(slog.LevelInfo, fmt.Sprintf("[monitor] Stopping (%s), KILL follows after %v", s, grace),
		"stopping", "by", s, "grace_s", grace.Seconds())
}

// warn prints a line of ours that the original did not have.
func (p *printer) warn(text string, attrs ...any) {
	line := "[monitor] " + text
	for i := 0; i+1 < len(attrs); i += 2 {
		line += fmt.Sprintf(" %v=%v", attrs[i], attrs[i+1])
	}
	p.line(slog.LevelWarn, line, text, attrs...)
}

func (p *printer) exiting(code int) {
	p.line(slog.LevelInfo, fmt.Sprintf("[monitor] Exiting with return code %d", code), "exiting", "code", code)
}
