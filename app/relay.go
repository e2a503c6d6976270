package main

import (
	"context"
	"errors"
	"log/slog"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/zmq"
)

// relay passes events from the reader to the processor. It is the place to look at an event before it is handled: to
// enrich it, to route it elsewhere, to slow the stream down.
type relay struct {
	zmq *zmq.Context
	log *slog.Logger
}

func (r relay) run(ctx context.Context) (err error) {
	in, err := r.zmq.Bind(ctx, zmq.Pull, toRelay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := r.zmq.Connect(ctx, zmq.Push, toProcessor)
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
		r.log.DebugContext(ctx, "event relayed", "id", e.ID, "sequence", e.Sequence)
		changed, sent := trace.Send(ctx, &e, toProcessor)
		if changed {
			wire = e.Append(nil)
		}
		err = out.Send(ctx, wire)
		if sent(err); err != nil {
			return err
		}
	}
}
