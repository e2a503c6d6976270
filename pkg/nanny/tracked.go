package nanny

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/worker"
	"github.com/cenkalti/backoff/v5"
)

// State is what a worker does.
type State string

// The states; the drawing in the package comment shows what leads from one to the other.
const (
	StateBusy       State = "busy"
	StateParked     State = "parked" // waits for its next piece of work
	StateRestarting State = "restarting"
	StateStuck      State = "stuck"
	StateUnwatched  State = "unwatched" // busy for all that is known: it reports no progress
	StateDead       State = "dead"
	StateDone       State = "done"    // a one-shot worker that is through
	StateStopped    State = "stopped" // ended because it was asked to
)

func (s State) alive() bool {
	return s == StateBusy || s == StateParked || s == StateRestarting || s == StateStuck || s == StateUnwatched
}

// Status is a worker's state at a moment.
type Status struct {
	Name     string        `json:"name"`
	State    State         `json:"state"`
	Since    time.Time     `json:"since"`           // when its present run began or ended
	Waits    string        `json:"waits,omitempty"` // where it is parked
	Beats    uint64        `json:"beats"`           // of the present run
	Restarts int           `json:"restarts"`
	Spare    int           `json:"spare"`           // how many restarts the budget has left now
	Deadline time.Duration `json:"deadline"`        // how long it may be busy without a beat
	Error    string        `json:"error,omitempty"` // why it ended last
}

// The pause before a restart. The first is short, since most failures are gone at once; people hardly notice the
// longest. Full jitter keeps workers that failed together from coming back together.
const (
	firstPause  = 10 * time.Millisecond
	longestWait = 5 * time.Second
	fullJitter  = 1.0 // of the pause to either side: anything from 0 to twice the pause
)

// tracked is one worker. The Nanny's lock guards the fields after the empty line.
type tracked struct {
	nanny  *Nanny
	name   string
	fn     Func
	policy policy

	worker   *worker.Worker // of the present run
	state    State
	since    time.Time
	restarts int
	failures []time.Time // those that may count against the budget
	err      error
	quiet    time.Duration           // observed time without a beat
	seen     uint64                  // beats at the last round
	end      context.CancelCauseFunc // ends the context of the present run
	tried    bool                    // its context was ended, to see whether it listens
	listens  bool                    // it did: it is unwatched until it reports progress
}

// supervise runs the worker, again and again if its policy says so, until its end is final.
func (t *tracked) supervise() {
	n := t.nanny
	pause := backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: fullJitter, Multiplier: 2, MaxInterval: longestWait}
	pause.Reset()
	for {
		began := time.Now()
		err := t.run()
		n.opts.Ended(t.worker)
		if t.cameBack(err) {
			n.opts.Log.Warn("worker restarts, since it reported no progress within its deadline; from now on it is unwatched",
				"subject", t.name, "deadline", t.policy.deadline.String(), "hint", watchHint)
			t.restart()
			continue
		}
		switch {
		case n.closing():
			t.logLate(err)
			t.enter(StateStopped, err)
			return
		case err == nil && t.policy.oneShot:
			t.enter(StateDone, nil)
			return
		}
		err = t.explain(err)
		n.report(worker.NewContext(n.ctx, t.worker), t.name, err)
		now := time.Now()
		if now.Sub(began) >= t.policy.window {
			pause.Reset()
		}
		if !t.mayRestart(now) {
			if t.policy.budget > 0 {
				err = fmt.Errorf("worker %s: %d restarts within %v did not help: %w",
					t.name, t.policy.budget, t.policy.window, err)
			}
			t.enter(StateDead, err)
			n.opts.Fail(err)
			return
		}
		t.enter(StateRestarting, err)
		if !sleep(n.ctx, pause.NextBackOff()) {
			t.enter(StateStopped, err)
			return
		}
		t.restart()
	}
}

// mayRestart counts a failure, and returns whether the budget allows a restart.
func (t *tracked) mayRestart(now time.Time) bool {
	t.nanny.mu.Lock()
	defer t.nanny.mu.Unlock()
	t.failures = append(recent(t.failures, now.Add(-t.policy.window)), now)
	return len(t.failures) <= t.policy.budget
}

// run calls the worker once, in a goroutine of its own: so an end by runtime.Goexit is noticed, too.
func (t *tracked) run() error {
	ended := make(chan error, 1)
	ctx, end := context.WithCancelCause(worker.NewContext(t.nanny.ctx, t.worker))
	defer end(nil)
	t.nanny.mu.Lock()
	t.end = end
	t.nanny.mu.Unlock()
	go func() {
		err := errGoexit
		defer func() { ended <- err }()
		stack.Labelled(ctx, t.name, func(ctx context.Context) {
			err = fault.Recover(t.name, func() error { return t.fn(ctx) })
		})
	}()
	return <-ended
}

