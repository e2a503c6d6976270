// Package worker keeps in a context what a running worker is called, how often it made progress, and where it waits when
// it has nothing to do.
//
// The nanny puts a Worker into the context of each goroutine that it tracks. The packages that a worker calls read it
// from there: the logger reads the name; a socket parks the worker while it waits for work, and beats for it when work
// arrives. The nanny compares the counts. Nothing here reads a clock, locks or allocates, so that it is cheap enough for
// the hottest path.
//
// A Worker belongs to one goroutine at a time. A nil *Worker is valid and does nothing, so callers never ask
// whether they run under a nanny.
package worker

import (
	"context"
	"sync/atomic"
)

// Worker is the progress of one tracked goroutine.
type Worker struct {
	name   string
	beats  atomic.Uint64
	parked atomic.Pointer[string]
}

// New returns a Worker called name, busy and without a beat.
func New(name string) *Worker { return &Worker{name: name} }

// Name returns the worker's name, empty for nil.
func (w *Worker) Name() string {
	if w == nil {
		return ""
	}
	return w.name
}

// Beat counts that the worker made progress.
func (w *Worker) Beat() {
	if w != nil {
		w.beats.Add(1)
	}
}

// Beats returns how often the worker made progress.
func (w *Worker) Beats() uint64 {
	if w == nil {
		return 0
	}
	return w.beats.Load()
}

// Park marks the worker as waiting for something that may take any time: its next message, room in a full queue, a timer.
// A parked worker is never stuck. The place ("recv inproc://app-relay") is shown to people; it is a pointer, so that a
// caller on a hot path can keep one and not allocate. Each Park is followed by an Unpark in the same goroutine.
func (w *Worker) Park(place *string) {
	if w != nil {
		w.parked.Store(place)
	}
}

// Unpark marks the worker as busy again. It counts as progress.
func (w *Worker) Unpark() {
	if w != nil {
		w.parked.Store(nil)
		w.beats.Add(1)
	}
}

// Parked returns where the worker waits, and whether it waits.
func (w *Worker) Parked() (place string, parked bool) {
	if w == nil {
		return "", false
	}
	p := w.parked.Load()
	if p == nil {
		return "", false
	}
	return *p, true
}

type key struct{}

// NewContext returns a context that carries w.
func NewContext(ctx context.Context, w *Worker) context.Context {
	return context.WithValue(ctx, key{}, w)
}

// FromContext returns the Worker that ctx carries, nil if none.
func FromContext(ctx context.Context) *Worker {
	w, _ := ctx.Value(key{}).(*Worker)
	return w
}
