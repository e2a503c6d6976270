// Package queue keeps the events between the moment when they were accepted and the moment when they were handled: on
// disk, in NATS JetStream, so that an accepted event outlives the process and the machine's power.
//
//	Publish ─► EVENTS ─► Next ─► Begin ─┬─ Ack ───► DONE
//	              ▲                     ├─ Retry ─► again after a pause; DEAD at the last delivery
//	           Replay                   └─ Dead ──► DEAD
//	              └───────────────────────────────────┘
//
// The server runs inside of this process by default, without a port and with its files in a folder of its own; or it is
// a cluster that somebody runs, named by URL. The code is the same, and so are the promises:
//
//   - Publish returns after the fsync (in a cluster: after most of the replicas have it).
//   - Each event is delivered in the order of arrival, at least once. It can come twice, after a crash for example.
//   - An event that failed, or during which the process died, MaxDeliveries times is a dead letter. One during which
//     the process died is delivered alone, so that it takes no others with it.
//   - The queue is bounded in bytes. What doesn't fit is refused, nothing is dropped.
//   - An id is accepted once while its event waits, and for Retention after it was processed.
//
// What was delivered and not settled stays in flight for as long as this process lives: nobody else gets it. So whoever
// takes events must settle each of them, or the process must end.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Defaults of the options.
const (
	// DefaultMaxBytes is a day of small events at some hundred a minute, and fits on any disk.
	DefaultMaxBytes = 1 << 30
	// DefaultMaxDeliveries is enough for a dependency to come back, with the pauses between.
	DefaultMaxDeliveries = 5
	// DefaultAckWait is how long a crash of another replica delays what it had. Shorter risks that a process which
	// stood still for a moment is taken for dead.
	DefaultAckWait = 5 * time.Second
	// DefaultInFlight keeps a few handlers busy, and lets their ends share a write to the disk.
	DefaultInFlight = 32
	// Retention is how long the fate of an event is known.
	Retention = 24 * time.Hour
)

// Options of a Queue. The zero value of a field means its default.
type Options struct {
	Dir           string        // folder for the queue's files, made if it is missing; one process at a time
	URL           string        // nats://a:4222,b:4222; empty: a server in this process
	Credentials   string        // a file in NATS's own format (.creds)
	CA, Cert, Key string        // files for TLS
	Replicas      int           // copies of each event in a cluster: 1 (the default), 3 or 5
	MaxBytes      int64         // what may wait, in bytes on disk
	MaxDeliveries int           // of one event, then it is dead
	AckWait       time.Duration // after which an event is delivered again if the process that had it is gone
	InFlight      int           // how many events may be delivered and not settled
	Log           *slog.Logger

	// Opening is told by Open, as soon as it is known, how long it may take at most. Nil: nobody.
	Opening func(atMost time.Duration) `json:"-"`

	// Fault is called by each Publish (queue.publish) and Next (queue.next) before anything else, the caller not parked. Its
	// error makes the queue unavailable for that Publish, and is Next's. For the injection of faults; nil if there is none.
	Fault func(ctx context.Context, point string) error `json:"-"` // the other options can be given to a process
}

