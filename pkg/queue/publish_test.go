package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

func testOrder(t *testing.T, p *place) {
	q := p.open(t)
	began := time.Now()
	full := event.Event{ID: "full", RequestID: "r-1", TraceParent: "00-" + strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16) + "-01",
		Baggage: "k=v", Body: []byte(`{"a":1}`), Time: time.Unix(1, 0), Sequence: 99, Delivery: 7, Receipt: []byte("forged")}
	want := append(append(makeSome("a", 100), full), makeSome("c", 100)...)
	answers := publish(t, q, want[:100]...)
	answers = append(answers, publish(t, q, want[100])...)
	answers = append(answers, publish(t, q, want[101:]...)...)
	var last uint64
	for i, w := range want {
		e := nextID(t, q, w.ID, 1)
		if a := answers[i]; e.Sequence <= last || a.Sequence != e.Sequence || a.ID != w.ID || a.Duplicate {
			t.Fatalf("want %s with a sequence over %d and as it was answered, have %d and %+v", w.ID, last, e.Sequence, a)
		}
		if !bytes.Equal(e.Body, w.Body) || e.RequestID != w.RequestID || e.TraceParent != w.TraceParent || e.Baggage != w.Baggage {
			t.Fatalf("want the envelope and body of %+v, have %+v", w, e)
		}
		if e.Time.Before(began.Add(-time.Second)) || e.Time.After(time.Now().Add(time.Second)) {
			t.Fatalf("want the time of acceptance, have %v", e.Time)
		}
		last = e.Sequence
		ack(t, q, e)
	}
}

func testTwiceInOneCall(t *testing.T, p *place) {
	q := p.open(t)
	answers := publishIDs(t, q, "x", "y", "x")
	if answers[0].Duplicate || answers[1].Duplicate || !answers[2].Duplicate || answers[2].Sequence != answers[0].Sequence {
		t.Errorf("want the second x to be a duplicate of the first, have %+v", answers)
	}
	ack(t, q, nextID(t, q, "x", 1))
	ack(t, q, nextID(t, q, "y", 1))
	nothing(t, q, 50*time.Millisecond)
}

func testKnown(t *testing.T, p *place) {
	q := p.open(t)
	first := publishIDs(t, q, "done", "dead", "waits")
	ack(t, q, nextID(t, q, "done", 1))
	if err := q.Dead(nextID(t, q, "dead", 1).Receipt, errors.New("bad")); err != nil {
		t.Fatal(err)
	}
	untilState(t, q, "done", queue.StateProcessed)
	untilState(t, q, "dead", queue.StateDead)
	for _, when := range []string{"before", "after"} {
		again := publishIDs(t, q, "waits", "done", "new-"+when, "dead")
		for i, want := range []queue.Accepted{{ID: "waits", Sequence: first[2].Sequence, Duplicate: true}, {ID: "done", Sequence: first[0].Sequence, Duplicate: true},
			again[2], {ID: "dead", Sequence: first[1].Sequence, Duplicate: true}} {
			if again[i] != want {
				t.Errorf("%s the restart: want %+v, have %+v", when, want, again[i])
			}
		}
		if again[2].Duplicate {
			t.Errorf("%s the restart: want the new id taken, have %+v", when, again[2])
		}
		if when == "before" {
			end(t, q)
			q = p.open(t)
		}
	}
}

