package pipeline

import (
	"context"
	"log/slog"
	"os"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"golang.org/x/term"
)

const (
	// sampleType is the type of the sample event. Its handler is the template's: no app's handler sees it.
	sampleType = ownPrefix + "sample"
	sampleBody = `{"message":"hello, this is the sample event of a start in a terminal"}`
	// samplePatience is how long the start waits for its sample: a busy machine needs milliseconds.
	samplePatience = 2 * time.Second
	// sampleLook is how often it looks.
	sampleLook = time.Millisecond
)

func logSample(log *slog.Logger) Handler {
	return func(ctx context.Context, e event.Event) error {
		age := time.Since(e.Time).Round(time.Microsecond)
		log.InfoContext(ctx, "sample event handled", "id", e.ID, "sequence", e.Sequence, "age", age.String())
		return nil
	}
}

// start says that the start is complete. Before a person at a terminal it does so when a sample event went through, so that
// the first run shows an event on its whole way while the log is still at debug. In a container there is none.
func (p *Pipeline) start() {
	if p.rt.Context().Err() != nil {
		return // it failed
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		p.rt.Go("sample", p.sample, nanny.OneShot())
		return
	}
	p.rt.Started()
}

// sample posts one event and waits until it is handled.
func (p *Pipeline) sample(ctx context.Context) error {
	defer p.rt.Started()
	id := event.NewID()
	if _, err := p.events.Publish(ctx, event.Event{ID: id, Type: sampleType, Body: []byte(sampleBody)}); err != nil {
		p.rt.Log.WarnContext(ctx, "the sample event was not accepted", "error", err) // the app is none the worse
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
		if status, err := p.events.Status(ctx, id); err != nil || status.State != queue.StateAccepted {
			return nil
		}
	}
}
