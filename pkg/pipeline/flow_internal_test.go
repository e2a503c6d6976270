package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryQueue is a queue in memory that records what becomes of its events.
type memoryQueue struct {
	next chan event.Event

	mu    sync.Mutex
	fates []string
}

func newMemoryQueue(events ...event.Event) *memoryQueue {
	q := &memoryQueue{next: make(chan event.Event, len(events))}
	for i, e := range events {
		e.Receipt = []byte(e.ID)
		e.Sequence, e.Delivery = uint64(i+1), max(e.Delivery, 1)
		if e.Body == nil {
			e.Body = []byte("{}")
		}
		q.next <- e
	}
	return q
}

func (q *memoryQueue) Next(ctx context.Context) (event.Event, error) {
	select {
	case e := <-q.next:
		return e, nil
	case <-ctx.Done():
		return event.Event{}, context.Cause(ctx)
	}
}

func (q *memoryQueue) record(format string, args ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fates = append(q.fates, fmt.Sprintf(format, args...))
}

func (q *memoryQueue) Begin(receipt []byte) error   { q.record("begin %s", receipt); return nil }
func (q *memoryQueue) Release(receipt []byte) error { q.record("release %s", receipt); return nil }
func (q *memoryQueue) Ack(receipt []byte) error     { q.record("ack %s", receipt); return nil }
func (q *memoryQueue) Retry(receipt []byte, _ time.Duration, reason error) (queue.State, error) {
	q.record("retry %s: %v", receipt, reason)
	return queue.StateAccepted, nil
}
func (q *memoryQueue) Dead(receipt []byte, reason error) error {
	q.record("dead %s: %v", receipt, reason)
	return nil
}

// have returns what was recorded, without the begins.
func (q *memoryQueue) have() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(q.fates), func(s string) bool { return strings.HasPrefix(s, "begin ") })
}

// run has the workers of f run in a bubble, until nothing moves any more and wait is over.
func run(t *testing.T, f *flow, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, p := range f.handlers.pools() {
		for range p.size {
			all.Go(func() { _ = f.worker(p)(ctx) })
		}
	}
	for _, work := range []func(context.Context) error{f.process, f.pass, f.read} {
		all.Go(func() { _ = work(ctx) })
	}
	time.Sleep(wait)
	synctest.Wait()
	cancel()
	all.Wait()
	if err := f.zmq.Term(context.Background()); err != nil {
		t.Error(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestWhatAHandlerReturnsDecidesWhatBecomesOfTheEvent(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name     string
		delivery uint32
		h        Handler
		want     string
	}{
		{"nil", 1, nothing, "ack x"},
		{"an error", 1, func(context.Context, event.Event) error { return broken }, "retry x: broken"},
		{"an error at the last try", 3, func(context.Context, event.Event) error { return broken }, "dead x: broken"},
		{"permanent", 1, func(context.Context, event.Event) error { return fault.Permanent(broken) }, "dead x: broken"},
		{"a dependency", 1, func(context.Context, event.Event) error { return fault.Dependency("db", broken) }, "retry x: dependency: db: broken"},
		{"a panic", 1, func(context.Context, event.Event) error { panic("ouch") }, "retry x: panic: handler: ouch"},
		{"its time is over", 1, func(ctx context.Context, _ event.Event) error { <-ctx.Done(); return ctx.Err() }, "retry x: the handler's time of 1m0s is over: context deadline exceeded"},
		{"dead by too many deaths of the process", 4, nothing, "dead x: its tries are used up, and the last one never ended: the process did"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newMemoryQueue(event.Event{ID: "x", Delivery: c.delivery})
				f := newFlow(q, quiet(), nil)
				f.handlers.defaults.tries = 3
				if err := f.handlers.addOther(c.h); err != nil {
					t.Fatal(err)
				}
				run(t, f, 2*time.Minute)
				if have := q.have(); len(have) != 1 || have[0] != c.want {
					t.Errorf("want %q, have %q", c.want, have)
				}
			})
		})
	}
}

func TestTheShutdownBlamesNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newMemoryQueue(event.Event{ID: "x"})
		f := newFlow(q, quiet(), func(ctx context.Context, _ event.Event) error { <-ctx.Done(); return ctx.Err() })
		run(t, f, time.Second)
		if want, have := []string{"release x"}, q.have(); !slices.Equal(want, have) {
			t.Errorf("want %q, have %q", want, have)
		}
	})
}

func TestEachTypeHasItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var have []string
		called := func(name string) Handler {
			return func(_ context.Context, e event.Event) error {
				mu.Lock()
				defer mu.Unlock()
				have = append(have, name+" "+e.ID)
				return nil
			}
		}
		q := newMemoryQueue(event.Event{ID: "1", Type: "a"}, event.Event{ID: "2", Type: "b"}, event.Event{ID: "3"}, event.Event{ID: "4", Type: "base.unknown"})
		f := newFlow(q, quiet(), called("rest"))
		if err := errors.Join(f.handlers.add("a", called("a")), f.handlers.add("b", called("b"), Parallel(1))); err != nil {
			t.Fatal(err)
		}
		run(t, f, time.Second)
		slices.Sort(have)
		if want := []string{"a 1", "b 2", "rest 3"}; !slices.Equal(want, have) {
			t.Errorf("want %q, have %q", want, have)
		}
		if fates := q.have(); !slices.Contains(fates, `dead 4: no handler takes events of the type "base.unknown"; those of "a", "b" are taken`) {
			t.Errorf("want what nobody handles among the dead letters, have %q", fates)
		}
	})
}

// A slow type with workers of its own doesn't hold up the others.
func TestASlowTypeHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []event.Event
		room := perWorker * (runtime.GOMAXPROCS(0) + 1) // all that the queue hands out at once
		for i := range room - 1 {
			list = append(list, event.Event{ID: fmt.Sprintf("slow-%d", i), Type: "slow"})
		}
		q := newMemoryQueue(append(list, event.Event{ID: "quick"})...)
		f := newFlow(q, quiet(), nothing)
		running, most := 0, 0
		slow := func(ctx context.Context, _ event.Event) error { // one at a time: no lock
			running++
			most = max(most, running)
			time.Sleep(time.Minute)
			running--
			return nil
		}
		if err := f.handlers.add("slow", slow, Parallel(1), Timeout(time.Hour)); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			if !slices.Contains(q.have(), "ack quick") {
				t.Errorf("want the other type handled within a second, have %q", q.have())
			}
		}()
		run(t, f, time.Hour)
		if n := len(q.have()); n != room || most != 1 {
			t.Errorf("want %d events handled, one slow one at a time, have %d, and %d at a time", room, n, most)
		}
	})
}

func TestTheRelayEnrichesRoutesAndRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newMemoryQueue(event.Event{ID: "enrich", Body: []byte(`{"a":1}`)}, event.Event{ID: "route"}, event.Event{ID: "refuse"}, event.Event{ID: "fail"},
			event.Event{ID: "panic"}, event.Event{ID: "break"}, event.Event{ID: "hang"})
		var mu sync.Mutex
		var have []string
		f := newFlow(q, quiet(), func(_ context.Context, e event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			have = append(have, fmt.Sprintf("%s %s %v %s", e.ID, e.Type, e.Attributes, e.Body))
			return nil
		})
		f.relay = func(ctx context.Context, e *event.Event) error {
			switch e.ID {
			case "enrich":
				e.Attributes, e.Body = map[string]string{"region": "north"}, []byte(`{"a":2}`)
				e.ID, e.Receipt = "other", []byte("other") // not its business
			case "route":
				e.Type = "elsewhere"
			case "refuse":
				return fault.Permanent(errors.New("not ours"))
			case "fail":
				return errors.New("look-up failed")
			case "panic":
				panic("ouch")
			case "break":
				e.Body = []byte("[]")
			case "hang":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		run(t, f, 2*time.Minute)
		slices.Sort(have)
		if want := []string{`enrich  map[region:north] {"a":2}`, `route elsewhere map[] {}`}; !slices.Equal(want, have) {
			t.Errorf("want %q, have %q", want, have)
		}
		fates := q.have()
		for _, want := range []string{"release enrich", "ack enrich", "ack route", "dead refuse: not ours", "retry fail: look-up failed", "retry panic: panic: relay: ouch",
			"retry hang: the relay's time of 1m0s is over: context deadline exceeded"} {
			if !slices.Contains(fates, want) {
				t.Errorf("want %q, have %q", want, fates)
			}
		}
		if !slices.ContainsFunc(fates, func(s string) bool {
			return strings.HasPrefix(s, "dead break: relay: what it made of the event is none")
		}) {
			t.Errorf("want what the relay broke among the dead letters, have %q", fates)
		}
	})
}

