package queue

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/worker"
)

const (
	// DefaultMaxBytes bounds the bodies that wait: a tenth of a small server's memory.
	DefaultMaxBytes = 64 << 20
	// DefaultMaxDeliveries is how often an event is tried: enough for a dependency to come back, with the pauses between.
	DefaultMaxDeliveries = 5
	// overhead is what an event weighs beyond its texts: the entry, the indexes, the allocator.
	overhead = 512
	// remembered is how many settled events can still be looked up and are known as duplicates: some ten MiB.
	remembered = 100_000
)

// MemoryOptions bounds a Memory.
type MemoryOptions struct {
	MaxBytes      int64 // of what waits and is in flight; 0: DefaultMaxBytes
	MaxDeliveries int   // of one event, then it is dead; 0: DefaultMaxDeliveries
}

// Memory is a bounded queue in memory. All methods may be called from any goroutine.
type Memory struct {
	opts MemoryOptions

	mu       sync.Mutex
	closed   bool
	wake     chan struct{} // closed and replaced when something may have become ready
	last     uint64        // sequence that was given out
	first    uint64        // no sequence below it is open
	ready    queueOf       // by sequence, so that what comes back keeps its place
	delayed  queueOf       // by due time
	inFlight map[uint64]*entry
	open     map[uint64]*entry // by sequence: all that is neither processed nor dead
	byID     map[string]*entry
	settled  []*entry // ring of those that are processed or dead
	oldest   int      // in settled
	stats    Stats
}

type entry struct {
	event event.Event
	state State
	due   time.Time
}

// NewMemory returns an empty queue.
func NewMemory(o MemoryOptions) *Memory {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxDeliveries == 0 {
		o.MaxDeliveries = DefaultMaxDeliveries
	}
	return &Memory{opts: o, wake: make(chan struct{}), inFlight: map[uint64]*entry{}, open: map[uint64]*entry{}, byID: map[string]*entry{},
		ready:   queueOf{less: func(a, b *entry) bool { return a.event.Sequence < b.event.Sequence }},
		delayed: queueOf{less: func(a, b *entry) bool { return a.due.Before(b.due) }}}
}

// Publish accepts all the events or none, and returns an answer for each, in their order. An id that is known, or
// stands twice among them, is answered as a duplicate. Sequence and time are assigned here; bodies are copied. It
// doesn't block. Errors: ErrFull, ErrClosed, and one that names the event whose envelope is bad.
func (q *Memory) Publish(_ context.Context, events ...event.Event) ([]Accepted, error) {
	for i := range events {
		if err := events[i].Check(); err != nil {
			return nil, fmt.Errorf("publish event %d: %w", i+1, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	if q.stats.Bytes+q.weight(events) > q.opts.MaxBytes {
		q.stats.Rejected += uint64(len(events))
		return nil, ErrFull
	}
	answers := make([]Accepted, len(events))
	now := time.Now()
	for i, e := range events {
		known, ok := q.byID[e.ID]
		if !ok {
			known = q.accept(e, now)
		}
		answers[i] = Accepted{ID: e.ID, Sequence: known.event.Sequence, Duplicate: ok}
	}
	q.wakeAll()
	return answers, nil
}

// weight is what the events would add to the queue.
func (q *Memory) weight(events []event.Event) (sum int64) {
	for i := range events {
		if _, ok := q.byID[events[i].ID]; !ok {
			sum += weight(&events[i])
		}
	}
	return sum
}

func weight(e *event.Event) int64 { return int64(e.Size()) + overhead }

func (q *Memory) accept(e event.Event, now time.Time) *entry {
	q.last++
	e.Sequence, e.Time, e.Delivery = q.last, now, 0
	e.Body, e.Receipt = bytes.Clone(e.Body), nil
	n := &entry{event: e, state: StateAccepted}
	q.byID[e.ID], q.open[e.Sequence] = n, n
	heap.Push(&q.ready, n)
	q.stats.Accepted++
	q.stats.Bytes += weight(&e)
	return n
}

func (q *Memory) wakeAll() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// Next returns the next event, in flight from then on until it is settled by its receipt. It blocks until there is
// one, parking the worker of ctx, and ends with ctx's cause or ErrClosed.
func (q *Memory) Next(ctx context.Context) (event.Event, error) {
	self := worker.FromContext(ctx)
	for {
		e, wake, wait, err := q.take()
		if e != nil || err != nil {
			self.Beat()
			return deref(e), err
		}
		self.Park(&waiting)
		ok := await(ctx, wake, wait)
		self.Unpark()
		if !ok {
			return event.Event{}, context.Cause(ctx)
		}
	}
}

var waiting = "queue"

func deref(e *event.Event) event.Event {
	if e == nil {
		return event.Event{}
	}
	return *e
}

// await waits for wake, for d if it is not 0, or for the end of ctx, which it tells by false.
func await(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	var due <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-wake:
	case <-due:
	case <-ctx.Done():
		return false
	}
	return true
}

// take returns the next event, or what to wait for.
func (q *Memory) take() (*event.Event, <-chan struct{}, time.Duration, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, nil, 0, ErrClosed
	}
	now := time.Now()
	for len(q.delayed.list) > 0 && !q.delayed.list[0].due.After(now) {
		heap.Push(&q.ready, heap.Pop(&q.delayed))
	}
	if len(q.ready.list) == 0 {
		var wait time.Duration
		if len(q.delayed.list) > 0 {
			wait = q.delayed.list[0].due.Sub(now)
		}
		return nil, q.wake, wait, nil
	}
	n := heap.Pop(&q.ready).(*entry)
	n.event.Delivery++
	q.inFlight[n.event.Sequence] = n
	e := n.event
	e.Receipt = binary.BigEndian.AppendUint64(nil, e.Sequence)
	return &e, nil, 0, nil
}

// Ack settles a delivery: the event was handled. It fails with ErrReceipt if it was settled before.
func (q *Memory) Ack(_ context.Context, receipt []byte) error {
	return q.settle(receipt, StateProcessed)
}

// Dead settles a delivery: the event can't be handled and goes to the dead letters.
func (q *Memory) Dead(_ context.Context, receipt []byte) error { return q.settle(receipt, StateDead) }

// Retry settles a delivery: the event shall be delivered again after the pause. If this was its last delivery, it is
// dead, and the state that is returned says so.
func (q *Memory) Retry(_ context.Context, receipt []byte, pause time.Duration) (State, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, err := q.delivery(receipt)
	if err != nil {
		return "", err
	}
	if int(n.event.Delivery) >= q.opts.MaxDeliveries {
		q.finish(n, StateDead)
		return StateDead, nil
	}
	n.due = time.Now().Add(pause)
	heap.Push(&q.delayed, n)
	q.stats.Retried++
	q.wakeAll()
	return StateAccepted, nil
}

func (q *Memory) settle(receipt []byte, s State) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, err := q.delivery(receipt)
	if err != nil {
		return err
	}
	q.finish(n, s)
	return nil
}

