package main

import (
	"context"
	"log/slog"
	"time"

	"example.com/base-app/pkg/event"
)

// handleFunc does something with one event; what it is promised stands at handle.
type handleFunc = func(context.Context, event.Event) error

// handler has what handle needs: clients, databases, the log.
type handler struct {
	log *slog.Logger
}

// handle does what the app is for, with one event. This is where a fork begins.
//
// The body is one valid JSON object. Return nil when it is done. Return an error and the event comes again after a
// pause, until QUEUE_MAX_DELIVERIES; then it is a dead letter. A panic counts as an error. Return fault.Permanent(err)
// if trying again can't help, and it is a dead letter at once. When ctx ends (HANDLER_TIMEOUT, or the shutdown)
// return soon. WORKERS of these run at the same time. An event can come twice, after a crash for example, so let doing
// it twice be harmless.
func (h handler) handle(ctx context.Context, e event.Event) error {
	h.log.InfoContext(ctx, "event handled", "id", e.ID, "sequence", e.Sequence, "bytes", len(e.Body), "age", time.Since(e.Time).Round(time.Microsecond).String())
	return nil
}
