package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/base-app/pkg/queue"
)

func testRetry(t *testing.T, p *place) {
	q := p.open(t)
	publishIDs(t, q, "x", "y")
	const pause = 700 * time.Millisecond
	began := time.Now()
	if s := retry(t, q, nextID(t, q, "x", 1), pause); s != queue.StateAccepted {
		t.Errorf("want the state accepted, have %s", s)
	}
	ack(t, q, nextID(t, q, "y", 1)) // who waits holds up nobody
	e := nextID(t, q, "x", 2)
	if took := time.Since(began); took < pause {
		t.Errorf("want a pause of %v, have %v", pause, took)
	}
	ack(t, q, e)
	if s := untilState(t, q, "x", queue.StateProcessed); s.Deliveries != 2 || s.Sequence != e.Sequence {
		t.Errorf("want two deliveries of sequence %d, have %+v", e.Sequence, s)
	}
}

func testAttempts(t *testing.T, p *place) {
	three := func(o *queue.Options) { o.MaxDeliveries = 3 }
	q := p.open(t, three)
	publishIDs(t, q, "x")
	for delivery := uint32(1); delivery < 3; delivery++ {
		retry(t, q, nextID(t, q, "x", delivery), 0)
		until(t, "the retry is written", func() bool { s, err := q.Stats(within(t)); return err == nil && s.Retried == 1 })
		end(t, q)
		q = p.open(t, three)
	}
	if s := retry(t, q, nextID(t, q, "x", 3), 0); s != queue.StateDead {
		t.Errorf("want the last delivery's state to be dead, have %s", s)
	}
	if s := untilState(t, q, "x", queue.StateDead); s.Deliveries != 3 {
		t.Errorf("want three deliveries, have %+v", s)
	}
	nothing(t, q, 50*time.Millisecond)
}

func testReceipt(t *testing.T, p *place) {
	q := p.open(t)
	publishIDs(t, q, "x")
	e := nextID(t, q, "x", 1)
	begin(t, q, e)
	retry(t, q, e, 0)
	again := nextID(t, q, "x", 2)
	for name, err := range map[string]error{"ack": q.Ack(e.Receipt), "begin": q.Begin(e.Receipt), "dead": q.Dead(e.Receipt, errors.New("bad")),
		"ack of nothing": q.Ack(nil), "ack of something else": q.Ack(make([]byte, 12))} {
		if !errors.Is(err, queue.ErrReceipt) {
			t.Errorf("%s: want ErrReceipt, have %v", name, err)
		}
	}
	ack(t, q, again)
	untilState(t, q, "x", queue.StateProcessed)
}

func testSuspect(t *testing.T, p *place) {
	c := startChild(t, p.options())
	c.doing("ok", "publish x 4")
	for _, id := range []string{"x0", "x1", "x2"} {
		c.doing(id+" 1", "next")
		c.doing("ok", "begin %s", id)
	}
	c.doing("ok", "ack x1")
	until(t, "x1 is processed", func() bool { return c.do("state x1") == "processed" })
	c.kill()

	q := p.open(t)
	want := map[string]uint32{"x0": 2, "x2": 2, "x3": 1} // in any order: what the server knew of them died, too
	for range 3 {
		e := next(t, q)
		if e.Delivery != want[e.ID] {
			t.Errorf("%s: want delivery %d, have %d", e.ID, want[e.ID], e.Delivery)
		}
		delete(want, e.ID)
		begin(t, q, e)
		if e.Delivery == 2 { // the others are here by then
			nothing(t, q, 3*ackWait/2)
		}
		ack(t, q, e)
	}
	nothing(t, q, 50*time.Millisecond)
}

func testPoison(t *testing.T, p *place) {
	two := func(o *queue.Options) { o.MaxDeliveries = 2 }
	c := startChild(t, p.options(two))
	c.doing("ok", "publish x 2")
	for i := range 2 {
		c.doing(fmt.Sprintf("x%d 1", i), "next")
		c.doing("ok", "begin x%d", i)
	}
	c.kill()
	c = startChild(t, p.options(two))
	poison, innocent := "x0", "x1" // in any order, as above
	if have := c.do("next"); have == "x1 2" {
		poison, innocent = innocent, poison
	} else if have != "x0 2" {
		t.Fatalf("want a second delivery, have %s", have)
	}
	c.doing("ok", "begin %s", poison)
	c.kill()

	q := p.open(t, two)
	e := nextID(t, q, innocent, 2)
	begin(t, q, e)
	ack(t, q, e)
	untilState(t, q, innocent, queue.StateProcessed)
	if s := untilState(t, q, poison, queue.StateDead); s.Deliveries != 2 {
		t.Errorf("want two deliveries, have %+v", s)
	}
	list, _, err := q.DeadLetters(within(t), 0, 10)
	if err != nil || len(list) != 1 || list[0].Reason == "" {
		t.Errorf("want one dead letter with a reason, have %+v, %v", list, err)
	}
}

func testNotBegun(t *testing.T, p *place) {
	c := startChild(t, p.options())
	c.doing("ok", "publish x 3")
	c.doing("x0 1", "next")
	c.kill()
	q := p.open(t)
	for range 3 { // nothing has been settled, so nobody waits for another
		if e := next(t, q); e.Delivery != 1 {
			t.Errorf("%s: want delivery 1, have %d", e.ID, e.Delivery)
		}
	}
}