// withDefaults returns the options that are used.
func (o Options) withDefaults() Options {
	if o.URL == "embedded" {
		o.URL = ""
	}
	o.Replicas = max(o.Replicas, 1)
	if o.URL == "" {
		o.Replicas = 1
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.MaxDeliveries = cmp.Or(o.MaxDeliveries, DefaultMaxDeliveries)
	o.AckWait = cmp.Or(o.AckWait, DefaultAckWait)
	o.InFlight = cmp.Or(o.InFlight, DefaultInFlight)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Opening == nil {
		o.Opening = func(time.Duration) {}
	}
	if o.Fault == nil {
		o.Fault = func(context.Context, string) error { return nil }
	}
	return o
}

// Queue is an open queue. All methods may be called from any goroutine.
type Queue struct {
	opts   Options
	log    *slog.Logger
	server *embedded // nil with a cluster
	nc     *nats.Conn
	js     jetstream.JetStream

	intake   chan *publication // what waits to be written
	settles  chan settlement   // what waits to be settled; each event in flight has its place there
	ready    chan struct{}     // a token: Next has something to look at
	room     chan struct{}     // a token: fetch has
	moves    chan struct{}     // held while dead letters are replayed, and while the queue is copied
	deaf     chan struct{}     // closed when the publisher has ended
	flush    chan struct{}     // closed by Close when the settler shall end
	failed   chan struct{}     // closed when the queue can't be trusted any more; cause says why
	fail     sync.Once
	cause    error
	takers   sync.WaitGroup  // publisher, fetcher
	settlers sync.WaitGroup  // settler, progress: they end after the takers
	stopped  context.Context // ends with Close: nothing new comes in, nothing more is delivered
	stop     context.CancelFunc
	work     context.Context // of what is under way when Close is called; ends closeTime after it
	giveUp   context.CancelFunc
	reach    atomic.Pointer[reachable] // the connection
	led      atomic.Pointer[reachable] // the stream's leader
	full     bool                      // as the publisher found it last
	starved  atomic.Pointer[reachable] // requests for events
	made     made
	deadFull bool   // there is no room for dead letters; the settler's
	waited   uint64 // events that Open found
	counts   counts
	snapshot snapshot

	flight  flight
	slots   *slots
	history history
	doubt   atomic.Uint64 // up to this sequence an event may have been processed before a crash, unknown to the server
}

// Errors that callers tell apart.
var (
	ErrFull        = fault.New(fault.KindDependency, "queue: full")
	ErrTooLarge    = fault.New(fault.KindUsage, "queue: larger than the whole queue")
	ErrUnavailable = fault.New(fault.KindDependency, "queue: not available")
	ErrClosed      = fault.New(fault.KindTerminated, "queue: closed")
	ErrUnknown     = fault.New(fault.KindUnhandled, "queue: unknown event")
	ErrReceipt     = fault.New(fault.KindUnhandled, "queue: no such delivery is in flight: it was settled already")
)

// State is where an event is on its way.
type State string

// The states of an event.
const (
	StateAccepted  State = "accepted" // waiting, or in flight
	StateProcessed State = "processed"
	StateDead      State = "dead"
)

// Open opens the queue and begins to fetch. It waits for the server until ctx ends, or for openTime if that is sooner;
// the error is then a dependency's. After an end that was not clean it reads all files, which takes longer
// the more there is. What a crash interrupted is found here, see Begin.
func Open(ctx context.Context, o Options) (*Queue, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fault.Config("make DATA_DIR writable", fmt.Errorf("queue: %w", err))
	}
	q := &Queue{opts: o, log: o.Log, intake: make(chan *publication, intakeLen), settles: make(chan settlement, o.InFlight),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1), moves: make(chan struct{}, 1),
		deaf: make(chan struct{}), flush: make(chan struct{}), failed: make(chan struct{}),
		flight: flight{events: map[uint64]*delivery{}, limit: o.InFlight}}
	q.stopped, q.stop = context.WithCancel(context.Background())
	q.work, q.giveUp = context.WithCancel(context.Background())
	if err := q.open(ctx); err != nil {
		q.stop()
		q.giveUp()
		down := q.disconnect(ctx)
		if q.slots != nil {
			_ = q.unlock(down, q.slots.close) // err says more
		}
		return nil, err
	}
	q.takers.Go(q.publisher)
	q.takers.Go(q.fetcher)
	q.settlers.Go(q.settleAll)
	q.settlers.Go(q.progress)
	if q.server == nil {
		q.settlers.Go(q.probe)
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) error {
	began := time.Now()
	interrupted, err := q.openSlots(filepath.Join(q.opts.Dir, "inflight"))
	if err != nil {
		return err
	}
	budget := openTime
	if q.opts.URL == "" {
		budget = startTime(q.opts.Dir, q.slots.clean)
	}
	q.opts.Opening(budget)
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if err := q.connect(ctx); err != nil {
		return err
	}
	if err := q.createStreams(ctx); err != nil {
		return err
	}
	if err := q.recall(ctx, interrupted); err != nil {
		return err
	}
	lost := 0
	if q.server != nil {
		lost = len(q.server.losses())
	}
	q.log.Info("queue: open", "waiting", q.waited, "lost", lost, "interrupted", len(interrupted), "clean", q.slots.clean,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// openTime bounds Open, without the reading of files: three nodes that start together find a leader in a few seconds.
const openTime = 30 * time.Second

// closeTime is what Close leaves to requests under way, and then again to giving back what is in flight: a server that
// hangs must not hold up the process's end.
const closeTime = 2 * time.Second

// doom makes the queue unusable: whoever calls it gets err.
func (q *Queue) doom(err error) {
	q.fail.Do(func() {
		q.cause = err
		close(q.failed)
	})
}

// Close ends it: Publish refuses at once, Next ends with ErrClosed, what was settled is written, and what is in flight
// is given back, so that the next process has it at once. It takes milliseconds, with a server that
// hangs some seconds; ctx is its deadline, after which what could not be written will be delivered again.
func (q *Queue) Close(ctx context.Context) error {
	if q.stopped.Err() != nil {
		return nil
	}
	q.stop()
	defer time.AfterFunc(closeTime, q.giveUp).Stop()
	defer q.giveUp()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.takers.Wait()
		close(q.flush)
		q.settlers.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("queue: close: %w", context.Cause(ctx))
	}
	q.giveBack(ctx)
	q.dropPulls(ctx)
	select {
	case <-q.failed: // nobody knows what is in the files
		return q.unlock(q.disconnect(ctx), q.slots.close)
	default:
		return q.unlock(q.disconnect(ctx), q.slots.end)
	}
}

// disconnect ends the connection and the server in this process. The channel is closed when that is done.
func (q *Queue) disconnect(ctx context.Context) (down <-chan struct{}) {
	if q.nc != nil {
		q.nc.Close()
	}
	if q.server != nil {
		return q.server.stop(ctx)
	}
	none := make(chan struct{})
	close(none)
	return none
}

// unlock gives the folder free by release, or later if a server still uses it.
func (q *Queue) unlock(down <-chan struct{}, release func() error) error {
	select {
	case <-down:
		return release()
	default:
	}
	go func() { // ends with the server
		<-down
		_ = q.slots.close()
	}()
	return errors.New("queue: close: the server in this process does not end")
}
