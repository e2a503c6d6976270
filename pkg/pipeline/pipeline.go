// Package pipeline carries each event from the door to the handler of its type, through workers that talk to each other
// only over ZeroMQ sockets, one owner each:
//
//	POST /events ─► queue ─► reader ─► relay ─► processor ─► handlers ─► the event is processed
//	                  ▲       push   pull push   pull            │
//	                  └── again after a pause, or a dead letter ─┘
//
// An app registers handlers, and Run does the rest: it opens the queue, serves POST /events and GET /events/{id} beside the
// app's own routes, starts the workers, and waits for the end. Each event that was accepted is handled at least once. What
// a handler returns decides what becomes of the event; see Handler.
//
// The package keeps nothing on disk (package queue does) and knows nothing of what the events mean.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

// perWorker is how many events are on their way for each handler that can run: enough to keep it busy, and few enough to
// leave something for the other replicas.
const perWorker = 16

// Pipeline is the way of an app's events. Register everything, then call Run, once.
type Pipeline struct {
	rt *base.Runtime

	mu         sync.Mutex
	running    bool
	mistakes   []error
	handlers   table
	middleware []func(Handler) Handler
	relay      RelayFunc

	opened chan struct{} // closed when events is there
	events measured
}

// New returns the pipeline of rt, without a handler. It starts nothing.
func New(rt *base.Runtime) *Pipeline {
	p := &Pipeline{rt: rt, opened: make(chan struct{}), handlers: table{types: map[string]*route{}}}
	s := rt.Settings
	p.handlers.defaults = route{timeout: s.Handler.Timeout, parallel: s.Workers, tries: s.Queue.MaxDeliveries, pauses: defaultPauses}
	p.handlers.add(sampleType, logSample(rt.Log))
	return p
}

// Handle has h called for each event of a type. The type is the one that the client named; an event without one has the
// type "". A second handler of a type, a nil one, and an option out of its range are mistakes, which Run returns. After Run
// has begun any call is a mistake that ends the process, with 78.
func (p *Pipeline) Handle(eventType string, h Handler, opts ...Option) {
	p.register(func() error {
		if strings.HasPrefix(eventType, ownPrefix) {
			return fmt.Errorf("the type %q: names that begin with %s are the template's", eventType, ownPrefix)
		}
		if err := event.CheckType(eventType); err != nil {
			return err
		}
		return p.handlers.add(eventType, h, opts...)
	})
}

// HandleAll has h called for each event whose type has no handler of its own. Without it such events are refused at the
// door, with 422. Mistakes are those of Handle.
func (p *Pipeline) HandleAll(h Handler, opts ...Option) {
	p.register(func() error { return p.handlers.addOther(h, opts...) })
}

// Use wraps all handlers with a middleware, as net/http's are: it gets the next handler and returns the one to call
// instead. The first that is given is the outermost. One that is nil or returns nil is a mistake, as with Handle.
func (p *Pipeline) Use(middleware ...func(Handler) Handler) {
	p.register(func() error {
		for _, m := range middleware {
			if m == nil {
				return errors.New("a middleware is nil")
			}
		}
		p.middleware = append(p.middleware, middleware...)
		return nil
	})
}

// Relay has f look at each event before it goes to its handler; see RelayFunc. A second one, or nil, is a mistake, as with
// Handle.
func (p *Pipeline) Relay(f RelayFunc) {
	p.register(func() error {
		if f == nil || p.relay != nil {
			return errors.New("want one function for the relay, not nil and not a second one")
		}
		p.relay = f
		return nil
	})
}

func (p *Pipeline) register(do func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		p.rt.Stop(mistake(errors.New("pipeline: register everything before Run")))
		return
	}
	if err := do(); err != nil {
		p.mistakes = append(p.mistakes, fmt.Errorf("pipeline: %w", err))
	}
}

func mistake(err error) error { return fault.Config("this is a mistake in the app's code", err) }

