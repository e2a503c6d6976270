package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/worker"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	// intakeLen is how many publications may wait for the disk: a thousand clients, each with its own.
	intakeLen = 1024
	// A group of publications is written at once, with one fsync. The server takes batches of 1,000 messages.
	maxGroup      = 1000
	maxGroupBytes = 8 << 20
	// A batch costs the server as much as seven messages, measured in writes to the disk; fewer are written alone.
	minBatch = 8
	// duplicatePause is waited for an event with the same id that is just being stored: a round trip of a cluster.
	duplicatePause = 5 * time.Millisecond
	// requestTime bounds one request to the server. Choosing a new leader takes a cluster some two seconds.
	requestTime = 5 * time.Second
)

// Accepted is the answer to the publication of one event.
type Accepted struct {
	ID        string
	Sequence  uint64 // position in the queue, from 1, with gaps
	Duplicate bool   // the id was known: it was accepted before, and not again now
}

// publication is one call of Publish.
type publication struct {
	ctx     context.Context
	events  []event.Event
	answers []Accepted
	err     error
	done    chan struct{}
}

// Publish accepts all the events, at most 1,000, or none, and returns an answer for each, in their order. An id that
// is known, or stands twice among them, is answered as a duplicate. The time of acceptance is set here, and the
// bodies are not kept. It returns when the events are on the disk, until ctx ends; an error that is neither ErrFull
// nor about a bad envelope leaves open whether they were accepted, so publish them again under the same ids.
// Errors: ErrFull, ErrUnavailable (the disk is full, the cluster has no leader), ErrClosed, one that names the event
// whose envelope is bad, or the cause of ctx.
//
// What is published at the same time is written together: JetStream would sync the disk for each event alone.
func (q *Queue) Publish(ctx context.Context, events ...event.Event) ([]Accepted, error) {
	if len(events) == 0 || len(events) > maxGroup {
		return nil, fmt.Errorf("queue: publish: %d events at once, 1 to %d are taken", len(events), maxGroup)
	}
	if err := q.opts.Fault(ctx, "queue.publish"); err != nil {
		q.counts.rejected.Add(uint64(len(events)))
		return nil, unavailable(err)
	}
	size := 0
	for i := range events {
		if err := events[i].Check(); err != nil {
			return nil, fmt.Errorf("publish event %d: %w", i+1, err)
		}
		size += events[i].Size()
	}
	if q.server != nil {
		if err := q.server.space(size); err != nil {
			q.counts.rejected.Add(uint64(len(events)))
			return nil, unavailable(err)
		}
	}
	began := time.Now()
	p := &publication{ctx: ctx, events: events, done: make(chan struct{})}
	self := worker.FromContext(ctx)
	self.Park(&publishing)
	defer self.Unpark()
	if err := q.hand(ctx, p); err != nil {
		return nil, err
	}
	if p.err != nil {
		q.counts.rejected.Add(uint64(len(events)))
		return nil, p.err
	}
	q.counts.publish.observe(time.Since(began))
	return p.answers, nil
}

// hand gives p to the publisher and waits for the answer.
func (q *Queue) hand(ctx context.Context, p *publication) error {
	if q.stopped.Err() != nil {
		return ErrClosed
	}
	select {
	case <-q.failed:
		return unavailable(q.cause)
	default:
	}
	select {
	case q.intake <- p:
	case <-q.failed:
		return unavailable(q.cause)
	case <-q.stopped.Done():
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-p.done:
	case <-q.failed: // the server has no answer for what it could not sync
		return unavailable(q.cause)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-q.deaf:
		select {
		case <-p.done: // it was the last
		default:
			return ErrClosed
		}
	}
	return nil
}

var publishing = "queue: publish"

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// publisher writes what Publish hands over, in groups.
func (q *Queue) publisher() {
	defer close(q.deaf)
	var next *publication
	for {
		if next == nil {
			select {
			case next = <-q.intake:
			case <-q.stopped.Done():
				return
			}
		}
		var group []*publication
		group, next = q.group(next)
		if len(group) < minBatch {
			for _, p := range group {
				q.accept([]*publication{p})
			}
			continue
		}
		q.accept(group)
	}
}

// group returns first and what else waits and fits into one batch, and the one that didn't fit. Who has gone is left
// out.
func (q *Queue) group(first *publication) (group []*publication, next *publication) {
	n, size := 0, 0
	for p := first; ; {
		if p.ctx.Err() == nil {
			n += len(p.events)
			for i := range p.events {
				size += p.events[i].Size()
			}
			if len(group) > 0 && (n > maxGroup || size > maxGroupBytes) {
				return group, p
			}
			group = append(group, p)
		}
		select {
		case p = <-q.intake:
		default:
			return group, nil
		}
	}
}

// accept stores a group's events. If that fails, each publication is tried alone: one that is too large for what is
// left must not take the others with it.
func (q *Queue) accept(group []*publication) {
	err := q.acceptTogether(group)
	if err != nil && len(group) > 1 && !errors.Is(err, ErrUnavailable) {
		for _, p := range group {
			q.accept([]*publication{p})
		}
		return
	}
	for _, p := range group {
		p.err = err
		close(p.done)
	}
}

