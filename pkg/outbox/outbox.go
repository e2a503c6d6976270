// Package outbox is the one bounded background sender under all that leaves the process: alerts, job pings, metrics, syslog.
//
//	Post ─► queue, bounded ─► batch ─► Deliver ─► delivered
//	              │                     │   ▲ ├──► refused (Final)
//	              ▼ full                ▼   │ │
//	           dropped                  pause └──► lost, when Close has no time left
//
// It promises that Post never blocks; that no more waits than Options says, and what is dropped is counted; that what
// fails is tried again after a pause that grows, with jitter, or after the time that the receiver asked for (RetryAfter);
// that items arrive in the order of Post; that a panic in Deliver costs its batch and nothing else; and that Close ends in
// time.
//
// It does not survive the process: what waits is in memory. It knows no protocol, and does not judge what is worth sending:
// limits of storms, secrets and encoding are its caller's. A Deliver that ignores its context keeps its goroutine, though not
// Close's caller.
package outbox

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"example.com/base-app/pkg/warnlimit"
)

// Full is what gives way when no more may wait.
type Full uint8

// The policies.
const (
	DropOldest Full = iota // for what is superseded: the newest shows how things are
	DropNewest             // for a record: the beginning of an outage shows more than its end
)

// Outcome is what became of an item.
type Outcome uint8

// The outcomes.
const (
	Lost      Outcome = iota // given up at the end, though nobody refused it: to send it again may help
	Delivered                // the receiver took it
	Refused                  // the receiver never will: Deliver's error was Final
)

// askedMost bounds a receiver's RetryAfter: none can silence us for a day.
const askedMost = 10 * time.Minute

// Options are an Outbox's. Name, Deliver, and one of Items and Bytes are required.
type Options[T any] struct {
	Name string // of the sender, for the error of a panic

	// Deliver sends a batch, all or nothing. Any error is followed by another try, after a pause, unless it is Final. It is
	// called by one goroutine, and must return soon after ctx has ended.
	Deliver func(ctx context.Context, batch []T) error
	Timeout time.Duration // of one Deliver; 0: none
	Batch   int           // the most items of one Deliver; 0: 1

	Items int         // the most that wait, beside those that Deliver has; 0: not bounded by number
	Bytes int         // the most bytes that wait; 0: not bounded by size
	Size  func(T) int // how many bytes an item has; required with Bytes
	Full  Full

	First, Longest time.Duration // the pause after the first failure in a row, and the longest; 0: a second, a minute

	// Connect makes a connection that is kept, before the first delivery and after each failure, also while nothing waits. Its
	// error counts as a failure. Nil: there is none.
	Connect func(ctx context.Context) (Link, error)
	// Holds is how long no failure may follow a success until it counts: a peer may take a message and be gone. 0: at once.
	Holds time.Duration

	Warnings *warnlimit.Limiter // reports failures, and their end; nil: they are not reported
	// Outcome is called once for each item that Post did not return, by the goroutine that sends. Nil: not called.
	Outcome func(T, Outcome)
}

// Link is a connection that an Outbox keeps.
type Link struct {
	Gone   <-chan struct{} // closed when the receiver ended it
	Close  func() error    // ends it, and returns why it was Gone; called once
	Proven bool            // that it could be made proves that somebody is there; if not, only a delivery does
}

// Stats are an Outbox's counts.
type Stats struct {
	Waiting   int // now, without those that Deliver has
	Delivered uint64
	Refused   uint64
	Dropped   uint64 // lost, or never accepted: the queue was full, or closed
}

// Outbox sends items in the background. Its methods may be called from any goroutine.
type Outbox[T any] struct {
	o      Options[T]
	wake   chan struct{} // something was posted; it has room for one
	last   chan struct{} // closed when nothing more is posted
	done   chan struct{} // closed when the goroutine has ended
	life   context.Context
	cancel context.CancelFunc

	mu              sync.Mutex // guards what follows
	queue           []T        // oldest first
	bytes           int        // of the queue
	left            int        // items that wait or are tried
	lost            int        // items given up
	counts          [3]uint64  // by Outcome
	started, closed bool
}

// New returns an Outbox that keeps what is posted until Start.
func New[T any](o Options[T]) *Outbox[T] {
	o.First, o.Longest, o.Batch = cmp.Or(o.First, time.Second), cmp.Or(o.Longest, time.Minute), max(o.Batch, 1)
	if o.Size == nil {
		o.Size = func(T) int { return 0 }
	}
	b := &Outbox[T]{o: o, wake: make(chan struct{}, 1), last: make(chan struct{}), done: make(chan struct{})}
	b.life, b.cancel = context.WithCancel(context.Background())
	return b
}

// Start begins to send, in a goroutine that lives until Close. Later calls do nothing.
func (b *Outbox[T]) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started {
		b.started = true
		go b.run()
	}
}

// Post queues item. It returns what is dropped for that, and counted: older items, or item itself if the Outbox is closed or
// has no room for it. It does not block.
func (b *Outbox[T]) Post(item T) (dropped []T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := b.o.Size(item)
	b.queue, b.bytes, b.left = append(b.queue, item), b.bytes+size, b.left+1
	newest := b.closed || b.o.Full == DropNewest || b.o.Bytes > 0 && size > b.o.Bytes
	for b.closed && dropped == nil || b.o.Items > 0 && len(b.queue) > b.o.Items || b.o.Bytes > 0 && b.bytes > b.o.Bytes {
		i := 0
		if newest {
			i = len(b.queue) - 1
		}
		dropped = append(dropped, b.cut(i, i+1)...)
		b.left--
	}
	b.counts[Lost] += uint64(len(dropped))
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return dropped
}

// cut removes the items from i to j from the queue.
func (b *Outbox[T]) cut(i, j int) []T {
	items := slices.Clone(b.queue[i:j])
	b.queue = slices.Delete(b.queue, i, j)
	for _, item := range items {
		b.bytes -= b.o.Size(item)
	}
	return items
}

// Stats returns the counts so far.
func (b *Outbox[T]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{len(b.queue), b.counts[Delivered], b.counts[Refused], b.counts[Lost]}
}

// closeSlack is how long Close waits, when its context has ended, for a Deliver that ends with its own.
const closeSlack = 100 * time.Millisecond

// Close accepts no more items, tries each that is left once, until ctx ends, and gives up the rest. It returns when that is
// done, or 100 ms after ctx has ended. Lost is how many items were given up; err is ctx's cause if there was no time to try
// them all. What was never started is given up at once. A later call waits likewise.
func (b *Outbox[T]) Close(ctx context.Context) (lost int, err error) {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.last)
		if !b.started {
			b.started = true
			b.cancel()
			go b.run()
		}
	}
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-ctx.Done():
		if b.remaining() > 0 {
			err = context.Cause(ctx)
		}
		b.cancel()
		select {
		case <-b.done:
		case <-time.After(closeSlack):
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost + b.left, err
}

// remaining returns how many items wait or are tried.
func (b *Outbox[T]) remaining() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// Done is closed when the Outbox is closed and its goroutine has ended.
func (b *Outbox[T]) Done() <-chan struct{} { return b.done }
