package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ev(id string) event.Event { return event.Event{ID: id, Body: []byte(`{}`)} }

func publish(t *testing.T, q *queue.Memory, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := q.Publish(t.Context(), ev(id)); err != nil {
			t.Fatal(err)
		}
	}
}

func next(t *testing.T, q *queue.Memory) event.Event {
	t.Helper()
	e, err := q.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func state(t *testing.T, q *queue.Memory, id string) queue.State {
	t.Helper()
	s, err := q.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s.State
}

func TestEventsComeInOrderAndAreProcessedOnce(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{})
	publish(t, q, "a", "b", "c")
	for i, id := range []string{"a", "b", "c"} {
		e := next(t, q)
		if e.ID != id || e.Sequence != uint64(i+1) || e.Delivery != 1 || e.Time.IsZero() {
			t.Errorf("want %s as number %d, delivered once, have %+v", id, i+1, e)
		}
		if s := state(t, q, id); s != queue.StateAccepted {
			t.Errorf("want %s accepted while in flight, have %s", id, s)
		}
		if err := q.Ack(t.Context(), e.Receipt); err != nil {
			t.Error(err)
		}
		if err := q.Ack(t.Context(), e.Receipt); !errors.Is(err, queue.ErrReceipt) {
			t.Errorf("want ErrReceipt the second time, have %v", err)
		}
		if s := state(t, q, id); s != queue.StateProcessed {
			t.Errorf("want %s processed, have %s", id, s)
		}
	}
	if s := q.Stats(); s.Accepted != 3 || s.Processed != 3 || s.Bytes != 0 || s.Waiting+s.InFlight != 0 || s.OldestAge != 0 {
		t.Errorf("want three through and nothing left, have %+v", s)
	}
}

func TestAKnownIDIsAcceptedOnce(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{})
	answers, err := q.Publish(t.Context(), ev("a"), ev("b"), ev("a"))
	if err != nil || answers[0].Duplicate || answers[1].Duplicate || !answers[2].Duplicate || answers[2].Sequence != 1 {
		t.Fatalf("want the third to be a duplicate of the first, have %+v, %v", answers, err)
	}
	e := next(t, q)
	if err := q.Ack(t.Context(), e.Receipt); err != nil {
		t.Fatal(err)
	}
	if answers, err = q.Publish(t.Context(), ev("a")); err != nil || !answers[0].Duplicate {
		t.Errorf("want a duplicate after it was processed, too, have %+v, %v", answers, err)
	}
}

func TestARetryWaitsAndTheLastDeliveryIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.NewMemory(queue.MemoryOptions{MaxDeliveries: 3})
		publish(t, q, "bad", "good")
		began := time.Now()
		for delivery := uint32(1); delivery <= 3; delivery++ {
			e := next(t, q)
			if e.ID != "bad" || e.Delivery != delivery {
				t.Fatalf("want delivery %d of bad, have %+v", delivery, e)
			}
			s, err := q.Retry(t.Context(), e.Receipt, time.Minute)
			if want := map[bool]queue.State{true: queue.StateAccepted, false: queue.StateDead}[delivery < 3]; err != nil || s != want {
				t.Fatalf("want %s, have %s, %v", want, s, err)
			}
			if delivery == 1 {
				if e := next(t, q); e.ID != "good" || q.Ack(t.Context(), e.Receipt) != nil {
					t.Fatalf("want the good one not held up, have %+v", e)
				}
			}
		}
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("want two pauses of a minute, have %v", took)
		}
		if s := q.Stats(); s.Dead != 1 || s.Retried != 2 || s.Processed != 1 || s.Bytes != 0 {
			t.Errorf("want 1 dead, 2 retried, 1 processed, have %+v", s)
		}
	})
}

