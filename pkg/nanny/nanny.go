// Package nanny runs the workers of a process and knows the state of each. A worker is a function that runs until its
// context ends. If it returns before that, panics, or makes no progress within its deadline, the nanny starts it again,
// if it has the option Restart and its budget lasts, or ends the process through the Fail hook.
//
//	Go                 returns or panics
//	 │    ┌──────────┐ ───────────────────► restarting ──┐ budget spent
//	 └──► │ busy     │ ◄─────────────────────────────────┤
//	      │  ▲  │    │                                   ▼
//	      │  │  ▼    │ ───────────────────────────────► dead ──► Fail
//	      │ parked   │
//	      └──────────┘ ── no beat in its deadline ────► stuck ──► Fail
//	             └─────── one-shot that returned nil ─► done
//	             └─────── its context ended ──────────► stopped
//
// A goroutine waits for each worker's end, so that an end is known at once, without polling. A worker reports progress
// through its context (see pkg/worker): sockets and queues beat for it, and park it while it waits for work. A loop that
// uses neither calls Beat. Go can't stop a goroutine: a stuck worker stays, and the process has to end.
//
// A worker that has no Deadline of its own and never reported progress may be a sound one that waits in its own way. At the
// deadline its context ends: if it comes back within a second, it is started again with a warning, and is unwatched until it
// reports progress; if it doesn't, it is stuck.
package nanny

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
)

// DefaultDeadline is how long a busy worker may go without a beat. A minute is longer than any sound timeout of
// a call that a handler makes, and short enough to be back before people give up.
const DefaultDeadline = time.Minute

// Func is a worker: it runs until ctx ends and then returns soon. Its return value doesn't matter then.
type Func = func(ctx context.Context) error

// Options configures a Nanny. The zero value works, but then a worker's death is only logged.
type Options struct {
	Log      *slog.Logger                        // nil: slog.Default()
	Deadline time.Duration                       // for workers without one of their own; 0: DefaultDeadline
	Report   func(context.Context, *fault.Error) // passed to the guard; must not block
	// Ended is called when a worker has ended, whatever way, before anything else follows: to close what it left open. It must
	// return soon.
	Ended func(*worker.Worker)
	Flaw  func(error) // called for a panic while shutting down, which makes the end unclean; must not block
	Fail  func(error) // called once for each end that must end the process; must not block
}

// Nanny runs and watches workers.
type Nanny struct {
	ctx   context.Context
	opts  Options
	guard fault.Guard
	watch *watcher

	mu      sync.Mutex
	workers map[string]*tracked
	changed chan struct{} // closed and replaced when a worker ends or is given up
}

// New returns a Nanny whose workers end with ctx, and starts its watcher. The watcher is a worker like any other, and is
// watched like any other; besides, a second goroutine watches that it makes its rounds. Once ctx has ended, no worker is
// judged any more.
func New(ctx context.Context, o Options) *Nanny {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	if o.Fail == nil {
		o.Fail = func(error) {}
	}
	if o.Flaw == nil {
		o.Flaw = func(error) {}
	}
	if o.Ended == nil {
		o.Ended = func(*worker.Worker) {}
	}
	n := &Nanny{ctx: ctx, opts: o, workers: map[string]*tracked{}, changed: make(chan struct{})}
	n.guard = fault.Guard{Log: o.Log, Closing: n.closing, Report: o.Report}
	n.watch = &watcher{nanny: n, joins: make(chan struct{}, 1)}
	if err := n.Go("nanny", n.watch.run); err != nil && !errors.Is(err, ErrClosing) {
		panic(err) // can't happen: the table of workers is empty
	}
	go n.watch.watchOver(ctx)
	return n
}

// reportTime is how long to wait until a worker's end is logged and reported: the log may be what hangs.
const reportTime = 500 * time.Millisecond

// report logs and reports a worker's end, and waits for that, for reportTime at most.
func (n *Nanny) report(ctx context.Context, name string, err error) {
	reported := make(chan struct{})
	go func() { defer close(reported); n.guard.Handle(ctx, name, err) }()
	await(reported)
}