// acceptTogether stores what is new among the events of all, and fills in the answers.
func (q *Queue) acceptTogether(group []*publication) error {
	ctx, cancel := context.WithTimeout(q.work, requestTime)
	defer cancel()
	var ids []string
	for _, p := range group {
		for i := range p.events {
			ids = append(ids, p.events[i].ID)
		}
	}
	sequences, err := q.known(ctx, ids)
	if err != nil {
		return unavailable(err)
	}
	var fresh []*nats.Msg
	var freshIDs []string
	first := map[string]*event.Event{}
	now := time.Now()
	for _, p := range group {
		for i := range p.events {
			e := &p.events[i]
			if _, ok := sequences[e.ID]; ok || first[e.ID] != nil {
				continue
			}
			first[e.ID] = e
			stored := event.Event{ID: e.ID, Time: now, RequestID: e.RequestID, TraceParent: e.TraceParent, Baggage: e.Baggage, Body: e.Body}
			fresh = append(fresh, &nats.Msg{Subject: "events." + e.ID, Header: nats.Header{"Nats-Msg-Id": {e.ID}}, Data: stored.Append(nil)})
			freshIDs = append(freshIDs, e.ID)
		}
	}
	stored, err := q.store(ctx, fresh)
	if errors.Is(err, errDuplicate) { // published elsewhere in this moment
		stored, err = q.storeEach(ctx, fresh)
	}
	if err != nil {
		return err
	}
	for i, id := range freshIDs {
		if stored[i].duplicate {
			if stored[i], err = q.insist(ctx, id, fresh[i]); err != nil {
				return err
			}
		}
		if sequences[id] = stored[i].sequence; stored[i].duplicate {
			delete(first, id)
		}
	}
	for _, p := range group {
		p.answers = make([]Accepted, len(p.events))
		for i := range p.events {
			e := &p.events[i]
			p.answers[i] = Accepted{ID: e.ID, Sequence: sequences[e.ID], Duplicate: first[e.ID] != e}
			if first[e.ID] == e {
				q.counts.accepted.Add(1)
			}
		}
	}
	return nil
}

// insist settles whether an id that the server saw a moment ago is one of ours: it could have been purged since.
func (q *Queue) insist(ctx context.Context, id string, m *nats.Msg) (storing, error) {
	for {
		s, err := q.Status(ctx, id)
		if !errors.Is(err, ErrUnknown) {
			return storing{s.Sequence, true}, err
		}
		stored, err := q.store(ctx, []*nats.Msg{{Subject: m.Subject, Header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}}, Data: m.Data}})
		if err == nil {
			return stored[0], nil
		}
		if !errors.Is(err, errOvertaken) {
			return storing{}, err
		}
	}
}

// storing is what the server said of one message.
type storing struct {
	sequence  uint64
	duplicate bool
}

// errDuplicate says that a batch held an id that the server has seen within dedupWindow, or is just storing.
var errDuplicate = errors.New("an id was published a moment ago")

// errOvertaken says that somebody else has just stored an event with this id.
var errOvertaken = errors.New("the id was published elsewhere in this moment")

// pubAck is JetStream's answer to a message or a batch.
type pubAck struct {
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Sequence  uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
	Count     uint64 `json:"count"`
}

// store writes the messages, all of one stream, at once: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md.
func (q *Queue) store(ctx context.Context, msgs []*nats.Msg) ([]storing, error) {
	if len(msgs) == 0 {
		return nil, nil
	}
	last := len(msgs) - 1
	if last > 0 {
		id := nuid.Next()
		for i, m := range msgs {
			m.Header = cloned(m.Header)
			m.Header["Nats-Batch-Id"], m.Header["Nats-Batch-Sequence"] = []string{id}, []string{strconv.Itoa(i + 1)}
			if i == last {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
			} else if err := q.nc.PublishMsg(m); err != nil {
				return nil, unavailable(err)
			}
		}
	}
	m, err := q.nc.RequestMsgWithContext(ctx, msgs[last])
	if err != nil {
		return nil, unavailable(err)
	}
	var ack pubAck
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return nil, unavailable(fmt.Errorf("answer to a publication: %w", err))
	}
	if ack.Error != nil {
		return nil, q.storeError(ack.Error.ErrCode, ack.Error.Description)
	}
	answers := make([]storing, len(msgs))
	for i := range answers {
		answers[i] = storing{ack.Sequence - uint64(last-i), ack.Duplicate}
	}
	return answers, nil
}

func cloned(h nats.Header) nats.Header {
	c := nats.Header{}
	for k, v := range h {
		if !strings.HasPrefix(k, "Nats-Batch-") {
			c[k] = v
		}
	}
	return c
}

// storeSome writes messages that need not be written all or none.
func (q *Queue) storeSome(ctx context.Context, msgs []*nats.Msg) error {
	var err error
	if len(msgs) < minBatch {
		_, err = q.storeEach(ctx, msgs)
	} else {
		_, err = q.store(ctx, msgs)
	}
	return err
}

// storeEach writes the messages one by one.
func (q *Queue) storeEach(ctx context.Context, msgs []*nats.Msg) (all []storing, err error) {
	for _, m := range msgs {
		m.Header = cloned(m.Header)
		s, err := q.store(ctx, []*nats.Msg{m})
		for errors.Is(err, errDuplicate) && ctx.Err() == nil { // the replicas don't have it yet
			select {
			case <-time.After(duplicatePause):
			case <-ctx.Done():
			}
			s, err = q.store(ctx, []*nats.Msg{m})
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	return all, nil
}

// JetStream's error codes that mean something here:
// https://github.com/nats-io/nats-server/blob/main/server/errors.json.
const (
	codeStoreFailed    = 10077
	codeBatchDuplicate = 10201
	codeInProcess      = 10158
	codeWrongLast      = 10071
)

// storeError sorts the server's refusals.
func (q *Queue) storeError(code int, text string) error {
	switch {
	case code == codeBatchDuplicate, code == codeInProcess:
		return errDuplicate
	case code == codeWrongLast:
		return errOvertaken
	case strings.HasPrefix(text, "maximum bytes exceeded"):
		return ErrFull
	case code == codeStoreFailed && q.server != nil:
		q.server.broken(text)
	}
	return unavailable(errors.New(cmp.Or(text, "the server refused")))
}
