package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"example.com/base-app/pkg/heartbeat"
)

const (
	// A hung program gets this part of the allowed silence to print its stacks, but at most quitMost. So the next
	// start comes within 1.5 × the allowed silence.
	quitShare = 0.25
	quitMost  = 2 * time.Second
	// A killed process is gone in milliseconds. Only the kernel can hold it longer, over a dead disk or share.
	killTime = 5 * time.Second
)

// reason is which of the three kinds of failure ended a program; empty if none did.
type reason string

// The kinds.
const (
	dying      reason = "dying"       // it ended, though nobody asked it to
	neverDying reason = "never dying" // it hung, and was killed
	aberrant   reason = "aberrant"    // somebody ordered it to be killed
)

// outcome is how one life of the program ended.
type outcome struct {
	pid            int
	status         syscall.WaitStatus
	reason         reason
	cause          string // in words; empty if the status is enough
	stopped        bool   // the monitor was told to stop
	oom            bool
	started, ended time.Time
	watch          heartbeat.Status
	out            *capture
}

func (o outcome) code() int            { return exitCode(o.status) }
func (o outcome) lived() time.Duration { return o.ended.Sub(o.started) }

// String returns what is printed after the original's "Error = ".
func (o outcome) String() string {
	text := fmt.Sprint(o.code())
	if name := signalName(o.status); name != "" {
		text += " (" + name + ")"
	}
	if o.oom {
		text += ", out of memory"
	}
	if o.cause != "" {
		text = o.cause + ", " + text
	}
	return text
}

// stage is how far the end of a program is.
type stage int

const (
	watched  stage = iota
	quitting       // it hung and was asked for its stacks
	stopping       // it was told to stop
	killed         // it was sent KILL
)

var stageNames = [...]string{watched: "running", quitting: "being killed", stopping: "stopping", killed: "being killed"}

// attendance is one life of the program, from its start to its end.
//
//	watched ──misses──► quitting ──grace──► killed ─► ended
//	   ├──TERM, INT, stop──► stopping ──grace──┘
//	   └──────────────── kill ─────────────────┘     (and ended from each)
type attendance struct {
	*monitor
	c     *child
	stage stage
	timer *time.Timer
	out   outcome
	gone  bool // the monitor gives the program up: KILL does not end it
}

// attend watches over one life of the program and returns how it ended.
func (m *monitor) attend(c *child) outcome {
	a := &attendance{monitor: m, c: c, timer: time.NewTimer(0)}
	defer a.timer.Stop()
	a.armTimer()
	for {
		select {
		case status := <-c.ended:
			return a.end(status)
		case s := <-m.signals:
			a.signal(s.(syscall.Signal))
		case o := <-m.orders:
			a.order(o)
		case why := <-m.panics:
			a.kill(why, "command address")
		case <-a.sooner:
			if a.stage == watched {
				a.armTimer()
			}
		case <-a.timer.C:
			a.due()
		}
		if a.gone {
			return a.end(syscall.WaitStatus(syscall.SIGKILL))
		}
	}
}

// armTimer sets the timer to the next deadline of the heartbeats.
func (a *attendance) armTimer() {
	if a.set.timeout == 0 {
		a.timer.Stop()
		return
	}
	a.mu.Lock()
	next := a.watch.Deadline()
	a.mu.Unlock()
	a.timer.Reset(time.Until(next))
}

func (a *attendance) to(s stage, within time.Duration) {
	a.stage = s
	a.timer.Reset(within)
}

// due is called when the time of a stage is over.
func (a *attendance) due() {
	switch a.stage {
	case watched:
		a.judge()
	case quitting, stopping:
		if a.stage == stopping {
			a.print.warn("the program does not stop", "after", a.set.stopGrace)
			a.out.cause = "did not stop in time"
		}
		a.c.kill()
		a.to(killed, killTime)
	case killed:
		a.print.warn("the killed program is still there: it waits in the kernel", "pid", a.c.pid)
		a.gone = a.out.stopped
		a.timer.Reset(killTime)
	}
}

// judge decides whether the program hangs: whether its heartbeats have come.
func (a *attendance) judge() {
	a.mu.Lock()
	verdict := a.watch.Tick(time.Now())
	w := a.watch.Status()
	a.mu.Unlock()
	switch verdict {
	case heartbeat.Late:
		a.print.late(w.Lag)
	case heartbeat.Missed, heartbeat.Hung:
		a.print.missing(w.Missed, a.set.misses)
	}
	if verdict != heartbeat.Hung {
		a.armTimer()
		return
	}
	a.print.killing(a.c.pid)
	a.out.reason, a.out.cause = neverDying, fmt.Sprintf("Missed %d heartbeats", w.Missed)
	a.c.signal(syscall.SIGQUIT)
	allowed := time.Duration(a.set.misses) * a.set.timeout
	a.to(quitting, min(quitMost, time.Duration(quitShare*float64(allowed))))
}

func (a *attendance) signal(s syscall.Signal) {
	switch s {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		a.stop(s, s.String())
	case syscall.SIGHUP, syscall.SIGUSR1:
		a.c.signal(s)
	}
}

// stop passes the signal on and starts the grace. A second call only passes the signal on.
func (a *attendance) stop(s syscall.Signal, by string) {
	if !a.out.stopped {
		a.print.stopping(by, a.set.stopGrace)
	}
	a.out.stopped = true
	a.c.signal(s)
	if a.stage == watched {
		a.to(stopping, a.set.stopGrace)
	}
}

func (a *attendance) kill(why, by string) {
	if a.stage == killed {
		return
	}
	a.print.order("kill", why, by)
	a.out.reason, a.out.cause = aberrant, "Killed by order"
	if why != "" {
		a.out.cause += ": " + why
	}
	a.c.kill()
	a.to(killed, killTime)
}

func (a *attendance) order(o order) {
	const by = "control socket"
	switch o.what {
	case "status":
		o.reply <- answer{Status: a.status(a.c, stageNames[a.stage])}
	case "kill":
		a.kill(o.reason, by)
		o.reply <- answer{Text: fmt.Sprintf("killed pid %d", a.c.pid)}
	case "stop":
		a.print.order(o.what, o.reason, by)
		a.stop(syscall.SIGTERM, strings.TrimSpace("order "+o.reason))
		o.reply <- answer{Text: fmt.Sprintf("stopping pid %d", a.c.pid)}
	case "dump":
		if !catches(a.c.pid, syscall.SIGUSR1) {
			o.reply <- answer{err: errors.New("the program does not handle USR1, and would die of it")}
			return
		}
		a.print.order(o.what, o.reason, by)
		a.c.signal(syscall.SIGUSR1)
		o.reply <- answer{Text: fmt.Sprintf("asked pid %d for its state", a.c.pid)}
	}
}

// end completes the outcome when the program is dead.
func (a *attendance) end(status syscall.WaitStatus) outcome {
	o := a.out
	a.mu.Lock()
	o.watch = a.watch.Status()
	a.mu.Unlock()
	o.pid, o.status, o.started, o.ended, o.out = a.c.pid, status, a.c.started, time.Now(), a.c.out
	if o.reason == "" && exitCode(status) != 0 {
		o.reason = dying
	}
	if status.Signaled() && status.Signal() == syscall.SIGKILL && a.stage != killed {
		o.oom = a.oom.grown()
	}
	return o
}