var errGoexit = errors.New("the goroutine was ended by runtime.Goexit")

// watchHint is what an author can do about a worker that can't be watched.
const watchHint = "wait by nanny.Sleep or nanny.Park, and report progress by nanny.Beat; or use rt.Every"

// errTried is why the context of a worker ends that has reported no progress.
var errTried = &fault.Error{Kind: fault.KindStopped, Op: "nanny", Err: errors.New("no progress was reported")}

// cameBack returns whether a run ended because its context was ended to see whether it listens.
func (t *tracked) cameBack(err error) bool {
	n := t.nanny
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing() || !t.tried || t.listens || t.state != StateBusy || err == nil && t.policy.oneShot || err != nil && !echo(err, errTried) {
		return false
	}
	t.listens = true
	return true
}

// logLate logs how a worker ended while the process shuts down. What is only the echo of that is for debug. An error is one
// warning and changes nothing; a panic makes the end unclean.
func (t *tracked) logLate(err error) {
	if err == nil {
		return
	}
	n := t.nanny
	level, kind := slog.LevelWarn, fault.Of(err)
	switch {
	case echo(err, context.Cause(n.ctx)):
		level = slog.LevelDebug
	case kind == fault.KindPanic || errors.Is(err, errGoexit):
		level = slog.LevelError
		n.opts.Flaw(fmt.Errorf("worker %s: %w", t.name, err))
	}
	attrs := []any{"subject", t.name, "kind", kind.String(), "error", err}
	if trace := fault.Stack(err); len(trace) > 0 {
		attrs = append(attrs, "stack", string(trace))
	}
	ctx := fault.Reported(worker.NewContext(n.ctx, t.worker)) // nothing is reported while shutting down
	logged := make(chan struct{})
	go func() { defer close(logged); n.opts.Log.Log(ctx, level, "failed while shutting down", attrs...) }()
	await(logged)
}

// echo returns whether err says only that the process shuts down: each error in its tree is the cause of that, the end of a
// context, or the end of a server or a socket.
func echo(err, cause error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range list.Unwrap() {
			if !echo(e, cause) {
				return false
			}
		}
		return true
	}
	for _, e := range []error{cause, context.Canceled, http.ErrServerClosed, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return fault.Of(err) == fault.KindTerminated
}

// explain returns the error that people read, for what a worker returned.
func (t *tracked) explain(err error) error {
	if err == nil {
		return &fault.Error{Kind: fault.KindEnded, Op: "worker", Subject: t.name,
			Err: errors.New("returned although nobody asked it to")}
	}
	switch fault.Of(err) {
	case fault.KindUnhandled:
		return &fault.Error{Kind: fault.KindUnhandled, Op: "worker", Subject: t.name, Err: err}
	case fault.KindStopped: // nobody asked for it: this must not end the process with 0
		return &fault.Error{Kind: fault.KindEnded, Op: "worker", Subject: t.name, Err: err}
	}
	return fault.Occurred(err) // the guard logs it, and again whoever logs why the process ends: it is one occurrence
}

func (t *tracked) enter(s State, err error) {
	n := t.nanny
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.state == StateStuck && s != StateStopped {
		s = StateDead // it returned too late: the process is ending already
	}
	t.state, t.since, t.err = s, time.Now(), err
	close(n.changed)
	n.changed = make(chan struct{})
}

func (t *tracked) restart() {
	n := t.nanny
	n.mu.Lock()
	t.restarts++
	t.state, t.since, t.quiet, t.seen, t.tried = StateBusy, time.Now(), 0, 0, false
	t.worker = worker.New(t.name)
	restarts := t.restarts
	n.mu.Unlock()
	n.opts.Log.Info("worker restarts", "subject", t.name, "restarts", restarts)
}

// status is called under the lock.
func (t *tracked) status() Status {
	s := Status{Name: t.name, State: t.state, Since: t.since, Beats: t.worker.Beats(), Restarts: t.restarts,
		Deadline: t.policy.deadline}
	s.Spare = max(0, t.policy.budget-len(recent(t.failures, time.Now().Add(-t.policy.window))))
	if t.state == StateBusy {
		if t.listens && s.Beats == 0 {
			s.State = StateUnwatched
		}
		if place, parked := t.worker.Parked(); parked {
			s.State, s.Waits = StateParked, place
		}
	}
	if t.err != nil {
		s.Error = t.err.Error()
	}
	return s
}

func recent(list []time.Time, after time.Time) []time.Time {
	for len(list) > 0 && list[0].Before(after) {
		list = list[1:]
	}
	return list
}

// sleep waits for d. It returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
