package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/queue"
)

// remove deletes something on the server, as its operator could.
func remove(t *testing.T, q *queue.Queue, what string) {
	t.Helper()
	m, err := q.Conn().RequestWithContext(within(t), "$JS.API."+what, nil)
	if err != nil || !strings.Contains(string(m.Data), `"success":true`) {
		t.Fatalf("%s: %s, %v", what, m.Data, err)
	}
}

func TestAConsumerThatIsGoneIsMadeAgain(t *testing.T) {
	for name, p := range map[string]*place{"embedded": embedded(t), "server": cluster(t, startNodes(t, 1), 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(log.String())
				}
			})
			q := p.open(t, log.into)
			publishIDs(t, q, "done", "tried")
			done, tried := nextID(t, q, "done", 1), nextID(t, q, "tried", 1)
			retry(t, q, tried, time.Second)
			until(t, "the retry is written", func() bool { s, err := q.Stats(within(t)); return err == nil && s.Retried == 1 })
			remove(t, q, "CONSUMER.DELETE.EVENTS.app")
			publishIDs(t, q, "late")
			nextID(t, q, "tried", 2)
			ack(t, q, nextID(t, q, "late", 1))
			ack(t, q, done)
			untilState(t, q, "done", queue.StateProcessed)
			if n := strings.Count(log.String(), "the consumer is gone"); n != 1 {
				t.Errorf("want it told once, have %d times: %s", n, log.String())
			}
			until(t, "all is well", func() bool { return q.Err() == nil })
		})
	}
}

func TestAStreamThatIsGoneIsToldByItsNameAndMadeAgain(t *testing.T) {
	t.Parallel()
	p := cluster(t, startNodes(t, 1), 0)
	var log logged
	q := p.open(t, log.into)
	publishIDs(t, q, "lost", "held")
	held := nextID(t, q, "lost", 1)
	remove(t, q, "STREAM.DELETE.EVENTS")
	until(t, "events are taken again", func() bool {
		_, err := q.Publish(within(t), make1("new"))
		return err == nil
	})
	e := next(t, q)
	if e.ID == "held" { // it was here already
		e = next(t, q)
	}
	if e.ID != "new" || e.Sequence <= held.Sequence+1 {
		t.Errorf("want the new event with a new sequence, have %s, %d", e.ID, e.Sequence)
	}
	ack(t, q, held) // must not settle one of the new
	untilState(t, q, "lost", queue.StateProcessed)
	if s, err := q.Status(within(t), "new"); err != nil || s.State != queue.StateAccepted {
		t.Errorf("want the new event unsettled, have %+v, %v", s, err)
	}
	ack(t, q, e)
	untilState(t, q, "new", queue.StateProcessed)
	others := []string{"DONE", "DEAD", "TRIES"}
	for _, s := range others {
		remove(t, q, "STREAM.DELETE."+s)
	}
	for _, s := range others {
		until(t, s+" is told", func() bool { return log.has("stream=" + s) })
	}
	until(t, "all is well", func() bool {
		_, err := q.Status(within(t), "x")
		return errors.Is(err, queue.ErrUnknown) && q.Err() == nil
	})
	if n := strings.Count(log.String(), "level=ERROR"); n != 4 {
		t.Errorf("want each told once, have %d errors: %s", n, log.String())
	}
}

func TestAStreamThatIsGoneIsNoUnknownEvent(t *testing.T) {
	t.Parallel()
	q := embedded(t).open(t)
	remove(t, q, "STREAM.DELETE.DONE")
	if _, err := q.Status(within(t), "x"); !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "stream DONE is gone") {
		t.Errorf("want an error that names the stream, have %v", err)
	}
}
