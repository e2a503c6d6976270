package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// fetchTime is how long one request for events waits at the server.
	fetchTime = 30 * time.Second
	// fetchSign is how often a server that has nothing says so. A lost request costs two of them.
	fetchSign = 2 * time.Second
	// fetchPause is waited after a request that failed.
	fetchPause = 250 * time.Millisecond
	// dropTime is what a question is worth whose answer saves 50 ms.
	dropTime = 50 * time.Millisecond
	// flightBytes bounds what is in flight by weight, too. A server breaks a connection on which 64 MiB wait. The half of it,
	// from which on a request is worth while, has room for any event.
	flightBytes = 32 << 20
)

// refetch ends the request that waits: after a new connection it would wait for nothing.
func (f *flight) refetch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancel != nil {
		f.cancel()
	}
}

// free is how many events may be fetched, and how heavy they may be together; 0 until it is worth a request.
func (f *flight) free() (n, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, bytes = f.limit-len(f.events), flightBytes-f.bytes
	if n < (f.limit+1)/2 || bytes < flightBytes/2 {
		return 0, 0
	}
	return n, bytes
}

// fetcher keeps the queue's part of events in this process.
func (q *Queue) fetcher() {
	for {
		n, bytes := q.flight.free()
		if n == 0 {
			select {
			case <-q.room:
			case <-q.stopped.Done():
				return
			}
			continue
		}
		if err := q.fetch(n, bytes); err != nil {
			if errors.Is(err, errNoConsumer) {
				if wrong := q.remake(q.stopped); wrong != nil {
					err = wrong
				}
			}
			q.starves(err)
			select {
			case <-time.After(fetchPause):
			case <-q.stopped.Done():
				return
			}
		}
		if q.stopped.Err() != nil {
			return
		}
	}
}

// dropPulls makes the server in this process forget the request that waited there: it looks for such when it is asked for
// the consumer, and sleeps for 50 ms at its end if it still knows one. Whatever goes wrong costs only that.
func (q *Queue) dropPulls(ctx context.Context) {
	if q.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	var info struct{}
	_ = q.request(ctx, "CONSUMER.INFO."+streamEvents+"."+consumerName, struct{}{}, &info)
}

// pull is a request for events: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-37.md. The client's
// own Fetch bounds their number or their weight, not both.
type pull struct {
	Expires  time.Duration `json:"expires"`
	Batch    int           `json:"batch"`
	MaxBytes int           `json:"max_bytes"`
	Sign     time.Duration `json:"idle_heartbeat"`
}

// fetch asks for n events that weigh so much at most, and takes them in as they come. Its end without an error says that
// another request may follow.
func (q *Queue) fetch(n, bytes int) error {
	body, err := json.Marshal(pull{fetchTime, n, bytes, fetchSign})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(q.stopped)
	defer cancel()
	q.flight.mu.Lock()
	q.flight.cancel = cancel
	q.flight.mu.Unlock()
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return err
	}
	defer func() { _ = answers.Unsubscribe() }() // fails without a connection, and then nothing comes
	if err := q.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+streamEvents+"."+consumerName, answers.Subject, body); err != nil {
		return err
	}
	for got := 0; got < n; {
		m, err := nextAnswer(ctx, answers)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		status := m.Header.Get("Status")
		if status == "" || status == "100" || status == "408" {
			q.fed()
		}
		if status == "" || len(m.Data) > 0 {
			got++
			if err := q.arrive(m); err != nil {
				q.log.Warn("queue: an event could not be taken in, it comes again", "subject", m.Subject, "error", err)
			}
			continue
		}
		end, err := pullEnd(status, m.Header.Get("Description"))
		if err != nil {
			return err
		}
		if end { // with replicas, this overtakes events of the same request: wait for all but those that it says were not sent
			pending, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
			if err != nil {
				return nil
			}
			n -= pending
		}
	}
	return nil
}

func nextAnswer(ctx context.Context, answers *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*fetchSign, errors.New("no sign of life from the server"))
	defer cancel()
	m, err := answers.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}

// errNoConsumer is what a request meets when its consumer or its stream is gone, or has no leader at present.
var errNoConsumer = errors.New("nobody answers for the consumer")

// pullEnd tells whether the server's word ends a request, and which error that is.
func pullEnd(status, text string) (end bool, err error) {
	switch {
	case status == "100": // a sign of life
		return false, nil
	case status == "404", status == "408", text == "Message Size Exceeds MaxBytes", text == "Batch Completed":
		return true, nil
	case status == "503", text == "Consumer Deleted":
		return true, fmt.Errorf("%w: %s %s", errNoConsumer, status, text)
	}
	return true, fmt.Errorf("the server ended the request: %s %s", status, text)
}
