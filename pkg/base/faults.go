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
	Patience time.Duration // a worker that is held here for so long ends the process, a call fails; 0: neither
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

// callFaults are what a call can take that must lose nothing: a dropped publish would report a loss although the event is
// stored, and what is lost between the queue and the handler stays in flight until the process ends.
func callFaults() []string { return []string{FaultLatency, FaultError, FaultPanic, FaultStall} }
