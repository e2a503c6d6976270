package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/queue"
	"github.com/nats-io/nats.go"
)

// deaden publishes events and makes them dead letters.
func deaden(t *testing.T, q *queue.Queue, ids ...string) {
	t.Helper()
	publishIDs(t, q, ids...)
	for _, id := range ids {
		e := nextID(t, q, id, 1)
		if err := q.Dead(e.Receipt, fmt.Errorf("%s: it's\nbäd %s", id, strings.Repeat("!", 2000))); err != nil {
			t.Fatal(err)
		}
		untilState(t, q, id, queue.StateDead)
	}
}

func listDead(t *testing.T, q *queue.Queue) string {
	t.Helper()
	list, next, err := q.DeadLetters(within(t), 0, 100)
	if err != nil || next != 0 {
		t.Fatalf("dead letters: want the whole list, have %d, %v", next, err)
	}
	var ids []string
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, " ")
}

func testDeadLetters(t *testing.T, p *place) {
	q := p.open(t)
	if have := listDead(t, q); have != "" {
		t.Fatalf("want none, have %s", have)
	}
	deaden(t, q, "a", "b", "c", "d", "e")
	page, after, err := q.DeadLetters(within(t), 0, 2)
	if err != nil || len(page) != 2 || page[1].ID != "b" || after == 0 {
		t.Fatalf("want a and b, have %+v, %d, %v", page, after, err)
	}
	if d := page[0]; d.ID != "a" || d.Deliveries != 1 || !strings.HasPrefix(d.Reason, "a: it's b") || len(d.Reason) > 1024 || d.Bytes != len(make1("a").Body) || d.Sequence == 0 ||
		time.Since(d.Time) > 2*patience {
		t.Errorf("want all about a, have %+v", d)
	}
	page, after, err = q.DeadLetters(within(t), after, 100)
	if err != nil || len(page) != 3 || page[0].ID != "c" || after != 0 {
		t.Fatalf("want the rest, have %+v, %d, %v", page, after, err)
	}

	if n, err := q.Replay(within(t), "b"); n != 1 || err != nil {
		t.Fatalf("want one replayed, have %d, %v", n, err)
	}
	e := nextID(t, q, "b", 1)
	if string(e.Body) != string(make1("b").Body) {
		t.Errorf("want its body, have %s", e.Body)
	}
	if s, err := q.Status(within(t), "b"); err != nil || s.State != queue.StateAccepted {
		t.Errorf("want it accepted, have %+v, %v", s, err)
	}
	ack(t, q, e)
	untilState(t, q, "b", queue.StateProcessed)
	if have := listDead(t, q); have != "a c d e" {
		t.Errorf("want b gone, have %s", have)
	}
	for _, id := range []string{"b", "nobody", "a.b", "*", ">"} {
		if _, err := q.Replay(within(t), id); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("replay of %q: want ErrUnknown, have %v", id, err)
		}
		if n, err := q.PurgeDead(within(t), id); n != 0 || err != nil && !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("purge of %q: want none or ErrUnknown, have %d, %v", id, n, err)
		}
	}
	if n, err := q.PurgeDead(within(t), "c"); n != 1 || err != nil {
		t.Errorf("want one purged, have %d, %v", n, err)
	}
	if n, err := q.PurgeDead(within(t), ""); n != 3 || err != nil || listDead(t, q) != "" {
		t.Errorf("want all purged, have %d, %v", n, err)
	}
	if _, err := q.Status(within(t), "c"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("want a purged one forgotten, have %v", err)
	}
	publishIDs(t, q, "c") // and so it may come again
	nextID(t, q, "c", 1)
}