// The relay's failures and the deaths in it count as the handler's do: by the tries of the event's type.
func TestTheTriesOfATypeHoldInTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newMemoryQueue(event.Event{ID: "once", Type: "once"}, event.Event{ID: "died", Type: "once", Delivery: 2}, event.Event{ID: "often", Type: "often", Delivery: 6},
			event.Event{ID: "unknown", Type: "unknown", Delivery: 6})
		f := newFlow(q, quiet(), nil)
		if err := errors.Join(f.handlers.add("once", nothing, Tries(1)), f.handlers.add("often", nothing, Tries(12))); err != nil {
			t.Fatal(err)
		}
		f.relay = func(context.Context, *event.Event) error { return errors.New("no map") }
		run(t, f, time.Second)
		for _, want := range []string{"dead once: no map", "dead died: " + errUsedUp.Error(), "retry often: no map", "dead unknown: " + errUsedUp.Error()} {
			if fates := q.have(); !slices.Contains(fates, want) {
				t.Errorf("want %q, have %q", want, fates)
			}
		}
	})
}

func TestNoEventOfTheTemplatesPassesTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newMemoryQueue(event.Event{ID: "sample", Type: sampleType}, event.Event{ID: "disguised"})
		f := newFlow(q, quiet(), nothing)
		if err := f.handlers.add(sampleType, nothing); err != nil {
			t.Fatal(err)
		}
		f.relay = func(_ context.Context, e *event.Event) error {
			if e.ID == "sample" {
				t.Error("the relay sees an event of the template's")
			}
			e.Type = sampleType
			return nil
		}
		run(t, f, time.Second)
		if fates := q.have(); !slices.Contains(fates, "ack sample") || !slices.Contains(fates, "dead disguised: relay: types that begin with base. are the template's") {
			t.Errorf("want the sample handled and no other of its type, have %q", fates)
		}
		if f.handlers.accepts(sampleType) {
			t.Error("clients can post it")
		}
	})
}

func TestMiddlewareIsAroundEachHandlerOfTheApp(t *testing.T) {
	var have bytes.Buffer
	named := func(name string) func(Handler) Handler {
		return func(next Handler) Handler {
			return func(ctx context.Context, e event.Event) error {
				have.WriteString(name + " ")
				return next(ctx, e)
			}
		}
	}
	t1 := &table{types: map[string]*route{}}
	inner := func(context.Context, event.Event) error { have.WriteString("handler "); return nil }
	if err := errors.Join(t1.add("a", inner), t1.add(sampleType, inner), t1.addOther(inner), t1.wrap([]func(Handler) Handler{named("outer"), named("inner")})); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"a", "other", sampleType} {
		_ = t1.find(kind).handle(t.Context(), event.Event{})
	}
	if want := "outer inner handler outer inner handler handler "; have.String() != want {
		t.Errorf("want %q, have %q", want, have.String())
	}
	if err := t1.wrap([]func(Handler) Handler{func(Handler) Handler { return nil }}); err == nil || !strings.Contains(err.Error(), "middleware 1 returns nil") {
		t.Errorf("want the middleware that returns nil refused, have %v", err)
	}
}
