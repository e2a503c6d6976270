// Package outbox is the one bounded background sender under all that leaves the process: alerts, job pings, metrics, syslog.
//
//	Post ─► queue, bounded ─► batch ─► Deliver ─► delivered
//	              │                     │   ▲ ├──► refused (Final)
//	              ▼ full                ▼   │ │
//	           dropped                  pause └──► lost, when Close has no time left
//
// It promises that Post never blocks; that no more waits than Options says, and what is dropped is counted; that what
// fails is tried again after a pause that grows from First to Longest, with jitter, or after the time that the receiver
// asked for (RetryAfter); that items arrive in the order of Post, each once as far as Deliver can tell; that a panic in
// Deliver costs its batch and nothing else; and that Close ends in time.
//
// It does not survive the process: what waits is in memory. It knows no protocol and no priorities, and it does not judge
// what is worth sending: limits of storms, secrets and encoding are its caller's. A Deliver that ignores its context keeps
// its goroutine, though not Close's caller.
package outbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"example.com/base-app/pkg/warnlimit"
)

// Full says what gives way when no more may wait.
type Full uint8

// The policies.
const (
	DropOldest Full = iota // for what is superseded: the newest says how things are
	DropNewest             // for a record: the beginning of an outage says more than its end
)

// Outcome is what became of an item that Post has taken.
type Outcome uint8

// The outcomes.
const (
	Lost      Outcome = iota // given up at the end, though nobody refused it: to send it again may help
	Delivered                // the receiver took it
	Refused                  // the receiver never will: Deliver's error was Final
)

// Options are an Outbox's. Name, Deliver, and one of Items and Bytes are required.
type Options[T any] struct {
	Name string // of the sender, as the error of a panic shows it

	// Deliver sends a batch, all or nothing, and returns when the receiver has it or ctx has ended. Any error is followed by
	// another try, after a pause, unless it is Final. It is called by one goroutine.
	Deliver func(ctx context.Context, batch []T) error
	Timeout time.Duration // of one Deliver; 0: none
	Batch   int           // the most items of one Deliver; 0: 1

	Items int         // the most that wait, beside those that Deliver has; 0: not bounded by number
	Bytes int         // the most bytes that wait; 0: not bounded by size
	Size  func(T) int // how many bytes an item has; required with Bytes
	Full  Full

	First, Longest time.Duration // the pause after the first failure in a row, and the longest; 0: a second, a minute
	LongestAsked   time.Duration // bounds a receiver's RetryAfter, so that none can silence us for a day; 0: ten minutes

	// Connect makes a connection that is kept, before the first delivery and after each failure, also while nothing waits. Its
	// error counts as a failure of Deliver. Nil: there is none.
	Connect func(ctx context.Context) (Link, error)
	// Holds is how long a success must not be followed by a failure until it counts as one: a peer may take what it is sent
	// and be gone. 0: it counts at once.
	Holds time.Duration

	// Warnings reports failures, and their end. Nil: they are not reported.
	Warnings *warnlimit.Limiter
	// Outcome is called once for each item that Post has taken and did not return later as dropped, by the goroutine that
	// sends: it must not call Close. Nil: not called.
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
	Dropped   uint64 // lost, or never taken: the queue was full, or closed
}

// Outbox sends items in the background. Its methods may be called from any goroutine.
type Outbox[T any] struct {
	o      Options[T]
	wake   chan struct{} // something was posted; it has room for one
	last   chan struct{} // closed when nothing more is posted
	done   chan struct{} // closed when the goroutine has ended
	life   context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows
	queue   []T        // oldest first
	bytes   int        // of the queue
	hand    int        // items that Deliver has
	lost    int        // items given up
	stats   Stats
	started bool
	closed  bool
}

// New returns an Outbox that keeps what is posted until Start.
func New[T any](o Options[T]) *Outbox[T] {
	orElse(&o.First, time.Second)
	orElse(&o.Longest, time.Minute)
	orElse(&o.LongestAsked, 10*time.Minute)
	o.Batch = max(o.Batch, 1)
	b := &Outbox[T]{o: o, wake: make(chan struct{}, 1), last: make(chan struct{}), done: make(chan struct{})}
	b.life, b.cancel = context.WithCancel(context.Background())
	return b
}

func orElse(d *time.Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = otherwise
	}
}

// Start begins to send, in a goroutine that lives until Close. Later calls do nothing.
func (b *Outbox[T]) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started && !b.closed {
		b.started = true
		go b.run()
	}
}

// Post queues item. It returns what is dropped for that, and counted: older items, or item itself if the Outbox is closed, is
// full with DropNewest, or never has so many bytes. It does not block.
func (b *Outbox[T]) Post(item T) (dropped []T) {
	b.mu.Lock()
	size := b.size(item)
	takes := !b.closed && (b.o.Bytes == 0 || size <= b.o.Bytes)
	for takes && b.o.Full == DropOldest && b.isFull(size) {
		dropped = append(dropped, b.shift())
	}
	if takes && !b.isFull(size) {
		b.queue, b.bytes = append(b.queue, item), b.bytes+size
	} else {
		dropped = append(dropped, item)
	}
	b.stats.Dropped += uint64(len(dropped))
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return dropped
}

// Full returns whether Post would drop an item of no bytes. It spares a caller the making of one.
func (b *Outbox[T]) Full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isFull(0)
}

func (b *Outbox[T]) isFull(size int) bool {
	return b.o.Items > 0 && len(b.queue) >= b.o.Items || b.o.Bytes > 0 && b.bytes+size > b.o.Bytes
}

func (b *Outbox[T]) size(item T) int {
	if b.o.Size == nil {
		return 0
	}
	return b.o.Size(item)
}

// shift removes the oldest item.
func (b *Outbox[T]) shift() (item T) {
	item = b.queue[0]
	clear(b.queue[:1]) // it is not to be held by its place
	b.queue, b.bytes = b.queue[1:], b.bytes-b.size(item)
	return item
}

// pop moves up to a batch from the queue into Deliver's hands.
func (b *Outbox[T]) pop() (batch []T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(batch) < b.o.Batch && len(b.queue) > 0 {
		batch = append(batch, b.shift())
	}
	b.hand = len(batch)
	return slices.Clip(batch)
}

// left returns how many items wait or are tried.
func (b *Outbox[T]) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) + b.hand
}

// Stats returns the counts so far.
func (b *Outbox[T]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Waiting = len(b.queue)
	return s
}

// closeSlack is how long Close waits, when its context has ended, for a Deliver that ends with its own.
const closeSlack = 100 * time.Millisecond

// Close takes no more items, tries each that is left once, until ctx ends, and gives up the rest. It returns when that is
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
		if b.left() > 0 {
			err = context.Cause(ctx)
		}
		b.cancel()
		slack := time.NewTimer(closeSlack)
		defer slack.Stop()
		select {
		case <-b.done:
		case <-slack.C:
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost + len(b.queue) + b.hand, err
}

// Done is closed when the Outbox is closed and its goroutine has ended.
func (b *Outbox[T]) Done() <-chan struct{} { return b.done }