func testConcurrentIDs(t *testing.T, p *place) {
	queues := []*queue.Queue{p.open(t)}
	if p.name == "cluster" {
		queues = append(queues, p.elsewhere(t).open(t))
	}
	const callers, ids = 16, 12
	var wg sync.WaitGroup
	answers := make([][]queue.Accepted, callers)
	for c := range callers {
		wg.Go(func() {
			events := makeSome("id", ids)
			if c%2 == 0 { // alone, else as a batch
				events = events[:1]
			}
			var err error
			if answers[c], err = queues[c%len(queues)].Publish(within(t), events...); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	wg.Wait()
	fresh := map[string]int{}
	sequences := map[string]map[uint64]bool{}
	for _, some := range answers {
		for _, a := range some {
			if sequences[a.ID] == nil {
				sequences[a.ID] = map[uint64]bool{}
			}
			sequences[a.ID][a.Sequence] = true
			if !a.Duplicate {
				fresh[a.ID]++
			}
		}
	}
	for _, e := range makeSome("id", ids) {
		if fresh[e.ID] != 1 || len(sequences[e.ID]) != 1 {
			t.Errorf("want %s accepted once with one sequence, have %d times, %v", e.ID, fresh[e.ID], sequences[e.ID])
		}
	}
	until(t, fmt.Sprintf("%d events wait", ids), func() bool { return depth(t, queues[0]) == ids })
}

// depth is how many events are in the queue.
func depth(t testing.TB, q *queue.Queue) int {
	s, err := q.Stats(within(t))
	if err != nil {
		t.Logf("stats: %v", err)
		return -1
	}
	return int(s.Waiting) + s.InFlight
}

func testBadEnvelope(t *testing.T, p *place) {
	q := p.open(t)
	for name, bad := range map[string]event.Event{"id": {ID: "a.b"}, "request id": {ID: "x", RequestID: "\n"}, "traceparent": {ID: "x", TraceParent: "00"}, "baggage": {ID: "x", Baggage: "\n"}} {
		if _, err := q.Publish(within(t), make1("good"), bad); err == nil || !strings.Contains(err.Error(), "event 2") {
			t.Errorf("%s: want an error that names the second event, have %v", name, err)
		}
	}
	if _, err := q.Publish(within(t)); err == nil {
		t.Error("want no events refused")
	}
	if _, err := q.Publish(within(t), makeSome("x", 1001)...); err == nil {
		t.Error("want more than 1,000 events refused")
	}
	if s, err := q.Status(within(t), "good"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("want nothing of a refused batch stored, have %+v, %v", s, err)
	}
}

// An event without an id gets one, and the caller's own slice is left as it is.
func testNewIDs(t *testing.T, p *place) {
	q := p.open(t)
	events := []event.Event{make1(""), make1("mine"), make1("")}
	answers, err := q.Publish(within(t), events...)
	if err != nil || answers[0].ID == "" || answers[1].ID != "mine" || answers[0].ID == answers[2].ID || events[0].ID != "" {
		t.Fatalf("want an id for each, have %+v, %v for %q", answers, err, events[0].ID)
	}
	if s, err := q.Status(within(t), answers[2].ID); err != nil || s.Sequence != answers[2].Sequence {
		t.Errorf("want it known by its new id, have %+v, %v", s, err)
	}
}

// A batch in which an id is met that was published and purged a moment ago is stored whole, or not at all.
func testPurgedIDInABatch(t *testing.T, p *place) {
	q := p.open(t)
	publishIDs(t, q, "again")
	if n, err := q.Purge(within(t)); err != nil || n != 1 {
		t.Fatalf("want one event purged, have %d, %v", n, err)
	}
	publishIDs(t, q, "there")
	answers, err := q.Publish(within(t), append(makeSome("x", 10), make1("again"), make1("there"))...)
	if err != nil || answers[10].Duplicate || !answers[11].Duplicate {
		t.Fatalf("want the purged one new and the other a duplicate, have %+v, %v", answers, err)
	}
	if n := depth(t, q); n != 12 {
		t.Errorf("want twelve events, have %d", n)
	}
}

// small is a queue that a test can fill.
func small(o *queue.Options) { o.MaxBytes = 64 << 10 }

func heavy(id string, kib int) event.Event {
	return event.Event{ID: id, Body: bytes.Repeat([]byte("x"), kib<<10)}
}

func testBatchTooLarge(t *testing.T, p *place) {
	q := p.open(t, small)
	var batch []event.Event
	for i := range 20 {
		batch = append(batch, heavy(fmt.Sprint("b", i), 4))
	}
	if _, err := q.Publish(within(t), batch...); !errors.Is(err, queue.ErrFull) {
		t.Errorf("want ErrFull, have %v", err)
	}
	for _, id := range []string{"b0", "b1", "b19"} {
		if s, err := q.Status(within(t), id); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("%s: want nothing of a refused batch stored, have %+v, %v", id, s, err)
		}
	}
	if s, err := q.Stats(within(t)); err != nil || s.Rejected != 20 || s.Waiting != 0 {
		t.Errorf("want 20 rejected and none waiting, have %+v, %v", s, err)
	}
	publish(t, q, batch[:8]...) // what fits is taken, also after the refusal
	nextID(t, q, "b0", 1)
}

func testFull(t *testing.T, p *place) {
	q := p.open(t, small)
	n := 0
	for ; ; n++ {
		_, err := q.Publish(within(t), heavy(fmt.Sprint("e", n), 4))
		if errors.Is(err, queue.ErrFull) {
			break
		}
		if err != nil || n > 64 {
			t.Fatalf("want the queue full after some 15 events, have %d and %v", n, err)
		}
	}
	if n < 10 {
		t.Errorf("want room for some 15 events, have %d", n)
	}
	// One that is too large takes none of the others with it that are written in the same moment.
	ack(t, q, nextID(t, q, "e0", 1))
	untilState(t, q, "e0", queue.StateProcessed)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if i%2 == 0 {
				if _, err := q.Publish(within(t), heavy(fmt.Sprint("large", i), 40)); !errors.Is(err, queue.ErrFull) {
					t.Errorf("want ErrFull, have %v", err)
				}
			} else if _, err := q.Publish(within(t), make1(fmt.Sprint("light", i))); err != nil {
				t.Errorf("want room for a small event, have %v", err)
			}
		})
	}
	wg.Wait()
	for i := 1; i < n; i++ {
		ack(t, q, nextID(t, q, fmt.Sprint("e", i), 1))
	}
	until(t, "there is room again", func() bool {
		_, err := q.Publish(within(t), heavy("again", 4))
		return err == nil
	})
}

func testLargest(t *testing.T, p *place) {
	q := p.open(t)
	large := heavy("large", 1024)
	large.Baggage = strings.Repeat("b", event.MaxBaggage)
	publish(t, q, large)
	var batch []event.Event
	for i := range 8 {
		batch = append(batch, heavy(fmt.Sprint("part", i), 1024))
	}
	publish(t, q, batch...)
	for range 9 {
		e := next(t, q)
		if len(e.Body) != 1<<20 {
			t.Errorf("%s: want a body of 1 MiB, have %d", e.ID, len(e.Body))
		}
		if err := q.Dead(e.Receipt, errors.New("too heavy")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "nine dead letters", func() bool {
		list, _, err := q.DeadLetters(within(t), 0, 20)
		return err == nil && len(list) == 9 && list[0].Bytes == 1<<20
	})
}