// await waits for c to be closed, for reportTime at most: the log may be what hangs.
func await(c <-chan struct{}) {
	timer := time.NewTimer(reportTime)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}

func (n *Nanny) closing() bool { return n.ctx.Err() != nil }

// Option is a worker's policy. Without any, the end of the worker ends the process.
type Option func(*policy)

type policy struct {
	deadline time.Duration
	judged   bool // it has set its deadline itself
	oneShot  bool
	budget   int
	window   time.Duration
}

// Restart starts a worker again that failed or returned, at most budget times within any window. The pause before a
// restart doubles from 10 ms to 5 s, with full jitter, and begins anew once the worker ran for a window. When the budget
// is spent the process ends with the worker's last error. A stuck worker can't be restarted and ends the process.
func Restart(budget int, window time.Duration) Option {
	return func(p *policy) { p.budget, p.window = budget, window }
}

// OneShot lets a worker return nil before the shutdown: its work is done, and its name is free again.
func OneShot() Option { return func(p *policy) { p.oneShot = true } }

// Deadline is how long this worker may be busy without a beat. If it is too short, a call that is only slow ends the
// process; if it is too long, a hang is found late.
func Deadline(d time.Duration) Option { return func(p *policy) { p.deadline, p.judged = d, true } }

// ErrClosing is returned by Go once the shutdown has begun.
var ErrClosing = fault.New(fault.KindStopped, "nanny: shutting down, no worker is started any more")

// Go starts fn as the worker called name and returns at once. A name that a live worker has is an error. The context of
// fn carries the worker, and ends with the Nanny's context.
func (n *Nanny) Go(name string, fn Func, opts ...Option) error {
	p := policy{deadline: n.opts.Deadline}
	for _, o := range opts {
		o(&p)
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f }) {
		return fmt.Errorf("nanny: %q is no name for a worker: use letters, digits and dashes", name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing() {
		return ErrClosing
	}
	if old := n.workers[name]; old != nil && old.state != StateDone {
		return fmt.Errorf("nanny: a worker called %s runs already: give each a name of its own", name)
	}
	t := &tracked{nanny: n, name: name, fn: fn, policy: p, state: StateBusy, since: time.Now(), worker: worker.New(name)}
	n.workers[name] = t
	go t.supervise()
	select {
	case n.watch.joins <- struct{}{}:
	default: // the watcher has such a message already
	}
	return nil
}

// Beat reports that the worker of ctx made progress. A loop that uses no socket and no queue calls it once a round.
func Beat(ctx context.Context) { worker.FromContext(ctx).Beat() }

// Wait blocks until every worker has ended, except those that are stuck, or until ctx ends. It returns the
// workers that are still alive, the stuck ones too, sorted by name.
func (n *Nanny) Wait(ctx context.Context) []Status {
	for {
		n.mu.Lock()
		changed, waiting := n.changed, false
		for _, t := range n.workers {
			waiting = waiting || t.state.alive() && t.state != StateStuck
		}
		n.mu.Unlock()
		if !waiting {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	return slices.DeleteFunc(n.Workers(), func(s Status) bool { return !s.State.alive() })
}

// Workers returns the state of every worker that was ever started, sorted by name.
func (n *Nanny) Workers() []Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]Status, 0, len(n.workers))
	for _, t := range n.workers {
		list = append(list, t.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Err returns an error that names the workers that are dead or stuck, and the watcher if it no longer makes its rounds.
// Nil means that every worker is alive and makes progress, restarts, or waits for work.
func (n *Nanny) Err() error {
	var list []error
	for _, s := range n.Workers() {
		if s.State == StateDead || s.State == StateStuck {
			list = append(list, fmt.Errorf("worker %s is %s", s.Name, s.State))
		}
	}
	if n.watch.hung.Load() {
		list = append(list, errHung)
	}
	return errors.Join(list...)
}
