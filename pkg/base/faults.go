package base

import (
	"context"
	"time"

	"example.com/base-app/pkg/nanny"
)

// What can be ordered at a fault point; see pkg/chaos.
const (
	FaultLatency = "latency" // it takes longer
	FaultError   = "error"   // it fails
	FaultDrop    = "drop"    // it is done, and its end is lost: fault.ErrDropped is in the error
	FaultPanic   = "panic"
	FaultStall   = "stall" // it hangs
)

// FaultPoint is a place where faults can be ordered (app ctl chaos), and what harm they do there. An order that does harm
// is refused unless it is forced.
type FaultPoint struct {
	Name     string
	Kinds    []string      // those that it takes
	Vital    bool          // all work passes here
	Fatal    bool          // an error or a panic here ends the process
	Patience time.Duration // who is held here for so long ends the process, or fails at least; 0: for ever
}

// faultHooks are what fault points call: nothing, unless the part chaos is there.
type faultHooks struct {
	hit, step func(ctx context.Context, point string) error
	worker    func(name string, fn nanny.Func) nanny.Func
	declare   func(FaultPoint) error
}

// noFaults does nothing at every point.
func noFaults() faultHooks {
	none := func(context.Context, string) error { return nil }
	return faultHooks{hit: none, step: none,
		worker:  func(_ string, fn nanny.Func) nanny.Func { return fn },
		declare: func(FaultPoint) error { return nil }}
}

// FaultPoint declares p, once, at the start; Step and Hit pass it. The error is a mistake in the program: a bad name, no kind.
func (rt *Runtime) FaultPoint(p FaultPoint) error { return rt.faults.declare(p) }

// Step is called where a worker passes the fault point in its own loop, before what is done there. It returns nil at once
// unless somebody ordered a fault: then it waits, panics, or returns an error. With fault.ErrDropped in that the caller does
// its work all the same, and returns the error in place of the result. It costs a few nanoseconds.
func (rt *Runtime) Step(ctx context.Context, point string) error { return rt.faults.step(ctx, point) }

// Hit is Step for what is no worker's own loop: a request, a call. A wait ends with ctx.
func (rt *Runtime) Hit(ctx context.Context, point string) error { return rt.faults.hit(ctx, point) }

// callFaults are what a call can take that must lose nothing: to who publishes an event a drop would be a lie, and what
// is lost between the queue and the handler stays in flight until the process ends.
func callFaults() []string { return []string{FaultLatency, FaultError, FaultPanic, FaultStall} }