func testReplayAll(t *testing.T, p *place) {
	two := func(o *queue.Options) { o.MaxDeliveries = 2 }
	q := p.open(t, two)
	publishIDs(t, q, "x", "y")
	for delivery := uint32(1); delivery <= 2; delivery++ { // dead by their count, which starts anew
		for range 2 {
			e := next(t, q)
			if e.Delivery != delivery {
				t.Errorf("%s: want delivery %d, have %d", e.ID, delivery, e.Delivery)
			}
			retry(t, q, e, 0)
		}
	}
	untilState(t, q, "x", queue.StateDead)
	untilState(t, q, "y", queue.StateDead)
	if n, err := q.Replay(within(t), ""); n != 2 || err != nil {
		t.Fatalf("want two replayed, have %d, %v", n, err)
	}
	if have := listDead(t, q); have != "" {
		t.Errorf("want none left, have %s", have)
	}
	for range 2 {
		e := next(t, q)
		if e.Delivery != 1 {
			t.Errorf("%s: want the count from new, have %d", e.ID, e.Delivery)
		}
		retry(t, q, e, 0)
	}
	for range 2 {
		e := next(t, q)
		if e.Delivery != 2 {
			t.Errorf("%s: want delivery 2, have %d", e.ID, e.Delivery)
		}
		ack(t, q, e)
		untilState(t, q, e.ID, queue.StateProcessed)
	}
}

func testReplayTwice(t *testing.T, p *place) {
	q := p.open(t)
	deaden(t, q, "x")
	if n, err := q.Replay(within(t), "x"); n != 1 || err != nil {
		t.Fatalf("want one replayed, have %d, %v", n, err)
	}
	e := nextID(t, q, "x", 1)
	if err := q.Dead(e.Receipt, errors.New("again")); err != nil {
		t.Fatal(err)
	}
	untilState(t, q, "x", queue.StateDead)
	until(t, "it left the queue", func() bool { return depth(t, q) == 0 })
	if have := listDead(t, q); have != "x" {
		t.Errorf("want one dead letter, have %s", have)
	}
	if a := publishIDs(t, q, "x"); !a[0].Duplicate {
		t.Errorf("want its id known, have %+v", a)
	}
	if n, err := q.Replay(within(t), "x"); n != 1 || err != nil {
		t.Fatalf("want it replayed again, have %d, %v", n, err)
	}
	ack(t, q, nextID(t, q, "x", 1))
	untilState(t, q, "x", queue.StateProcessed)
}

func testPurge(t *testing.T, p *place) {
	q := p.open(t, func(o *queue.Options) { o.InFlight = 1 })
	publish(t, q, makeSome("x", 50)...)
	e := nextID(t, q, "x0", 1)
	if n, err := q.Purge(within(t)); n != 49 || err != nil {
		t.Errorf("want all purged but the one that is handled, have %d, %v", n, err)
	}
	ack(t, q, e)
	untilState(t, q, "x0", queue.StateProcessed)
	if _, err := q.Status(within(t), "x7"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("want a purged one forgotten, have %v", err)
	}
	publishIDs(t, q, "new", "x7")
	ack(t, q, nextID(t, q, "new", 1))
	ack(t, q, nextID(t, q, "x7", 1))
}

// What was fetched for Next and not handed out yet waits, too.
func testPurgeOfWhatWasFetched(t *testing.T, p *place) {
	q := p.open(t, func(o *queue.Options) { o.InFlight = 16 })
	publish(t, q, makeSome("x", 50)...)
	until(t, "some were fetched", func() bool {
		s, err := q.Stats(within(t))
		return err == nil && s.InFlight == 16
	})
	e := nextID(t, q, "x0", 1)
	if n, err := q.Purge(within(t)); n != 49 || err != nil {
		t.Errorf("want all purged but the one that was handed out, have %d, %v", n, err)
	}
	if s, err := q.Stats(within(t)); err != nil || s.InFlight != 1 {
		t.Errorf("want only the one in flight that was handed out, have %+v, %v", s, err)
	}
	publishIDs(t, q, "x1", "new")
	ack(t, q, nextID(t, q, "x1", 1))
	ack(t, q, nextID(t, q, "new", 1))
	ack(t, q, e)
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
}

