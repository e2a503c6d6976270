package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/event"
)

// handler has what the app's code needs: clients, databases, the log.
type handler struct {
	log      *slog.Logger
	greeting string
	handled  atomic.Uint64
}

// newHandler opens what the app needs: a database, clients of other services. An error ends the start.
func newHandler(rt *base.Runtime, cfg *config) (*handler, error) {
	return &handler{log: rt.Log, greeting: cfg.Greeting}, nil
}

// any does what the app is for, with one event. Return nil when it is done. Return an error and the event comes again after
// a pause, until it has been tried too often and is a dead letter; fault.Permanent(err) makes it one at once. Return soon
// when ctx ends. An event can come twice, so let doing it twice be harmless. See pipeline.Handler.
func (h *handler) any(ctx context.Context, e event.Event) error {
	h.handled.Add(1)
	h.log.InfoContext(ctx, "event handled", "id", e.ID, "type", e.Type, "sequence", e.Sequence, "bytes", len(e.Body),
		"age", time.Since(e.Time).Round(time.Microsecond).String())
	return nil
}
