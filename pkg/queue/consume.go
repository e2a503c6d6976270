package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/worker"
	"github.com/nats-io/nats.go"
)

// delivery is one event in flight.
type delivery struct {
	event    event.Event
	reply    string // where the server wants to be told
	token    uint32 // tells this delivery from the event's others
	suspect  bool   // an attempt before this one did not end
	handed   bool
	settling bool
	verdict  string // it is dead because of this, and not handled again
	slot     int    // in the file of what is handled, -1
	begun    time.Time
}

// flight is what was delivered to this process and not settled.
type flight struct {
	mu     sync.Mutex
	limit  int
	events map[uint64]*delivery // by sequence
	ready  []*delivery          // not handed out yet
	handed int
	alone  bool // a suspect is handed out: nothing else is
	bytes  int
	tokens uint32
	purged uint64             // up to this sequence nothing is delivered any more
	cancel context.CancelFunc // of the request that waits
}

// purge forgets what was fetched and not handed out, up to the sequence; the server has forgotten it already.
func (f *flight) purge(last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.purged = max(f.purged, last)
	f.ready = slices.DeleteFunc(f.ready, func(d *delivery) bool {
		if d.event.Sequence > last {
			return false
		}
		delete(f.events, d.event.Sequence)
		f.bytes -= d.event.Size()
		return true
	})
}

func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// arrive makes a message an event in flight.
func (q *Queue) arrive(m *nats.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	sequence := meta.Sequence.Stream
	q.flight.mu.Lock()
	if held := q.flight.events[sequence]; held != nil { // we were late with a sign of life; it is still here
		held.reply = m.Reply
		q.flight.mu.Unlock()
		return nil
	}
	q.flight.mu.Unlock()
	e, err := event.Decode(m.Data)
	if err != nil {
		return q.bury(m, sequence, err)
	}
	e.Sequence, e.Delivery = sequence, 1
	d := &delivery{event: e, reply: m.Reply, slot: -1}
	if meta.NumDelivered > 1 || sequence <= q.doubt.Load() || q.history.has(e.ID) {
		ctx, cancel := context.WithTimeout(q.stopped, requestTime)
		defer cancel()
		if done, err := q.remember(ctx, d); done || err != nil {
			return err
		}
	}
	q.flight.mu.Lock()
	defer q.flight.mu.Unlock()
	if sequence <= q.flight.purged { // it was on its way
		return nil
	}
	q.flight.tokens++
	d.token = q.flight.tokens
	d.event.Receipt = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, sequence), d.token)
	q.flight.events[sequence] = d
	q.flight.bytes += d.event.Size()
	if d.verdict == "" && int(d.event.Delivery) > q.opts.MaxDeliveries {
		d.verdict = "the process ended while it was handled" // with its last delivery
	}
	if d.verdict != "" {
		d.event.Delivery--
		d.handed = true
		q.flight.handed++
		q.settleLocked(d, settlement{delivery: d, kind: settleDead, reason: d.verdict})
		return nil
	}
	q.flight.ready = append(q.flight.ready, d)
	signal(q.ready)
	return nil
}

// Next returns the next event, in flight from then on until it is settled by its receipt. Its Delivery counts the
// attempts, this one included. It blocks until there is one, parking the worker of ctx, and ends with ctx's cause,
// ErrClosed, or the error that made the queue unusable: the process must end then.
func (q *Queue) Next(ctx context.Context) (event.Event, error) {
	if err := q.opts.Fault(ctx, "queue.next"); err != nil {
		return event.Event{}, err
	}
	self := worker.FromContext(ctx)
	for {
		if e, ok := q.take(); ok {
			self.Beat()
			return e, nil
		}
		self.Park(&waiting)
		select {
		case <-q.ready:
			self.Unpark()
		case <-q.failed:
			self.Unpark()
			return event.Event{}, q.cause
		case <-q.stopped.Done():
			self.Unpark()
			return event.Event{}, ErrClosed
		case <-ctx.Done():
			self.Unpark()
			return event.Event{}, context.Cause(ctx)
		}
	}
}

var waiting = "queue"

// take hands out the first event, unless a suspect is handled, or the first is one and others are.
func (q *Queue) take() (event.Event, bool) {
	f := &q.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if q.stopped.Err() != nil || len(f.ready) == 0 || f.alone || f.ready[0].suspect && f.handed > 0 {
		return event.Event{}, false
	}
	d := f.ready[0]
	f.ready[0] = nil
	f.ready = f.ready[1:]
	d.handed = true
	f.handed++
	f.alone = d.suspect
	if len(f.ready) > 0 {
		signal(q.ready) // for another caller
	}
	return d.event, true
}

// delivery finds what a receipt names. The lock is held.
func (f *flight) delivery(receipt []byte) (*delivery, error) {
	if len(receipt) != 12 {
		return nil, ErrReceipt
	}
	d := f.events[binary.BigEndian.Uint64(receipt)]
	if d == nil || !d.handed || d.settling || d.token != binary.BigEndian.Uint32(receipt[8:]) {
		return nil, ErrReceipt
	}
	return d, nil
}

// progress tells the server that what is in flight is alive, so that waiting in a socket is no reason to deliver it
// to somebody else.
func (q *Queue) progress() {
	tick := time.NewTicker(q.opts.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-q.flush:
			return
		}
		for _, reply := range q.flight.replies() {
			_ = q.nc.Publish(reply, []byte("+WPI")) // without a connection it is delivered again, which Ack bears
		}
	}
}

func (f *flight) replies() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]string, 0, len(f.events))
	for _, d := range f.events {
		all = append(all, d.reply)
	}
	return all
}

// giveBack tells the server that what is in flight may be delivered at once. The server keeps that over its own restart
// only if it is told so with a delay, and by its answer to the last it has done them all.
func (q *Queue) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	now := []byte(`-NAK {"delay": 1}`)
	replies := q.flight.replies()
	err := q.nc.FlushWithContext(ctx)
	for i := 0; i < len(replies) && err == nil; i++ {
		if i < len(replies)-1 {
			err = q.nc.Publish(replies[i], now)
		} else {
			_, err = q.nc.RequestWithContext(ctx, replies[i], now)
		}
	}
	if err != nil {
		q.log.Warn("queue: what was in flight could not be given back, it comes again after the ack wait", "count", len(replies), "error", err)
	}
}

// bury makes a dead letter of a message that is no event of ours: nobody could handle it.
func (q *Queue) bury(m *nats.Msg, sequence uint64, cause error) error {
	q.log.Error("queue: what is stored is not an event, it goes to the dead letters",
		"subject", m.Subject, "sequence", sequence, "error", cause)
	id := (&stored{Subject: m.Subject}).id()
	ctx, cancel := context.WithTimeout(q.stopped, requestTime)
	defer cancel()
	letter := DeadLetter{ID: id, Sequence: sequence, Deliveries: 1, Reason: fmt.Sprintf("not an event: %v", cause)}
	if _, err := q.store(ctx, []*nats.Msg{letter.message(m.Data)}); err != nil {
		return err
	}
	q.counts.dead.Add(1)
	return m.Ack()
}
