package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// attempts is the record of an event in TRIES. JetStream counts deliveries, too, but not attempts: an event that
// waited in a socket while the process was killed was never tried, and after a crash its count may not be on the disk.
type attempts struct {
	Deliveries uint32 `json:"deliveries"`
	Suspect    bool   `json:"suspect"`        // the last one did not end: the process died
	Dead       string `json:"dead,omitempty"` // the reason why it should be a dead letter, for which there was no room
}

// history knows which ids had a record in TRIES when the queue was opened: after a crash the server may not know that it
// delivered them before. What fails later it does know.
type history struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

func (h *history) has(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.ids[id]
	return ok
}

func (h *history) add(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids == nil {
		h.ids = map[string]struct{}{}
	}
	h.ids[id] = struct{}{}
}

func (h *history) remove(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ids, id)
}

func (h *history) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ids)
}

// recall learns which events were tried before this process began, those that the crash of the last one interrupted
// among them.
func (q *Queue) recall(ctx context.Context, interrupted []attempt) error {
	for _, a := range interrupted {
		q.log.Warn("queue: the process died while it handled this event; it will be delivered alone", "id", a.ID, "delivery", a.Delivery)
		if _, err := retried(ctx, q, func(ctx context.Context) ([]uint64, error) {
			return q.store(ctx, []*nats.Msg{record(streamTries, a.ID, attempts{a.Delivery, true, ""})})
		}); err != nil {
			return fmt.Errorf("queue: record of an interrupted event: %w", err)
		}
	}
	if err := q.slots.clear(); err != nil {
		return err
	}
	stream, err := q.js.Stream(ctx, streamTries)
	if err != nil {
		return unavailable(err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("tries.*"))
	if err != nil {
		return unavailable(err)
	}
	for subject := range info.State.Subjects {
		q.history.add((&stored{Subject: subject}).id())
	}
	return nil
}

// remember fills in what was before this delivery. An event that was processed, and whose ack got lost, is settled
// here.
func (q *Queue) remember(ctx context.Context, d *delivery) (done bool, err error) {
	id := d.event.ID
	for _, stream := range []string{streamDone, streamDead} {
		m, err := q.last(ctx, stream, id)
		if err == nil {
			var f fate
			if stream == streamDead {
				letter, err := m.deadLetter()
				if err != nil {
					return false, err
				}
				f.Sequence = letter.Sequence
			} else if err := json.Unmarshal(m.Data, &f); err != nil {
				return false, err
			}
			if f.Sequence == d.event.Sequence { // else it was replayed, or its id is used again after Retention
				q.forget(id)
				return true, q.nc.Publish(d.reply, []byte("+ACK"))
			}
		} else if !errors.Is(err, ErrUnknown) {
			return false, err
		}
	}
	m, err := q.last(ctx, streamTries, id)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var a attempts
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return false, err
	}
	d.event.Delivery, d.suspect = a.Deliveries+1, a.Suspect
	d.verdict = a.Dead
	return false, nil
}

// forget removes an event's record from TRIES: it is settled.
func (q *Queue) forget(id string) {
	q.history.remove(id)
	ctx, cancel := context.WithTimeout(q.work, requestTime)
	defer cancel()
	var answer struct{}
	if err := q.request(ctx, "STREAM.PURGE."+streamTries, map[string]any{"filter": subjectOf(streamTries, id)}, &answer); err != nil {
		q.log.Warn("queue: record of an event's attempts was not removed", "id", id, "error", err)
	}
}
