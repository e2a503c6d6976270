package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

const (
	// firstPause before an event is tried again: a dependency that hiccups is back by then. It doubles each time.
	firstPause = time.Second
	// longestPause keeps an event from being forgotten for hours.
	longestPause = time.Minute
)

// settler is told of the deliveries that are handled: the queue.
type settler interface {
	Begin(receipt []byte) error
	Release(receipt []byte) error
	Ack(receipt []byte) error
	Retry(receipt []byte, pause time.Duration, reason error) (queue.State, error)
	Dead(receipt []byte, reason error) error
}

// processor calls the handler for each event and tells the queue how it went. It is one worker that receives, and
// WORKERS others that handle, with a channel without a buffer between: an event waits in the socket, where it is seen.
type processor struct {
	zmq     *zmq.Context
	events  settler
	log     *slog.Logger
	timeout time.Duration
	handle  handleFunc
	fault   func(ctx context.Context, point string) error // asked before each event for a fault that somebody wants
	report  func(ctx context.Context, err error)          // told of panics: they are mistakes, even if the event is handled in the end
	next    chan []byte
}

// run receives events and hands each to the first handler that is free.
func (p processor) run(ctx context.Context) (err error) {
	in, err := p.zmq.Bind(ctx, zmq.Pull, toProcessor)
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
		self.Park(&handlersBusy)
		select {
		case p.next <- wire:
		case <-ctx.Done(): // it is given back to the queue
		}
		self.Unpark()
	}
}

// Where the workers here wait.
var handlersBusy, noEvent = "all handlers are busy", "no event"

// work handles one event after the other.
func (p processor) work(ctx context.Context) error {
	self := worker.FromContext(ctx)
	for {
		self.Park(&noEvent)
		select {
		case wire := <-p.next:
			self.Unpark()
			e, err := event.Decode(wire)
			if err != nil {
				return err // it came from our own reader: a bug, not bad input
			}
			if err := p.process(ctx, e); err != nil {
				return err
			}
		case <-ctx.Done():
			self.Unpark()
			return context.Cause(ctx)
		}
	}
}

// process handles one event. Its own error is not the handler's: that one is the event's fate, this one the worker's.
func (p processor) process(ctx context.Context, e event.Event) error {
	if e.RequestID != "" {
		ctx = logging.With(ctx, slog.String("request_id", e.RequestID))
	}
	ctx = web.Propagate(ctx, e.RequestID, e.TraceParent, e.Baggage) // to those whom the handler calls
	if err := p.events.Begin(e.Receipt); err != nil {
		return err
	}
	ctx, end := telemetry.FromContext(ctx).Handle(ctx, &e)
	err := p.attempt(ctx, e)
	switch {
	case err == nil:
		err = p.events.Ack(e.Receipt)
		end(telemetry.Processed, err)
		return err
	case ctx.Err() != nil: // the shutdown interrupted it: the event is not to blame
		released := p.events.Release(e.Receipt)
		end(telemetry.Interrupted, err)
		return errors.Join(context.Cause(ctx), released)
	}
	if fault.Of(err) == fault.KindPanic {
		p.report(ctx, err)
	}
	attrs := []any{"id", e.ID, "sequence", e.Sequence, "delivery", e.Delivery, "error", err}
	if trace := fault.Stack(err); len(trace) > 0 {
		attrs = append(attrs, "stack", string(trace))
	}
	if fault.Of(err) == fault.KindPermanent {
		end(telemetry.Dead, err)
		p.log.ErrorContext(ctx, "event is dead, trying again can't help", attrs...)
		return p.events.Dead(e.Receipt, err)
	}
	wait := pause(e.Delivery)
	state, settleErr := p.events.Retry(e.Receipt, wait, err)
	if settleErr != nil {
		end(telemetry.Interrupted, err)
		return errors.Join(settleErr, err)
	}
	if state == queue.StateDead {
		end(telemetry.Dead, err)
		p.log.ErrorContext(ctx, "event is dead, it failed too often", attrs...)
		return nil
	}
	end(telemetry.Retried, err)
	p.log.WarnContext(ctx, "event failed, it comes again", append(attrs, "in", wait.Round(time.Millisecond).String())...)
	return nil
}

// attempt calls the handler once, within its time, and turns a panic into an error.
func (p processor) attempt(ctx context.Context, e event.Event) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("HANDLER_TIMEOUT of %v is over", p.timeout))
	defer cancel()
	err := fault.Recover("handle", func() error { return p.tryOut(ctx, e) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// handlerPoint is where faults can be injected into the handling of an event.
const handlerPoint = "handler"

// tryOut calls the handler, unless somebody wants a fault instead. A drop is an end that nobody hears of: the event was
// handled, and comes again, as after a crash in that moment.
func (p processor) tryOut(ctx context.Context, e event.Event) error {
	wanted := p.fault(ctx, handlerPoint)
	if wanted != nil && !errors.Is(wanted, chaos.ErrDropped) {
		return wanted
	}
	if err := p.handle(ctx, e); err != nil {
		return err
	}
	return wanted
}

// pause is how long a failed event waits, with full jitter, so that events that failed together don't come back
// together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
func pause(delivery uint32) time.Duration {
	longest := longestPause
	if n := max(delivery, 1) - 1; n < 6 {
		longest = min(longest, firstPause<<n)
	}
	return rand.N(longest) + time.Millisecond
}