func testLostAck(t *testing.T, p *place) {
	c := startChild(t, p.options())
	c.doing("ok", "publish x 2")
	c.doing("x0 1", "next")
	c.doing("x1 1", "next")
	c.doing("ok", "record done x0")
	c.kill()
	q := p.open(t)
	ack(t, q, nextID(t, q, "x1", 1))
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
	if s, err := q.Status(within(t), "x0"); err != nil || s.State != queue.StateProcessed {
		t.Errorf("want x0 processed, have %+v, %v", s, err)
	}
}

func testClose(t *testing.T, p *place) {
	slow := func(o *queue.Options) { o.AckWait = 5 * patience }
	q := p.open(t, slow)
	publishIDs(t, q, "x", "y", "z")
	ack(t, q, nextID(t, q, "x", 1))
	y := nextID(t, q, "y", 1)
	begin(t, q, y)
	nextID(t, q, "z", 1)
	if err := q.Release(y.Receipt); err != nil { // its handler came back, interrupted
		t.Error(err)
	}
	ended := make(chan error)
	go func() {
		_, err := q.Next(context.Background())
		ended <- err
	}()
	end(t, q)
	select {
	case err := <-ended:
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("want ErrClosed from Next, have %v", err)
		}
	case <-time.After(patience):
		t.Error("Next didn't end")
	}
	if _, err := q.Publish(within(t), make1("late")); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("want ErrClosed from Publish, have %v", err)
	}
	if err := q.Close(within(t)); err != nil {
		t.Errorf("want a second close to do nothing, have %v", err)
	}
	q = p.open(t, slow)
	for range 2 {
		e := next(t, q)
		if e.Delivery != 1 || e.ID == "x" {
			t.Errorf("want y and z again as if never delivered, have %s, delivery %d", e.ID, e.Delivery)
		}
	}
}

// A handler that does not come back, so that the process ends in order around it, counts as one that died.
func testStuck(t *testing.T, p *place) {
	one := func(o *queue.Options) { o.MaxDeliveries = 1 }
	q := p.open(t, one)
	publishIDs(t, q, "stuck")
	begin(t, q, nextID(t, q, "stuck", 1))
	end(t, q)
	q = p.open(t, one)
	untilState(t, q, "stuck", queue.StateDead)
}

func testProgress(t *testing.T, p *place) {
	wait := func(o *queue.Options) { o.AckWait = 2 * time.Second } // a machine may stand still for a moment
	q := p.open(t, wait)
	publishIDs(t, q, "x")
	e := nextID(t, q, "x", 1)
	other := q
	if p.name == "cluster" {
		other = p.elsewhere(t).open(t, wait)
	}
	nothing(t, other, 5*time.Second)
	ack(t, q, e)
	untilState(t, q, "x", queue.StateProcessed)
}

func testGone(t *testing.T, p *place) {
	c := startChild(t, p.options())
	c.doing("ok", "publish x 2")
	c.doing("x0 1", "next")
	var q *queue.Queue
	if p.name == "cluster" {
		q = p.elsewhere(t).open(t)
		nothing(t, q, 2*ackWait)
	}
	c.kill()
	if q == nil {
		q = p.open(t)
	}
	for range 2 { // in any order: what the server knew of them may have died, too
		e := next(t, q)
		if e.Delivery != 1 {
			t.Errorf("%s: want delivery 1, have %d", e.ID, e.Delivery)
		}
		ack(t, q, e)
	}
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
}

func testStats(t *testing.T, p *place) {
	q := p.open(t)
	publish(t, q, makeSome("x", 10)...)
	publish(t, q, make1("x0"))
	a, b, c := next(t, q), next(t, q), next(t, q)
	begin(t, q, a)
	ack(t, q, a)
	if err := q.Dead(b.Receipt, errors.New("bad")); err != nil {
		t.Fatal(err)
	}
	retry(t, q, c, time.Hour)
	var s queue.Stats
	until(t, "all is counted", func() bool {
		var err error
		s, err = q.Stats(within(t))
		return err == nil && s.Accepted == 10 && s.Processed == 1 && s.Dead == 1 && s.Retried == 1 && s.DeadLetters == 1 && int(s.Waiting)+s.InFlight == 8
	})
	if s.Bytes == 0 || s.OldestAge <= 0 || s.OldestAge > 2*patience || s.Publish.Count != 2 || s.Handle.Count != 1 || s.Publish.P99 < s.Publish.P50 || s.MaxBytes == 0 || len(s.Lost) != 0 {
		t.Errorf("want bytes, age and latencies, have %+v", s)
	}
	if err := q.Err(); err != nil {
		t.Errorf("want no error, have %v", err)
	}
}

func testInFlight(t *testing.T, p *place) {
	q := p.open(t, func(o *queue.Options) { o.InFlight = 2 })
	publish(t, q, makeSome("x", 5)...)
	a := nextID(t, q, "x0", 1)
	b := nextID(t, q, "x1", 1)
	nothing(t, q, 200*time.Millisecond)
	ack(t, q, b)
	ack(t, q, nextID(t, q, "x2", 1))
	ack(t, q, a)
	ack(t, q, nextID(t, q, "x3", 1))
	ack(t, q, nextID(t, q, "x4", 1))
}