// What is handled during a purge can't come again: if it fails nobody shall think so.
func testPurgeOfWhatFails(t *testing.T, p *place) {
	q := p.open(t)
	publishIDs(t, q, "x")
	e := nextID(t, q, "x", 1)
	begin(t, q, e)
	if n, err := q.Purge(within(t)); n != 0 || err != nil {
		t.Errorf("want nothing purged, have %d, %v", n, err)
	}
	if state := retry(t, q, e, time.Millisecond); state != queue.StateDead {
		t.Errorf("want it dead, have %s", state)
	}
	untilState(t, q, "x", queue.StateDead)
	if list, _, err := q.DeadLetters(within(t), 0, 20); err != nil || len(list) != 1 || !strings.Contains(list[0].Reason, "it failed (and the queue was purged") {
		t.Errorf("want both reasons, have %+v, %v", list, err)
	}
	if n, err := q.Replay(within(t), "x"); n != 1 || err != nil {
		t.Fatalf("want it replayed, have %d, %v", n, err)
	}
	ack(t, q, nextID(t, q, "x", 1))
	untilState(t, q, "x", queue.StateProcessed)
}

// Who publishes an id again that was purged begins with its first attempt.
func testPurgeForgetsAttempts(t *testing.T, p *place) {
	q := p.open(t)
	publishIDs(t, q, "x")
	retry(t, q, nextID(t, q, "x", 1), time.Millisecond)
	retry(t, q, nextID(t, q, "x", 2), time.Hour)
	until(t, "both attempts are written", func() bool { s, err := q.Stats(within(t)); return err == nil && s.Retried == 2 })
	if n, err := q.Purge(within(t)); n != 1 || err != nil {
		t.Errorf("want one purged, have %d, %v", n, err)
	}
	publishIDs(t, q, "x")
	end(t, q)
	q = p.open(t)
	ack(t, q, nextID(t, q, "x", 1))
}

func testUndecodable(t *testing.T, p *place) {
	var log logged
	q := p.open(t, log.into)
	for _, m := range []*nats.Msg{{Subject: "events.odd", Data: []byte("no event")}, {Subject: "events.empty"}} {
		if _, err := q.Conn().RequestMsgWithContext(within(t), m); err != nil {
			t.Fatal(err)
		}
	}
	publishIDs(t, q, "x")
	ack(t, q, nextID(t, q, "x", 1))
	until(t, "it is a dead letter", func() bool { return listDead(t, q) == "odd empty" })
	if _, err := q.Replay(within(t), "odd"); err == nil {
		t.Error("want no replay of what is no event")
	}
	if !log.has("not an event") || !log.has("events.odd") {
		t.Errorf("want it logged, have %s", log.String())
	}
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
}

// What is dead and finds no room is handled no second time: the verdict is kept, and told once.
func TestWithoutRoomForDeadLettersTheVerdictIsKept(t *testing.T) {
	t.Parallel()
	p := embedded(t)
	var log logged
	q := p.open(t, log.into, func(o *queue.Options) { o.MaxBytes = 16 << 20 })
	const events = 10 // of 1 MiB: the dead letters have room for fewer
	for i := range events {
		publish(t, q, heavy(fmt.Sprint("x", i), 1024))
	}
	for range events {
		if err := q.Dead(next(t, q).Receipt, errors.New("bad apple")); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() bool { s, err := q.Stats(within(t)); return err == nil && s.InFlight == 0 }
	until(t, "all are settled", settled)
	list, _, err := q.DeadLetters(within(t), 0, 20)
	if err != nil || len(list) < 4 || len(list) == events {
		t.Fatalf("want room for some, have %d, %v", len(list), err)
	}
	remove(t, q, "CONSUMER.DELETE.EVENTS.app") // then they come again at once, and not after the pause
	nothing(t, q, time.Second)
	if n := strings.Count(log.String(), "no room for more dead letters"); n != 1 {
		t.Errorf("want it told once, have %d times: %s", n, log.String())
	}
	if n, err := q.PurgeDead(within(t), ""); err != nil || n != len(list) {
		t.Fatalf("want %d purged, have %d, %v", len(list), n, err)
	}
	remove(t, q, "CONSUMER.DELETE.EVENTS.app")
	until(t, "the rest is dead", func() bool {
		rest, _, err := q.DeadLetters(within(t), 0, 20)
		return err == nil && len(rest)+len(list) == events && rest[0].Reason == "bad apple" && rest[0].Deliveries == 1
	})
	nothing(t, q, 100*time.Millisecond)
}
