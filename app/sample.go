package main

import (
	"context"
	"log/slog"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
)

const (
	// samplePatience is how long the start waits for its sample: a busy machine needs milliseconds.
	samplePatience = 2 * time.Second
	// sampleLook is how often it looks.
	sampleLook = time.Millisecond
)

// sample posts one event at start and says that the start is complete when it went through, so that the first run
// shows an event on its whole way, while the log is still at debug.
type sample struct {
	events intake
	log    *slog.Logger
	done   func()
}

func (s sample) run(ctx context.Context) error {
	defer s.done()
	id := event.NewID()
	if _, err := s.events.Publish(ctx, event.Event{ID: id, Body: []byte(`{"message":"hello, this is the sample event; APP_SAMPLE_EVENT=false switches it off"}`)}); err != nil {
		s.log.WarnContext(ctx, "the sample event was not accepted", "error", err) // the app is none the worse
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, samplePatience)
	defer cancel()
	look := time.NewTicker(sampleLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			nanny.Beat(ctx) // looking is all that it does
		}
		if status, err := s.events.Status(ctx, id); err != nil || status.State != queue.StateAccepted {
			return nil
		}
	}
}