// Publish puts events into the queue, as POST /events does; see queue.Queue.Publish. It is for the app's own workers. It
// waits until Run has opened the queue, or for the end of ctx; outside of a worker it is an error before Run. An event of a
// type that nobody handles, and a body that is not one JSON object of at most 1 MiB, are errors of fault.KindPermanent, and
// then none of the events is accepted.
func (p *Pipeline) Publish(ctx context.Context, events ...event.Event) ([]queue.Accepted, error) {
	if err := p.awaitQueue(ctx); err != nil {
		return nil, err
	}
	for i := range events {
		if err := p.check(&events[i]); err != nil {
			return nil, fmt.Errorf("publish: event %d: %w", i+1, err)
		}
	}
	return p.events.Publish(ctx, events...)
}

var queueOpens = "the queue is being opened"

func (p *Pipeline) awaitQueue(ctx context.Context) error {
	self := worker.FromContext(ctx)
	p.mu.Lock()
	early := !p.running && self == nil
	p.mu.Unlock()
	if early {
		return errors.New("pipeline: Publish before Run: the queue is not open, and Run opens it; publish from a worker")
	}
	self.Park(&queueOpens)
	defer self.Unpark()
	select {
	case <-p.opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// check returns what the door would refuse of an event. Trying again can't help.
func (p *Pipeline) check(e *event.Event) error {
	switch {
	case !p.handlers.accepts(e.Type):
		return p.handlers.unknown(e.Type)
	case len(e.Body) > maxEvent:
		return fault.Permanent(fmt.Errorf("it is larger than %d bytes", maxEvent))
	}
	return fault.Permanent(web.CheckObject(e.Body))
}

// Run opens the queue, binds WEB_ADDR, starts the workers, and blocks until the process shall end and they have ended.
// Routes adds what the app serves beside the pipeline's own routes; nil: nothing. It returns the first cause: with kind config
// whatever was registered wrongly, and then nothing is started.
func (p *Pipeline) Run(routes func(*http.ServeMux)) error {
	if err := p.finish(); err != nil {
		return mistake(err)
	}
	pools := p.handlers.pools()
	q, err := p.rt.OpenQueue(inFlight(pools), p.handlers.mostTries())
	if err != nil {
		return err
	}
	if err := p.declareFaults(); err != nil {
		return err
	}
	events := measured{q, p.rt.Telemetry}
	p.events = events
	close(p.opened)
	// Before the workers: an address that is taken is known before they start.
	p.rt.Serve(func(mux *http.ServeMux) {
		door{events, &p.handlers, p.rt.Log}.register(mux)
		if routes == nil {
			return
		}
		if err := fault.Recover("routes", func() error { routes(mux); return nil }); err != nil { // one that is there already
			p.rt.Stop(mistake(err))
		}
	})
	f := &flow{zmq: p.rt.ZMQ, events: events, log: p.rt.Log, handlers: &p.handlers, relay: p.relay, capture: p.rt.Capture, fault: p.fault}
	// None of them asks to be restarted: what was on its way would wait in flight for as long as the process lives.
	for _, pool := range pools {
		for i := range pool.size {
			// A handler whose time is over and that doesn't come back is stuck a second later.
			p.rt.Go(fmt.Sprintf("%s-%d", pool.name, i+1), f.worker(pool), nanny.Deadline(pool.timeout+time.Second))
		}
	}
	p.rt.Go("processor", f.process)
	var relay []nanny.Option
	if f.relay != nil { // it has as much time as a handler
		relay = append(relay, nanny.Deadline(p.handlers.defaults.timeout+time.Second))
	}
	p.rt.Go("relay", f.pass, relay...)
	p.rt.Go("reader", f.read)
	p.start()
	return p.rt.Wait()
}

// finish closes the registration: it wraps the handlers and returns all mistakes.
func (p *Pipeline) finish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return errors.New("pipeline: Run was called twice")
	}
	p.running = true
	if err := errors.Join(p.handlers.wrap(p.middleware), p.handlers.checkPools()); err != nil {
		p.mistakes = append(p.mistakes, fmt.Errorf("pipeline: %w", err))
	}
	if len(p.mistakes) == 0 && p.handlers.empty() {
		p.mistakes = append(p.mistakes, errors.New("pipeline: there is no handler: call Handle or HandleAll before Run"))
	}
	return errors.Join(p.mistakes...)
}
