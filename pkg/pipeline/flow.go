package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/zmq"
)

// The sockets between the workers. The receiver binds, the sender connects; the order in which they start doesn't matter.
const (
	toRelay     = "inproc://app-relay"
	toProcessor = "inproc://app-worker"
)

// events is what the workers need of the queue.
type events interface {
	Next(context.Context) (event.Event, error)
	Begin(receipt []byte) error
	Release(receipt []byte) error
	Ack(receipt []byte) error
	Retry(receipt []byte, pause time.Duration, reason error) (queue.State, error)
	Dead(receipt []byte, reason error) error
}

// flow is what the workers of a running pipeline share. Their methods run until ctx ends.
type flow struct {
	zmq      *zmq.Context
	events   events
	log      *slog.Logger
	handlers *table
	relay    RelayFunc                            // nil: events pass unseen
	capture  func(ctx context.Context, err error) // reports panics: they are mistakes, even if the event is handled in the end
	// fault returns an error that somebody wants instead of a call of the handler, or after it.
	fault func(ctx context.Context) (instead, after error)
}

// read takes events from the queue and sends them on their way.
func (f *flow) read(ctx context.Context) (err error) {
	out, err := f.zmq.Connect(ctx, zmq.Push, toRelay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	trace := telemetry.FromContext(ctx)
	var wire []byte
	for {
		e, err := f.events.Next(ctx)
		if err != nil {
			return err
		}
		f.log.DebugContext(ctx, "event read", "id", e.ID, "type", e.Type, "sequence", e.Sequence, "delivery", e.Delivery)
		_, end := trace.Send(ctx, &e, toRelay)
		wire = e.Append(wire[:0])
		err = out.Send(ctx, wire)
		if end(err); err != nil {
			return err
		}
	}
}

// pass takes events from the reader to the processor, and shows them to the app's RelayFunc.
func (f *flow) pass(ctx context.Context) (err error) {
	in, err := f.zmq.Bind(ctx, zmq.Pull, toRelay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := f.zmq.Connect(ctx, zmq.Push, toProcessor)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	trace := telemetry.FromContext(ctx)
	for {
		wire, err := in.Recv(ctx)
		if err != nil {
			return err
		}
		e, err := event.Decode(wire)
		if err != nil {
			return err // it came from our own reader: a bug, not bad input
		}
		f.log.DebugContext(ctx, "event relayed", "id", e.ID, "type", e.Type, "sequence", e.Sequence)
		if f.relay != nil && !strings.HasPrefix(e.Type, ownPrefix) {
			passed, err := f.callRelay(ctx, &e)
			if err != nil {
				return err
			}
			if !passed {
				continue
			}
		}
		changed, end := trace.Send(ctx, &e, toProcessor)
		if changed || f.relay != nil {
			wire = e.Append(nil)
		}
		err = out.Send(ctx, wire)
		if end(err); err != nil {
			return err
		}
	}
}
