package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	dialTime      = 2 * time.Second        // to connect to one node
	reconnectWait = 250 * time.Millisecond // between two rounds of trying the nodes
	pingInterval  = 2 * time.Second        // a node that stands still is left after two of them
	// maxRefused is how often a server may refuse the connection: one that just starts or ends may do so once.
	maxRefused = 3
	// maxMessage is what the server must take in one message: an event of 1 MiB with its envelope.
	maxMessage = 2 << 20
	// oldestServer is the first with atomic batches.
	oldestServer = "2.12"
)

// reachable is the state of the connection to a cluster.
type reachable struct {
	since time.Time
	err   error // nil while connected
	told  bool
}

// connect starts the server in this process, or finds the cluster.
func (q *Queue) connect(ctx context.Context) error {
	options, err := q.natsOptions()
	if err != nil {
		return err
	}
	url := q.opts.URL
	if url == "" {
		if q.server, err = startEmbedded(ctx, q.opts, q.slots.clean, q.doom); err != nil {
			return err
		}
		options, url = append(options, nats.InProcessServer(q.server)), "embedded"
	}
	for refused := 0; ; {
		if q.nc, err = nats.Connect(url, options...); err == nil {
			break
		}
		if wrong := connectError(err); wrong != nil {
			if refused++; refused == maxRefused {
				return wrong
			}
		}
		select {
		case <-time.After(reconnectWait):
		case <-ctx.Done():
			return fault.Dependency("queue", fmt.Errorf("no node of QUEUE_URL answers: %w", err))
		}
	}
	if q.nc.MaxPayload() < maxMessage {
		return fault.Config(fmt.Sprintf("set max_payload: %d in the server's configuration", maxMessage),
			fmt.Errorf("queue: the server takes messages of at most %d bytes", q.nc.MaxPayload()))
	}
	q.reach.Store(&reachable{since: time.Now()})
	q.js, err = jetstream.New(q.nc)
	return err
}

// natsOptions says how to connect. Nothing is buffered while there is no connection: who publishes then is told so.
func (q *Queue) natsOptions() ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("base-app"), nats.Timeout(dialTime), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(dialTime),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { q.lost(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { q.found(nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { q.log.Warn("queue: connection", "error", err) }),
	}
	if q.opts.URL == "" {
		return options, nil
	}
	if err := checkURL(q.opts.URL); err != nil {
		return nil, err
	}
	if file := q.opts.Credentials; file != "" {
		if err := checkCredentials(file); err != nil {
			return nil, err
		}
		options = append(options, nats.UserCredentials(file))
	}
	t, err := q.opts.tlsConfig()
	if t != nil {
		options = append(options, nats.Secure(t))
	}
	return options, err
}

func (q *Queue) lost(err error) {
	if q.stopped.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("disconnected")
	}
	q.reach.Store(&reachable{since: time.Now(), err: err})
	q.log.Warn("queue: connection lost", "error", err)
}

func (q *Queue) found(name string) {
	q.reach.Store(&reachable{since: time.Now()})
	q.starved.Store(nil)
	q.log.Info("queue: connected again", "server", name)
	q.flight.refetch()
}

// The streams. EVENTS is a work queue: an event that is settled leaves it.
const (
	streamEvents = "EVENTS" // events.<id>: the envelope
	streamDone   = "DONE"   // done.<id>: what was processed, to answer for its id
	streamDead   = "DEAD"   // dead.<id>: the envelope, until somebody replays or purges it
	streamTries  = "TRIES"  // tries.<id>: how often an event that failed was tried
	consumerName = "app"

	// dedupWindow covers what the look-up before a publication can't see: the same id published twice at once. Look-up
	// and publication are over within requestTime.
	dedupWindow = 4 * requestTime
	// maxPending is how many events may wait for another try or be in flight, over all replicas: beyond it the queue
	// holds back the others.
	maxPending = 65_536
	// The smaller streams' share of MaxBytes. A record of DONE weighs some 150 bytes.
	doneShare, deadShare, triesShare = 8, 4, 16
)

// createStreams makes what is not there, and changes what is to the present settings. What fits already is left alone:
// a change writes files, for which there may be no room.
func (q *Queue) createStreams(ctx context.Context) error {
	configs := q.streams()
	errs := make([]error, len(configs))
	var made sync.WaitGroup
	for i, c := range configs {
		made.Go(func() { errs[i] = q.madeStream(ctx, c) })
	}
	made.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	c, err := retried(ctx, q, q.createConsumer)
	if err != nil {
		return q.createError(consumerName, err)
	}
	q.made.since = c.CachedInfo().Created
	return nil
}

