package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stats are this process's counts since its start, and the present depth of the whole queue.
type Stats struct {
	Accepted  uint64 `json:"accepted"`
	Rejected  uint64 `json:"rejected"`
	Processed uint64 `json:"processed"`
	Retried   uint64 `json:"retried"`
	Dead      uint64 `json:"dead"`

	InFlight    int           `json:"in_flight"` // delivered to this process and not settled
	Waiting     uint64        `json:"waiting"`   // all others in the queue, those in flight elsewhere among them
	Bytes       uint64        `json:"bytes"`     // on disk
	MaxBytes    int64         `json:"max_bytes"`
	OldestAge   time.Duration `json:"oldest_age_ns"`  // of what is in the queue; 0 if there is nothing
	DeadLetters uint64        `json:"dead_letters"`   // that wait for somebody to look at them
	Lost        []uint64      `json:"lost,omitempty"` // sequences of events whose record on disk was found damaged by this process

	Publish Latency `json:"publish"` // from the call to the answer
	Handle  Latency `json:"handle"`  // from Begin to the settlement
}

// Latency is a summary of durations, with an error of at most a fifth, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
}

type counts struct {
	accepted, rejected, processed, retried, dead atomic.Uint64
	publish, handle                              durations
}

// durations counts in buckets that grow by a fifth each, from a microsecond to half an hour.
type durations struct {
	buckets [buckets]atomic.Uint64
}

const (
	buckets = 120
	growth  = 1.2
)

func (d *durations) observe(t time.Duration) {
	i := int(math.Log(float64(max(t, time.Microsecond))/float64(time.Microsecond)) / math.Log(growth))
	d.buckets[min(i, buckets-1)].Add(1)
}

func (d *durations) latency() Latency {
	var n [buckets]uint64
	var l Latency
	for i := range n {
		n[i] = d.buckets[i].Load()
		l.Count += n[i]
	}
	at := func(share float64) float64 {
		rest := uint64(math.Ceil(share * float64(l.Count)))
		for i := range n {
			if n[i] >= rest {
				return math.Pow(growth, float64(i)+0.5) / 1000
			}
			rest -= n[i]
		}
		return 0
	}
	if l.Count > 0 {
		l.P50, l.P99 = at(0.5), at(0.99)
	}
	return l
}

// snapshotAge is how old an answer about the depth may be: probes and pages ask often.
const snapshotAge = time.Second

// snapshot is what the server said last about the streams.
type snapshot struct {
	mu           sync.Mutex
	taken        time.Time
	events, dead jetstream.StreamState
	err          error
}

// Stats returns the counts. It asks the server at most once a second, for at most statsTime. The error says why the queue
// takes no events at present.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	c := &q.counts
	s := Stats{Accepted: c.accepted.Load(), Rejected: c.rejected.Load(), Processed: c.processed.Load(),
		Retried: c.retried.Load(), Dead: c.dead.Load(),
		MaxBytes: q.opts.MaxBytes, Publish: c.publish.latency(), Handle: c.handle.latency()}
	q.flight.mu.Lock()
	s.InFlight = len(q.flight.events)
	q.flight.mu.Unlock()
	events, dead, err := q.look(ctx)
	if events.Msgs > 0 {
		s.OldestAge = max(time.Since(events.FirstTime), 0)
	}
	s.Waiting, s.Bytes, s.DeadLetters = events.Msgs-min(events.Msgs, uint64(s.InFlight)), events.Bytes, dead.Msgs
	if q.server != nil {
		s.Lost = q.server.losses()
	}
	return s, errors.Join(err, q.Err())
}

// statsTime bounds the question to the server.
const statsTime = time.Second

func (q *Queue) look(ctx context.Context) (events, dead jetstream.StreamState, err error) {
	n := &q.snapshot
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.taken) < snapshotAge {
		return n.events, n.dead, n.err
	}
	ctx, cancel := context.WithTimeout(ctx, statsTime)
	defer cancel()
	n.err = nil
	for stream, state := range map[string]*jetstream.StreamState{streamEvents: &n.events, streamDead: &n.dead} {
		info, err := q.streamInfo(ctx, stream)
		if err != nil {
			n.err = err
			continue
		}
		*state = info.State
	}
	n.taken = time.Now()
	return n.events, n.dead, n.err
}

func (q *Queue) streamInfo(ctx context.Context, stream string) (jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	err := q.request(ctx, "STREAM.INFO."+stream, struct{}{}, &info)
	return info, err
}

// Err says why the queue takes or delivers no events: the disk is full, the connection is lost, the streams are gone, or it
// is unusable and the process must end. Nil if it does both. It asks nobody.
func (q *Queue) Err() error {
	select {
	case <-q.failed:
		return q.cause
	default:
	}
	if q.server != nil {
		if err := q.server.space(0); err != nil {
			return unavailable(err)
		}
	}
	if r := q.reach.Load(); r != nil && r.err != nil {
		return unavailable(fmt.Errorf("no connection for %v: %w", time.Since(r.since).Round(time.Second), r.err))
	}
	if r := q.led.Load(); r != nil && r.err != nil {
		return unavailable(fmt.Errorf("no answer from the cluster for %v: %w", time.Since(r.since).Round(time.Second), r.err))
	}
	if r := q.starved.Load(); r != nil && time.Since(r.since) > starveTime {
		return unavailable(fmt.Errorf("no events are delivered for %v: %w", time.Since(r.since).Round(time.Second), r.err))
	}
	return nil
}

// probeEvery is how old Err's knowledge of the cluster may be.
const probeEvery = 2 * time.Second

// probe asks the streams' leaders for a sign of life: a node without a majority keeps its clients, and says nothing.
func (q *Queue) probe() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-q.flush:
			return
		}
		ctx, cancel := context.WithTimeout(q.stopped, probeEvery)
		err := q.probeStreams(ctx)
		cancel()
		if old := q.led.Load(); err == nil || q.stopped.Err() != nil {
			q.led.Store(nil)
		} else if old == nil {
			q.led.Store(&reachable{since: time.Now(), err: err})
		}
	}
}

func (q *Queue) probeStreams(ctx context.Context) error {
	for _, s := range []string{streamEvents, streamDone, streamDead, streamTries} {
		info, err := q.streamInfo(ctx, s)
		if errors.Is(err, errNoStream) {
			err = errors.Join(err, q.remake(q.stopped)) // the next probe sees it there
		}
		if err == nil {
			err = majority(info.Cluster)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// silentAfter is when a replica counts as gone: they speak every second.
const silentAfter = 5 * time.Second

// majority tells whether enough replicas are there to store an event. A leader that lost them answers for a while.
func majority(c *jetstream.ClusterInfo) error {
	if c == nil {
		return nil
	}
	there := 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < silentAfter {
			there++
		}
	}
	if all := len(c.Replicas) + 1; 2*there <= all {
		return fmt.Errorf("only %d of %d replicas are there", there, all)
	}
	return nil
}
