package queue_test

import (
	"fmt"
	"testing"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// What is in flight is bounded by weight, not by number alone: the server breaks a connection on which too much waits.
func TestHeavyEventsInFlightAreBoundedByTheirWeight(t *testing.T) {
	t.Parallel()
	const events = 72 // more than the server holds for a connection
	p := embedded(t)
	var log logged
	q := p.open(t, func(o *queue.Options) { o.InFlight = 1 })
	for i := 0; i < events; i += 8 {
		var batch []event.Event
		for j := range 8 {
			batch = append(batch, heavy(fmt.Sprint("b", i+j), 1024))
		}
		publish(t, q, batch...)
	}
	end(t, q)
	q = p.open(t, log.into, func(o *queue.Options) { o.InFlight = 256 })
	inFlightNow := func() int {
		s, _ := q.Stats(within(t)) // a server that is slow to answer says nothing of what is in flight here
		return s.InFlight
	}
	until(t, "several are in flight", func() bool { return inFlightNow() >= 8 })
	for i := range events {
		e := nextID(t, q, fmt.Sprint("b", i), 1)
		if have := inFlightNow(); have > 32 {
			t.Fatalf("want at most 32 MiB in flight, have %d events of 1 MiB", have)
		}
		ack(t, q, e)
	}
	if log.has("connection") {
		t.Errorf("want the connection kept, have %s", log.String())
	}
}
