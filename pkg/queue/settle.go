package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxSettle is how many ends share one write.
	maxSettle = 256
	// settlePause is waited when the ends can't be written, because the disk is full or the cluster without a leader.
	settlePause = 500 * time.Millisecond
	// deadPause is how long an event waits that should be a dead letter, while there is no room for dead letters.
	deadPause = time.Minute
)

type settleKind uint8

const (
	settleDone settleKind = iota
	settleRetry
	settleDead
)

// settlement is the end of a delivery.
type settlement struct {
	delivery *delivery
	kind     settleKind
	pause    time.Duration
	reason   string
	verdict  string // of a retry: it is dead because of this, but there is no room for it
}

// Begin tells that the handler begins with this delivery. Should the process die meanwhile, the next one finds it in a
// file, counts this attempt and delivers the event alone. It takes microseconds: the file outlives the process, and
// whether it outlives the machine doesn't matter here. ErrReceipt if the delivery was settled.
func (q *Queue) Begin(receipt []byte) error {
	q.flight.mu.Lock()
	defer q.flight.mu.Unlock()
	d, err := q.flight.delivery(receipt)
	if err != nil {
		return err
	}
	d.begun = time.Now()
	d.slot, err = q.slots.take(d.event.ID, d.event.Delivery)
	if err != nil {
		q.log.Error("queue: a crash during this event would not be counted", "id", d.event.ID, "error", err)
	}
	return nil
}

// Release takes a Begin back: the handler was interrupted, by the shutdown for example, and came back. The attempt doesn't
// count. The delivery stays in flight, until Close gives it back. ErrReceipt if it was settled.
func (q *Queue) Release(receipt []byte) error {
	q.flight.mu.Lock()
	defer q.flight.mu.Unlock()
	d, err := q.flight.delivery(receipt)
	if err != nil {
		return err
	}
	q.slots.release(d.slot)
	d.slot = -1
	return nil
}

// Ack settles a delivery: the event was handled. It doesn't block: that it is processed is written soon after, together
// with others. If the process dies before, the event is delivered again. ErrReceipt if it was settled before.
func (q *Queue) Ack(receipt []byte) error {
	_, err := q.settle(receipt, settlement{kind: settleDone})
	return err
}

// Dead settles a delivery: the event can't be handled and goes to the dead letters, where reason stands with it. It
// doesn't block. ErrReceipt if it was settled before.
func (q *Queue) Dead(receipt []byte, reason error) error {
	_, err := q.settle(receipt, settlement{kind: settleDead, reason: reason.Error()})
	return err
}

// Retry settles a delivery: the event shall be delivered again after the pause, because of reason. If this was its last
// delivery, or if the queue was purged since, it is dead, and the state that is returned says so. It doesn't block.
// ErrReceipt if it was settled before.
func (q *Queue) Retry(receipt []byte, pause time.Duration, reason error) (State, error) {
	return q.settle(receipt, settlement{kind: settleRetry, pause: pause, reason: reason.Error()})
}

func (q *Queue) settle(receipt []byte, s settlement) (State, error) {
	q.flight.mu.Lock()
	defer q.flight.mu.Unlock()
	d, err := q.flight.delivery(receipt)
	if err != nil {
		return "", err
	}
	s.delivery = d
	switch {
	case s.kind == settleRetry && d.event.Sequence <= q.flight.purged:
		s.kind, s.reason = settleDead, s.reason+" (and the queue was purged meanwhile, so that it can't come again)"
	case s.kind == settleRetry && int(d.event.Delivery) >= q.opts.MaxDeliveries:
		s.kind = settleDead
	}
	q.slots.release(d.slot)
	d.slot = -1
	if !d.begun.IsZero() {
		q.counts.handle.observe(time.Since(d.begun))
	}
	q.settleLocked(d, s)
	return [...]State{StateProcessed, StateAccepted, StateDead}[s.kind], nil
}

// settleLocked hands a settlement to the settler. There is a place for each event in flight. The lock is held.
func (q *Queue) settleLocked(d *delivery, s settlement) {
	d.settling = true
	q.settles <- s
}

// settleAll writes the ends of deliveries, and tells the server when they are written.
func (q *Queue) settleAll() {
	for {
		select {
		case s := <-q.settles:
			q.write(q.gather(s))
		case <-q.flush:
			for { // what came before is written; nothing comes after
				select {
				case s := <-q.settles:
					q.write(q.gather(s))
					continue
				default:
				}
				return
			}
		}
	}
}

