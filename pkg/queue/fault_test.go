package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"example.com/base-app/pkg/queue"
)

// A fault that somebody wants makes the queue unavailable for that call, and costs no event.
func TestAFaultCostsTheCallAndNoEvent(t *testing.T) {
	errWanted := errors.New("wanted")
	var at atomic.Value
	at.Store("")
	q := embedded(t).open(t, func(o *queue.Options) {
		o.Fault = func(_ context.Context, point string) error {
			if at.Load() == point {
				return errWanted
			}
			return nil
		}
	})
	publishIDs(t, q, "a")

	at.Store("queue.publish")
	if _, err := q.Publish(within(t), make1("b")); !errors.Is(err, errWanted) || !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("want an unavailable queue because of the fault, have %v", err)
	}
	if s, err := q.Stats(within(t)); err != nil || s.Rejected != 1 || s.Accepted != 1 {
		t.Errorf("want 1 accepted and 1 rejected, have %+v, %v", s, err)
	}

	at.Store("queue.next")
	if e, err := q.Next(within(t)); !errors.Is(err, errWanted) {
		t.Errorf("want the fault, have %v, %v", e, err)
	}

	at.Store("")
	ack(t, q, nextID(t, q, "a", 1))
}