func TestWhatDoesNotFitIsRefusedWhole(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{MaxBytes: 2000})
	big := ev("big")
	big.Body = []byte(strings.Repeat("x", 1000))
	if _, err := q.Publish(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	two := []event.Event{ev("c"), ev("d")}
	if _, err := q.Publish(t.Context(), two...); !errors.Is(err, queue.ErrFull) {
		t.Errorf("want ErrFull, have %v", err)
	}
	if _, err := q.Status(t.Context(), "c"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("want nothing of the batch accepted, have %v", err)
	}
	if _, err := q.Publish(t.Context(), big); err != nil {
		t.Errorf("want a duplicate answered though it is full, have %v", err)
	}
	e := next(t, q)
	if err := q.Dead(t.Context(), e.Receipt); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Publish(t.Context(), two...); err != nil {
		t.Errorf("want room again, have %v", err)
	}
	if s := q.Stats(); s.Rejected != 2 || s.Dead != 1 {
		t.Errorf("want 2 rejected and 1 dead, have %+v", s)
	}
}

func TestABadIDNamesItsEventAndNothingIsAccepted(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{})
	if _, err := q.Publish(t.Context(), ev("ok"), ev("not ok")); err == nil || !strings.Contains(err.Error(), "event 2") {
		t.Errorf("want an error that names event 2, have %v", err)
	}
	if s := q.Stats(); s.Accepted != 0 {
		t.Errorf("want nothing accepted, have %+v", s)
	}
}

func TestNextEndsWithItsContextAndWithTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.NewMemory(queue.MemoryOptions{})
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := q.Next(ctx); !errors.Is(err, cause) {
			t.Errorf("want the context's cause, have %v", err)
		}
		time.AfterFunc(time.Second, func() { q.Close() })
		if _, err := q.Next(t.Context()); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("want ErrClosed, have %v", err)
		}
		if _, err := q.Publish(t.Context(), ev("late")); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("want ErrClosed, have %v", err)
		}
	})
}

// What is remembered of an event that is through is its id and its fate, not what it carried.
func TestWhatIsThroughWeighsNothing(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{})
	before := heap()
	for i := range 2000 {
		e := event.Event{ID: fmt.Sprint(i), Baggage: strings.Repeat("b", event.MaxBaggage), Body: make([]byte, 20<<10)}
		if _, err := q.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := q.Ack(t.Context(), next(t, q).Receipt); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 5<<20 {
		t.Errorf("want 2000 settled events to weigh next to nothing, have %d bytes", grown)
	}
	if s := state(t, q, "1999"); s != queue.StateProcessed {
		t.Errorf("want it remembered, have %s", s)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTheWholeEnvelopeCounts(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{MaxBytes: 4000})
	e := ev("a")
	e.Baggage = strings.Repeat("b", 4000)
	if _, err := q.Publish(t.Context(), e); !errors.Is(err, queue.ErrFull) {
		t.Errorf("want ErrFull, have %v", err)
	}
}

func TestManyHandsLoseNothing(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{MaxDeliveries: 1000})
	const publishers, each = 8, 500
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				publish(t, q, fmt.Sprintf("%d-%d", p, i))
			}
		})
	}
	var mu sync.Mutex
	handled := map[string]int{}
	for range 4 {
		wg.Go(func() {
			for {
				e, err := q.Next(ctx)
				if err != nil {
					return
				}
				if rand.IntN(4) == 0 {
					if _, err := q.Retry(ctx, e.Receipt, 0); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := q.Ack(ctx, e.Receipt); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if handled[e.ID]++; len(handled) == publishers*each {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range handled {
		if n != 1 {
			t.Errorf("%s was handled %d times", id, n)
		}
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	q := queue.NewMemory(queue.MemoryOptions{})
	const many = 100_000 + 10
	for i := range many {
		publish(t, q, fmt.Sprint(i))
		if err := q.Ack(t.Context(), next(t, q).Receipt); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Status(t.Context(), "9"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("want the oldest forgotten, have %v", err)
	}
	if s := state(t, q, fmt.Sprint(many-1)); s != queue.StateProcessed {
		t.Errorf("want the newest remembered, have %s", s)
	}
}

func Example() {
	ctx := context.Background()
	q := queue.NewMemory(queue.MemoryOptions{})
	_, _ = q.Publish(ctx, event.Event{ID: "order-7", Body: []byte(`{"item":"tea"}`)})
	e, _ := q.Next(ctx)
	fmt.Println(e.ID, string(e.Body))
	_ = q.Ack(ctx, e.Receipt)
	status, _ := q.Status(ctx, "order-7")
	fmt.Println(status.State)
	// Output:
	// order-7 {"item":"tea"}
	// processed
}
