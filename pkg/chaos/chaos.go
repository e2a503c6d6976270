// Package chaos breaks the running app on order, so that people can see what it does then: it delays, fails, panics,
// hangs or loses what passes a named fault point, and kills a named worker.
//
//	Start(order) ─► refused: it would end the process, or stop all work; Force does it all the same
//	     │
//	     ▼             Hit, Step: each passage is struck with the order's probability
//	  active ───────────────────────────────────────────────────────────────► latency, error, drop, panic, stall
//	     │
//	     └─► over: expired (at most an hour), stopped, or the process ends; whoever is held goes on at once
//
// It promises: nothing is struck without an order that says why and has an end; each order's begin and end are logged
// with who gave it and how often it struck; an order touches only the points that it named at its start and that take
// its kind; orders live in memory alone, so that a restart ends them; a point costs a nanosecond while there is no order.
//
// Queue and sockets do not know it. They call a function func(ctx, point) error, if they were given one, where they can
// bear its error, and pkg/base gives them Hit or Step. A point takes only the kinds that break no promise: what must not
// be lost has no drop, and the control socket, which ends all this, has no point at all.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
)

// Kind is what happens to who is struck.
type Kind string

// The kinds.
const (
	Latency Kind = "latency" // it takes Delay longer, and up to Jitter more
	Error   Kind = "error"   // it fails, with ErrInjected in the error's tree
	Drop    Kind = "drop"    // it is done and nobody hears of it: ErrDropped, for the point's owner to act on
	Panic   Kind = "panic"
	Stall   Kind = "stall" // it hangs until the order is over
	Kill    Kind = "kill"  // of workers only: the context ends, once, when the order is given
)

// What an order does to a call, in the tree of the error that the call gets. Both are of fault.KindDependency: somebody
// outside wanted it so, and no error tracker needs to hear of it.
var (
	ErrInjected = errors.New("an injected error")
	ErrDropped  = fault.ErrDropped
)

// Options of a Chaos. The zero value works.
type Options struct {
	Log *slog.Logger // hears of orders (warn) and of each strike (debug); nil: nobody

	// Points returns the points that come and go with what they belong to (sockets, workers), beside the declared ones.
	// It is asked when an order is given, and not while somebody passes a point.
	Points func() []Point

	// Healthy returns why the app is not well. Then no order is taken that isn't forced. Nil: it always is.
	Healthy func() error

	// Observe is told of each strike, to count it. It must not block, nor call this Chaos.
	Observe func(point string, kind Kind)
}

// Chaos is the orders of a process. Its methods may be called from any goroutine.
type Chaos struct {
	o      Options
	active atomic.Pointer[[]*order] // nil while there is none: all that a point looks at then

	mu       sync.Mutex
	closed   bool
	count    int
	orders   []*order // the active ones, oldest first
	past     []Status // the last ones that are over
	declared map[string]Point
	workers  map[string]*run

	closing sync.Once
}

// New returns a Chaos without orders. Close ends them.
func New(o Options) *Chaos {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Points == nil {
		o.Points = func() []Point { return nil }
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	if o.Observe == nil {
		o.Observe = func(string, Kind) {}
	}
	return &Chaos{o: o, declared: map[string]Point{}, workers: map[string]*run{}}
}

// Hit is called where the point called name is passed, before what is done there. It returns nil at once unless an order
// strikes: then it waits, panics, or returns an error with ErrInjected or ErrDropped in its tree. A wait ends with ctx
// (whose cause is in the error's tree), with the order and with Close.
func (c *Chaos) Hit(ctx context.Context, name string) error {
	if c.active.Load() == nil { // and nothing else here, so that it is inlined
		return nil
	}
	return c.pass(ctx, name)
}

// Step is Hit for a worker in its own loop: an order to stall the worker in ctx strikes here, too. Such a stall is a
// hang as real ones are: it doesn't heed ctx.
func (c *Chaos) Step(ctx context.Context, name string) error {
	if c.active.Load() == nil {
		return nil
	}
	return c.step(ctx, name)
}

func (c *Chaos) step(ctx context.Context, name string) error {
	if self := worker.FromContext(ctx).Name(); self != "" {
		if err := c.pass(context.WithoutCancel(ctx), WorkerPoint(self)); err != nil {
			return err
		}
	}
	return c.pass(ctx, name)
}

// WorkerPoint returns the point's name of the worker called name.
func WorkerPoint(name string) string { return "worker:" + name }

// pass lets each order have its chance, oldest first, until one returns an error.
func (c *Chaos) pass(ctx context.Context, name string) error {
	orders := c.active.Load()
	if orders == nil {
		return nil // the last one is just over
	}
	for _, o := range *orders {
		if !o.where[name] {
			continue
		}
		delay, struck := o.draw()
		if !struck {
			continue
		}
		c.o.Observe(name, o.Kind)
		c.o.Log.DebugContext(ctx, "chaos strikes", "point", name, "kind", string(o.Kind), "order", o.id)
		if err := o.strike(ctx, name, delay); err != nil {
			return err
		}
	}
	return nil
}

// strike does to the caller what the order says.
func (o *order) strike(ctx context.Context, name string, delay time.Duration) error {
	switch o.Kind {
	case Error:
		return o.failure(name, ErrInjected)
	case Drop:
		return o.failure(name, ErrDropped)
	case Panic:
		panic(o.failure(name, errPanic))
	case Latency:
		timer := time.NewTimer(delay)
		defer timer.Stop()
		return o.hold(ctx, name, timer.C)
	case Stall:
		return o.hold(ctx, name, nil)
	}
	return nil // Kill is over before anybody passes
}

var errPanic = errors.New("an injected panic")

func (o *order) failure(name string, what error) error {
	return &fault.Error{Kind: fault.KindDependency, Op: "chaos", Subject: name, Err: fmt.Errorf("%w (order %d: %s)", what, o.id, o.Reason)}
}

// hold waits until enough, until the order is over, or until ctx ends.
func (o *order) hold(ctx context.Context, name string, enough <-chan time.Time) error {
	select {
	case <-enough:
	case <-o.over:
	case <-ctx.Done():
		return o.failure(name, context.Cause(ctx))
	}
	return nil
}

// run is one run of a worker that can be killed.
type run struct{ kill context.CancelCauseFunc }

// Worker returns fn as a worker that a Kill can end: its context ends then, and what it returns is the death. A worker
// that doesn't heed its context lives on, as it would at a shutdown.
func (c *Chaos) Worker(name string, fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		self := &run{cancel}
		c.mu.Lock()
		c.workers[name] = self
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.workers[name] == self {
				delete(c.workers, name)
			}
		}()
		err := fn(ctx)
		if dead, ok := errors.AsType[*death](context.Cause(ctx)); ok {
			return dead
		}
		return err
	}
}

// death is the end of a worker that was killed.
type death struct {
	id     int
	reason string
}

func (d *death) Error() string {
	return fmt.Sprintf("chaos: killed (order %d: %s)", d.id, d.reason)
}
