// Package worker is what a running worker knows about itself, carried in its context: its name, a count of
// its progress, and the place where it waits when it has nothing to do.
//
// The nanny installs a Worker in the context of each goroutine that it tracks. Whatever a worker calls on its
// way (sockets, queue, logs) reads it from there: the logger for the name, a socket to park the worker while it
// waits for work and to beat for it when work arrives. The nanny compares the counts; nothing here reads a
// clock, locks or allocates, so that it can stand on the hottest path.
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

// Beat tells that the worker made progress.
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

// Park tells that the worker begins to wait for something that may rightly take for ever: its next message, room
// in a full queue, a timer. A parked worker is never stuck. The place ("recv inproc://app-relay") is shown to
// people; it is a pointer so that a caller on a hot path can keep one and not allocate. Each Park is followed by
// an Unpark in the same goroutine.
func (w *Worker) Park(place *string) {
	if w != nil {
		w.parked.Store(place)
	}
}

// Unpark tells that the wait is over. It counts as progress.
func (w *Worker) Unpark() {
	if w != nil {
		w.parked.Store(nil)
		w.beats.Add(1)
	}
}

// Parked returns where the worker waits, and whether it does.
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