// delivery takes what the receipt names out of flight.
func (q *Memory) delivery(receipt []byte) (*entry, error) {
	if len(receipt) != 8 {
		return nil, ErrReceipt
	}
	sequence := binary.BigEndian.Uint64(receipt)
	n := q.inFlight[sequence]
	if n == nil {
		return nil, ErrReceipt
	}
	delete(q.inFlight, sequence)
	return n, nil
}

// finish makes an entry one that is only remembered.
func (q *Memory) finish(n *entry, s State) {
	if n.state = s; s == StateDead {
		q.stats.Dead++
	} else {
		q.stats.Processed++
	}
	q.stats.Bytes -= weight(&n.event)
	delete(q.open, n.event.Sequence)
	n.event = event.Event{ID: n.event.ID, Sequence: n.event.Sequence, Delivery: n.event.Delivery}
	if len(q.settled) < remembered {
		q.settled = append(q.settled, n)
		return
	}
	delete(q.byID, q.settled[q.oldest].event.ID)
	q.settled[q.oldest] = n
	q.oldest = (q.oldest + 1) % remembered
}

// Status tells where the event is; ErrUnknown if it was never accepted, or so long ago that it is forgotten.
func (q *Memory) Status(_ context.Context, id string) (Status, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.byID[id]
	if n == nil {
		return Status{}, ErrUnknown
	}
	return Status{ID: id, Sequence: n.event.Sequence, State: n.state, Deliveries: n.event.Delivery}, nil
}

// Stats returns the counts.
func (q *Memory) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Waiting, s.InFlight = len(q.ready.list)+len(q.delayed.list), len(q.inFlight)
	for ; q.first <= q.last; q.first++ {
		if n := q.open[q.first]; n != nil {
			s.OldestAge = time.Since(n.event.Time)
			break
		}
	}
	return s
}

// Close ends every Next with ErrClosed and refuses what comes. It returns how many events are lost by that.
func (q *Memory) Close() (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.wakeAll()
	}
	return len(q.open)
}

// queueOf is a heap of entries in the order of less.
type queueOf struct {
	list []*entry
	less func(a, b *entry) bool
}

func (h *queueOf) Len() int           { return len(h.list) }
func (h *queueOf) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }
func (h *queueOf) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *queueOf) Push(x any)         { h.list = append(h.list, x.(*entry)) }
func (h *queueOf) Pop() any {
	n := len(h.list) - 1
	x := h.list[n]
	h.list[n] = nil
	h.list = h.list[:n]
	return x
}
