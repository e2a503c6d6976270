package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/zmq"
)

// BenchmarkPipeline is how fast events that wait go through the workers, with a handler that does nothing and the log at
// warn, and how that compares with taking them from the queue and settling them in one loop.
func BenchmarkPipeline(b *testing.B) {
	const events = 5000
	workers := runtime.GOMAXPROCS(0)
	log := slog.New(slog.DiscardHandler)
	q, err := queue.Open(b.Context(), queue.Options{Dir: b.TempDir(), InFlight: perWorker * workers})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = q.Close(context.Background()) }()
	fill := func() {
		for range events / 1000 {
			batch := make([]event.Event, 1000)
			for i := range batch {
				batch[i] = event.Event{Body: []byte(`{"greeting":"hello, this is an event of 64 bytes in all, or so"}`)}
			}
			if _, err := q.Publish(b.Context(), batch...); err != nil {
				b.Fatal(err)
			}
		}
	}
	empty := func() {
		for {
			if s, err := q.Stats(b.Context()); err == nil && s.InFlight == 0 {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	var direct, piped time.Duration
	for b.Loop() {
		fill()
		began := time.Now()
		for range events {
			e, err := q.Next(b.Context())
			if err := errors.Join(err, q.Begin(e.Receipt), q.Ack(e.Receipt)); err != nil {
				b.Fatal(err)
			}
		}
		empty()
		direct += time.Since(began)

		fill()
		began = time.Now()
		stop := through(b.Context(), b, newFlow(q, log, nil), workers, events)
		empty()
		piped += time.Since(began)
		stop()
	}
	b.ReportMetric(float64(b.N*events)/piped.Seconds(), "events/s")
	b.ReportMetric(direct.Seconds()/piped.Seconds(), "of-the-queue's-own-rate")
}

// newFlow returns the flow of an app whose handler of each type is h, and the pool of its workers.
func newFlow(q events, log *slog.Logger, h Handler) *flow {
	t := &table{types: map[string]*route{}, defaults: route{timeout: time.Minute, parallel: runtime.GOMAXPROCS(0), tries: 5, pauses: defaultPauses}}
	if h != nil {
		if err := t.addOther(h); err != nil {
			panic(err)
		}
	}
	return &flow{zmq: zmq.NewContext(zmq.Options{Log: log}), events: q, log: log, handlers: t,
		capture: func(context.Context, error) {}, fault: func(context.Context) (instead, after error) { return nil, nil }}
}

// through runs the workers of f with a handler that does nothing, and returns when they have handled n events.
func through(ctx context.Context, b *testing.B, f *flow, workers, n int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	handled := make(chan struct{}, n)
	if err := f.handlers.addOther(func(context.Context, event.Event) error { handled <- struct{}{}; return nil }); err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	for _, p := range f.handlers.pools() {
		for range workers {
			all.Go(func() { _ = f.worker(p)(ctx) })
		}
	}
	for _, run := range []func(context.Context) error{f.process, f.pass, f.read} {
		all.Go(func() { _ = run(ctx) })
	}
	for range n {
		<-handled
	}
	return func() {
		cancel()
		all.Wait()
		if err := f.zmq.Term(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDispatch is how long it takes to find the handler of an event among twenty types.
func BenchmarkDispatch(b *testing.B) {
	t := &table{types: map[string]*route{}}
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("order.number%d", i))
		if err := t.add(names[i], func(context.Context, event.Event) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if t.find(names[i%len(names)]) == nil {
			b.Fatal("no handler")
		}
	}
}