// madeStream makes one of them, and waits for a leader.
func (q *Queue) madeStream(ctx context.Context, c jetstream.StreamConfig) error {
	stream, err := retried(ctx, q, func(ctx context.Context) (jetstream.Stream, error) { return q.createStream(ctx, c) })
	switch {
	case err != nil:
		return q.createError(c.Name, err)
	case !stream.CachedInfo().Config.AllowAtomicPublish:
		return fault.Config("use nats-server "+oldestServer+" or later",
			fmt.Errorf("queue: the server %s knows no atomic batches", q.nc.ConnectedServerVersion()))
	}
	if state := stream.CachedInfo().State; c.Name == streamEvents {
		if q.waited = state.Msgs; !q.slots.clean {
			q.doubt.Store(state.LastSeq)
		}
	}
	return nil
}

// streams are the configurations by the settings.
func (q *Queue) streams() []jetstream.StreamConfig {
	o := q.opts
	common := jetstream.StreamConfig{Storage: jetstream.FileStorage, Replicas: o.Replicas, AllowDirect: true, AllowAtomicPublish: true}
	events := common
	events.Name, events.Subjects, events.Retention = streamEvents, []string{"events.*"}, jetstream.WorkQueuePolicy
	events.Discard, events.MaxBytes, events.Duplicates = jetstream.DiscardNew, o.MaxBytes, dedupWindow
	done := common
	done.Name, done.Subjects, done.MaxMsgsPerSubject = streamDone, []string{"done.*"}, 1
	done.Discard, done.MaxBytes, done.MaxAge = jetstream.DiscardOld, o.MaxBytes/doneShare, Retention
	dead := common
	dead.Name, dead.Subjects, dead.MaxMsgsPerSubject = streamDead, []string{"dead.*"}, 1
	dead.Discard, dead.MaxBytes = jetstream.DiscardNew, deadBytes(o.MaxBytes)
	tries := common
	tries.Name, tries.Subjects, tries.MaxMsgsPerSubject = streamTries, []string{"tries.*"}, 1
	tries.Discard, tries.MaxBytes = jetstream.DiscardOld, o.MaxBytes/triesShare
	return []jetstream.StreamConfig{events, done, dead, tries}
}

// deadBytes is the room for dead letters: for some of the largest, however small the queue is.
func deadBytes(maxBytes int64) int64 { return max(maxBytes/deadShare, 4*maxMessage) }

func (q *Queue) createStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	stream, err := q.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return q.js.CreateStream(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if slices.Equal(have.Subjects, want.Subjects) && have.Retention == want.Retention && have.Storage == want.Storage &&
		have.Discard == want.Discard && have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge &&
		max(have.MaxMsgsPerSubject, 0) == want.MaxMsgsPerSubject &&
		(want.Duplicates == 0 || have.Duplicates == want.Duplicates) && have.Replicas == want.Replicas &&
		have.AllowDirect && have.AllowAtomicPublish {
		return stream, nil
	}
	return q.js.UpdateStream(ctx, want)
}

func (q *Queue) createConsumer(ctx context.Context) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.opts.AckWait,
		MaxDeliver: -1, MaxAckPending: maxPending, MaxWaiting: 512}
	c, err := q.js.Consumer(ctx, streamEvents, consumerName)
	if err == nil {
		have := c.CachedInfo().Config
		if have.AckWait == want.AckWait && have.MaxDeliver == want.MaxDeliver && have.MaxAckPending == want.MaxAckPending &&
			have.AckPolicy == want.AckPolicy {
			return c, nil
		}
	} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	return q.js.CreateOrUpdateConsumer(ctx, streamEvents, want)
}

func (q *Queue) createError(name string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("create %s: %w", name, err)
	if q.server != nil {
		if full := q.server.free(0); full != nil {
			return fault.Config("free some space in DATA_DIR", fmt.Errorf("queue: %w: %w", full, err))
		}
	}
	if hint := createHint(err); hint != "" {
		return fault.Config(hint, fmt.Errorf("queue: %w", err))
	}
	return fault.Dependency("queue", err)
}

// retried calls fn until it succeeds, fails for good, or ctx ends: a cluster that just started has no leader yet.
func retried[T any](ctx context.Context, q *Queue, fn func(context.Context) (T, error)) (T, error) {
	for {
		each, cancel := context.WithTimeout(ctx, requestTime)
		v, err := fn(each)
		cancel()
		if err == nil || createHint(err) != "" || q.server != nil {
			return v, err
		}
		select {
		case <-time.After(reconnectWait):
		case <-ctx.Done():
			return v, err
		}
	}
}
