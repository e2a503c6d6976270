// Package chaos breaks the running app on order, so that people can see how it reacts. A call that passes a named fault
// point is delayed, fails, panics, hangs, or is lost; a named worker is killed.
//
//	Start(order) ─► refused: it would end the process, or stop all work; Force does it all the same
//	     │
//	     ▼             Hit, Step: each passage is struck with the order's probability
//	  active ───────────────────────────────────────────────────────────────► latency, error, drop, panic, stall
//	     │
//	     └─► over: expired (at most an hour), stopped, or the process ends; calls that are held go on at once
//
// It promises:
//   - Nothing is struck without an order, and an order has a reason and an end.
//   - Begin and end of each order are logged, with who gave it and how often it struck.
//   - An order strikes only the points of its scope that exist when it starts and accept its kind.
//   - Orders live in memory only: a restart ends them.
//   - A point costs a nanosecond while there is no order.
//
// It knows no queue and no socket. They have an option for a function func(ctx, point) error, which they call where they
// can return its error; pkg/base gives them Hit or Step. A point accepts only the kinds that break no promise: the queue,
// which must lose nothing, has no drop, and the control socket, which stops orders, has no point at all.
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

// Kind is what happens to a call that is struck.
type Kind string

// The kinds.
const (
	Latency Kind = "latency" // it takes Delay longer, and up to Jitter more
	Error   Kind = "error"   // it fails, with ErrInjected in the error's tree
	Drop    Kind = "drop"    // its result is lost: the point's owner gets ErrDropped and drops the result
	Panic   Kind = "panic"
	Stall   Kind = "stall" // it hangs until the order is over
	Kill    Kind = "kill"  // of workers only: the context ends, once, when the order is given
)

// The error of a call that was struck wraps one of these. It is of fault.KindDependency: the cause lies outside, and
// must not reach the error tracker.
var (
	ErrInjected = errors.New("an injected error")
	ErrDropped  = fault.ErrDropped
)

// Options of a Chaos. The zero value works.
type Options struct {
	Log *slog.Logger // for orders (warn) and each strike (debug); nil: silent

	// Points returns the points that come and go with their owners (sockets, workers), besides the declared ones. It is
	// called when an order is given, and not when a call passes a point.
	Points func() []Point

	// Healthy returns an error if the app is not healthy. Then an order must be forced. Nil: the app is always healthy.
	Healthy func() error

	// Observe is called for each strike, to count it. It must not block, nor call this Chaos.
	Observe func(point string, kind Kind)
}

// Chaos holds the orders of a process. Its methods may be called from any goroutine.
type Chaos struct {
	o      Options
	active atomic.Pointer[[]*order] // nil while there is none; then a point reads nothing else

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

// Hit is called at the point called name, before the work there. It returns nil at once unless an order strikes. Then it
// waits, panics, or returns an error that wraps ErrInjected or ErrDropped. A wait ends with the order, with Close, and
// with ctx, whose cause the error then wraps.
func (c *Chaos) Hit(ctx context.Context, name string) error {
	if c.active.Load() == nil { // nothing else stands here, so that the compiler inlines Hit
		return nil
	}
	return c.pass(ctx, name)
}

// Step is Hit for a worker's own loop: an order that stalls the worker of ctx strikes here, too. Like a real hang, such
// a stall ignores ctx.
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

// WorkerPoint returns the name of the point of the worker called name.
func WorkerPoint(name string) string { return "worker:" + name }

// pass lets each order strike, oldest first, until one returns an error.
func (c *Chaos) pass(ctx context.Context, name string) error {
	orders := c.active.Load()
	if orders == nil {
		return nil // the last order has just ended
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

// strike applies the order's kind to the caller.
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
	return nil // a Kill is over before a call can pass
}

var errPanic = errors.New("an injected panic")

func (o *order) failure(name string, what error) error {
	return &fault.Error{Kind: fault.KindDependency, Op: "chaos", Subject: name,
		Err: fmt.Errorf("%w (order %d: %s)", what, o.id, o.Reason)}
}

// hold waits until enough receives, the order is over, or ctx ends.
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

// Worker returns fn as a worker that a Kill can end. A Kill ends its context, and the worker then returns an error that
// says so. A worker that ignores its context lives on, as it would at a shutdown.
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

// death is the error of a worker that was killed.
type death struct {
	id     int
	reason string
}

func (d *death) Error() string {
	return fmt.Sprintf("chaos: killed (order %d: %s)", d.id, d.reason)
}
