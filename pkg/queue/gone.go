package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// starveTime is how long requests for events may fail until it is called a trouble. A cluster has a new leader in two seconds.
const starveTime = 5 * time.Second

// errNoStream is what is said of a stream that somebody deleted, or that was lost with a node.
var errNoStream = errors.New("is gone from the server, with what was in it")

// made is what is known of the streams and the consumer on the server.
type made struct {
	mu    sync.Mutex
	told  map[string]bool // what is gone, until it is made again
	since time.Time       // when the consumer was made
}

// lossOf says what is lost with a stream.
func lossOf(stream string) string {
	switch stream {
	case streamEvents:
		return "the events that waited are lost"
	case streamDone:
		return "the ids of what was processed are accepted again"
	case streamDead:
		return "the dead letters are lost"
	}
	return "the attempts are counted anew"
}

// remake makes again what is gone of the streams and the consumer, and tells so, once for each. To refuse all that is new
// would not bring back what is lost.
func (q *Queue) remake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	q.made.mu.Lock()
	defer q.made.mu.Unlock()
	for _, want := range q.streams() {
		_, err := q.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			q.gone(want.Name, func() {
				q.log.Error("queue: a stream is gone from the server, it is made again, empty: "+lossOf(want.Name), "stream", want.Name)
			})
			// No sequence is used twice: what is still in flight, here or elsewhere, would settle another event. Nobody publishes a
			// million events a second, so the clock is ahead of them all.
			want.FirstSeq = uint64(time.Now().UnixMicro())
			_, err = q.js.CreateStream(ctx, want)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		delete(q.made.told, want.Name)
	}
	_, err := q.js.Consumer(ctx, streamEvents, consumerName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		q.gone(consumerName, func() {
			q.log.Warn("queue: the consumer is gone from the server, it is made again; what other replicas have in flight comes twice",
				"consumer", consumerName)
		})
	}
	c, err := q.createConsumer(ctx)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", consumerName, err)
	}
	delete(q.made.told, consumerName)
	if since := c.CachedInfo().Created; !since.Equal(q.made.since) { // it knows nothing of earlier deliveries
		info, err := q.streamInfo(ctx, streamEvents)
		if err != nil {
			return err
		}
		q.doubt.Store(info.State.LastSeq)
		q.made.since = since
	}
	return nil
}

// gone calls tell if that was not told yet. The lock is held.
func (q *Queue) gone(what string, tell func()) {
	if q.made.told == nil {
		q.made.told = map[string]bool{}
	}
	if !q.made.told[what] {
		q.made.told[what] = true
		tell()
	}
}

// starves notes that a request for events failed.
func (q *Queue) starves(err error) {
	if r := q.reach.Load(); q.stopped.Err() != nil || r != nil && r.err != nil { // it is known why
		return
	}
	old := q.starved.Load()
	if old == nil {
		q.log.Debug("queue: fetch", "error", err)
		q.starved.Store(&reachable{since: time.Now(), err: err})
		return
	}
	now := &reachable{since: old.since, err: err, told: old.told}
	if !now.told && time.Since(now.since) > starveTime {
		now.told = true
		q.log.Warn("queue: no events are delivered", "error", err)
	}
	q.starved.Store(now)
}

// fed notes that the server took a request for events.
func (q *Queue) fed() {
	if old := q.starved.Swap(nil); old != nil && old.told {
		q.log.Info("queue: events are delivered again", "after", time.Since(old.since).Round(time.Second))
	}
}