func (q *Queue) gather(first settlement) []settlement {
	all := []settlement{first}
	for len(all) < maxSettle {
		select {
		case s := <-q.settles:
			all = append(all, s)
		default:
			return all
		}
	}
	return all
}

// write makes the ends durable, kind by kind, and then lets the server forget the deliveries.
func (q *Queue) write(all []settlement) {
	var kinds [3][]settlement
	for _, s := range all {
		kinds[s.kind] = append(kinds[s.kind], s)
	}
	for _, some := range kinds {
		if len(some) > 0 {
			q.writeKind(some)
		}
	}
}

func (q *Queue) writeKind(some []settlement) {
	msgs := make([]*nats.Msg, len(some))
	for i, s := range some {
		msgs[i] = s.record()
	}
	for told := false; ; {
		ctx, cancel := context.WithTimeout(q.work, requestTime)
		err := q.storeSome(ctx, msgs)
		cancel()
		if err == nil {
			if some[0].kind == settleDead && q.deadFull {
				q.deadFull = false
				q.log.Info("queue: there is room for dead letters again")
			}
			break
		}
		if errors.Is(err, ErrFull) && some[0].kind == settleDead {
			if len(some) > 1 { // there may be room for some of them
				for _, s := range some {
					q.writeKind([]settlement{s})
				}
				return
			}
			q.postpone(&some[0])
			msgs[0] = some[0].record()
			continue
		}
		if !told {
			told = true
			q.log.Warn("queue: the end of deliveries could not be written, trying again", "count", len(some), "error", err)
		}
		select {
		case <-time.After(settlePause):
		case <-q.failed:
			return
		case <-q.flush: // they are delivered again
			return
		}
	}
	for _, s := range some {
		q.release(s)
	}
}

// postpone keeps the verdict on an event that should be a dead letter until there is room for it: it comes again after a
// pause, and no handler sees it.
func (q *Queue) postpone(s *settlement) {
	if !q.deadFull {
		q.deadFull = true
		q.log.Error("queue: there is no room for more dead letters: look at them and replay or purge them; "+
			"until then the events wait that should be among them", "id", s.delivery.event.ID)
	}
	s.kind, s.pause = settleRetry, deadPause
	s.verdict = cmp.Or(headerText(s.reason), "no reason was given")
}

// record is what is written of the end of a delivery.
func (s *settlement) record() *nats.Msg {
	e := &s.delivery.event
	switch s.kind {
	case settleDone:
		return record(streamDone, e.ID, fate{e.Sequence, e.Delivery})
	case settleRetry:
		return record(streamTries, e.ID, attempts{e.Delivery, false, s.verdict})
	}
	letter := DeadLetter{ID: e.ID, Sequence: e.Sequence, Deliveries: e.Delivery, Reason: s.reason}
	kept := *e
	kept.Sequence, kept.Delivery, kept.Receipt = 0, 0, nil
	return letter.message(kept.Append(nil))
}

func record(stream, id string, v any) *nats.Msg {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("queue: record of %T: %v", v, err)) // numbers and booleans only
	}
	return &nats.Msg{Subject: subjectOf(stream, id), Data: data}
}

// release tells the server how it went, and makes room for the next. If the server doesn't hear it, the event is
// delivered again and found in DONE or DEAD.
func (q *Queue) release(s settlement) {
	d := s.delivery
	if s.kind != settleRetry && (d.event.Delivery > 1 || d.suspect) {
		q.forget(d.event.ID)
	}
	f := &q.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := "+ACK"
	switch s.kind {
	case settleDone:
		q.counts.processed.Add(1)
	case settleDead:
		q.counts.dead.Add(1)
	case settleRetry:
		q.counts.retried.Add(1)
		answer = fmt.Sprintf(`-NAK {"delay": %d}`, s.pause.Nanoseconds())
	}
	_ = q.nc.Publish(d.reply, []byte(answer)) // see above
	delete(f.events, d.event.Sequence)
	f.bytes -= d.event.Size()
	f.handed--
	if d.suspect {
		f.alone = false
	}
	signal(q.room)
	signal(q.ready)
}
