package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

// Where the workers here wait.
var handlersBusy, noEvent = "all handlers are busy", "no event"

// process receives events and hands each to the workers that handle its type.
func (f *flow) process(ctx context.Context) (err error) {
	in, err := f.zmq.Bind(ctx, zmq.Pull, toProcessor)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	self := worker.FromContext(ctx)
	for {
		wire, err := in.Recv(ctx)
		if err != nil {
			return err
		}
		e, err := event.Decode(wire)
		if err != nil {
			return err // it came from our own reader: a bug, not bad input
		}
		r := f.handlers.find(e.Type)
		if r == nil { // it was accepted by a version of the app that had a handler for it
			if err := f.deadLetter(ctx, &e, f.handlers.unknown(e.Type)); err != nil {
				return err
			}
			continue
		}
		self.Park(&handlersBusy)
		select {
		case r.pool.next <- e:
		case <-ctx.Done(): // it is given back to the queue
		}
		self.Unpark()
	}
}

// worker returns one worker of a pool: it handles one event after the other.
func (f *flow) worker(p *pool) func(context.Context) error {
	return func(ctx context.Context) error {
		self := worker.FromContext(ctx)
		for {
			self.Park(&noEvent)
			select {
			case e := <-p.next:
				self.Unpark()
				if err := f.handle(ctx, e, f.handlers.find(e.Type)); err != nil {
					return err
				}
			case <-ctx.Done():
				self.Unpark()
				return context.Cause(ctx)
			}
		}
	}
}

// handle calls the handler and settles the event. Its own error is not the handler's: that one is the event's fate, this one
// the worker's.
func (f *flow) handle(ctx context.Context, e event.Event, r *route) error {
	if int(e.Delivery) > r.tries {
		return f.deadLetter(ctx, &e, errUsedUp)
	}
	if err := f.events.Begin(e.Receipt); err != nil {
		return err
	}
	ctx = carry(ctx, &e)
	ctx, end := telemetry.FromContext(ctx).Handle(ctx, &e)
	err := f.attempt(ctx, e, r)
	outcome, settleErr := f.decide(ctx, &e, r, err)
	end(outcome, errors.Join(err, settleErr))
	return settleErr
}

// carry returns the context in which an event is looked at: its request's id is in each line of the log, and in what the app's
// code asks of others.
func carry(ctx context.Context, e *event.Event) context.Context {
	if e.RequestID != "" {
		ctx = logging.With(ctx, slog.String("request_id", e.RequestID))
	}
	return web.Propagate(ctx, e.RequestID, e.TraceParent, e.Baggage)
}

// errUsedUp is why an event is dead that was begun as often as it may be, and never came back.
var errUsedUp = errors.New("its tries are used up, and the last one never ended: the process did")

// attempt calls the handler once, within its time, and turns a panic into an error.
func (f *flow) attempt(ctx context.Context, e event.Event, r *route) error {
	return within(ctx, r.timeout, "handler", func(ctx context.Context) error {
		instead, after := f.fault(ctx)
		if instead != nil {
			return instead
		}
		if err := r.handle(ctx, e); err != nil {
			return err
		}
		return after
	})
}

// within calls fn with a context that ends after its time, and turns a panic into an error.
func within(ctx context.Context, timeout time.Duration, what string, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the %s's time of %v is over", what, timeout))
	defer cancel()
	err := fault.Recover(what, func() error { return fn(ctx) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// callRelay calls the app's RelayFunc, and reports whether the event goes on to its handler. If not, it is settled.
func (f *flow) callRelay(ctx context.Context, e *event.Event) (passed bool, err error) {
	r := f.handlers.find(e.Type)
	if r == nil { // the relay may give it a type that has a handler
		r = &f.handlers.defaults
	}
	if int(e.Delivery) > r.tries {
		return false, f.deadLetter(ctx, e, errUsedUp)
	}
	if err := f.events.Begin(e.Receipt); err != nil {
		return false, err
	}
	original := *e
	ctx = carry(ctx, e)
	refusal := within(ctx, f.handlers.defaults.timeout, "relay", func(ctx context.Context) error {
		if err := f.relay(ctx, e); err != nil {
			return err
		}
		// What the queue and the door know it by is not the app's to change.
		e.ID, e.Sequence, e.Time, e.Delivery, e.Receipt = original.ID, original.Sequence, original.Time, original.Delivery, original.Receipt
		if strings.HasPrefix(e.Type, ownPrefix) {
			return fault.Permanent(fmt.Errorf("relay: types that begin with %s are the template's", ownPrefix))
		}
		if err := errors.Join(e.Check(), web.CheckObject(e.Body)); err != nil {
			return fault.Permanent(fmt.Errorf("relay: what it made of the event is none: %w", err))
		}
		return nil
	})
	if refusal == nil {
		return true, f.events.Release(original.Receipt) // the handler's attempt is the one that counts
	}
	ctx, end := telemetry.FromContext(ctx).Handle(ctx, &original)
	outcome, err := f.decide(ctx, &original, r, refusal)
	end(outcome, refusal)
	return false, err
}

// decide chooses by err what becomes of an event that was begun. Its own error is the queue's.
func (f *flow) decide(ctx context.Context, e *event.Event, r *route, err error) (telemetry.Outcome, error) {
	switch {
	case err == nil:
		return telemetry.Processed, f.events.Ack(e.Receipt)
	case ctx.Err() != nil: // the shutdown interrupted it: the event is not to blame
		return telemetry.Interrupted, errors.Join(context.Cause(ctx), f.events.Release(e.Receipt))
	}
	if fault.Of(err) == fault.KindPanic {
		f.capture(ctx, err)
	}
	attrs := about(e, err)
	if fault.Of(err) == fault.KindPermanent {
		f.log.ErrorContext(ctx, "event is dead, trying again can't help", attrs...)
		return telemetry.Dead, f.events.Dead(e.Receipt, err)
	}
	if int(e.Delivery) >= r.tries {
		f.log.ErrorContext(ctx, "event is dead, it failed too often", attrs...)
		return telemetry.Dead, f.events.Dead(e.Receipt, err)
	}
	wait := r.pauses.after(e.Delivery)
	state, settleErr := f.events.Retry(e.Receipt, wait, err)
	if settleErr != nil {
		return telemetry.Interrupted, errors.Join(settleErr, err)
	}
	if state == queue.StateDead { // it was purged meanwhile
		f.log.ErrorContext(ctx, "event is dead, it was purged while it was handled", attrs...)
		return telemetry.Dead, nil
	}
	f.log.WarnContext(ctx, "event failed, it comes again", append(attrs, "in", wait.Round(time.Millisecond).String())...)
	return telemetry.Retried, nil
}

// deadLetter makes a dead letter of an event that no handler was called for.
func (f *flow) deadLetter(ctx context.Context, e *event.Event, why error) error {
	ctx = carry(ctx, e)
	ctx, end := telemetry.FromContext(ctx).Handle(ctx, e)
	f.log.ErrorContext(ctx, "event is dead, no handler was called", about(e, why)...)
	err := f.events.Dead(e.Receipt, why)
	end(telemetry.Dead, why)
	return err
}

// about is what the log says of an event that failed.
func about(e *event.Event, err error) []any {
	attrs := []any{"id", e.ID, "type", e.Type, "sequence", e.Sequence, "delivery", e.Delivery, "error", err}
	if trace := fault.Stack(err); len(trace) > 0 {
		attrs = append(attrs, "stack", string(trace))
	}
	return attrs
}
