package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	// clashPause is waited for an event with the same id that is just being stored: a round trip of a cluster.
	clashPause = 5 * time.Millisecond
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
	made    []bool // which ids are new, made here: nobody can know them; nil: none
	answers []Accepted
	err     error
	done    chan struct{}
}

// Publish accepts all the events, at most 1,000, or none, and returns an answer for each, in their order. An id that is
// known, or stands twice among them, is answered as a duplicate; an event without one gets a new one. The time of
// acceptance is set here, and the bodies are not kept. It returns when the events are on the disk, until ctx ends; an
// error that is neither ErrFull nor about a bad envelope leaves open whether they were accepted, so publish them again
// under the same ids.
// Errors: ErrFull, ErrTooLarge (they would not fit into an empty queue), ErrUnavailable (the disk is full, the cluster
// has no leader), ErrClosed, one that names the event whose envelope is bad, or the cause of ctx.
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
	events, made := withIDs(events)
	for i := range events {
		if err := events[i].Check(); err != nil {
			return nil, fmt.Errorf("publish event %d: %w", i+1, err)
		}
		size += weight(&events[i])
	}
	if int64(size) > q.opts.MaxBytes {
		q.counts.rejected.Add(uint64(len(events)))
		return nil, ErrTooLarge
	}
	if q.server != nil {
		if err := q.server.space(size); err != nil {
			q.counts.rejected.Add(uint64(len(events)))
			return nil, unavailable(err)
		}
	}
	began := time.Now()
	p := &publication{ctx: ctx, events: events, made: made, done: make(chan struct{})}
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

// weight is what an event takes on the disk at least: its record, with the id in the subject and in a header.
func weight(e *event.Event) int {
	const header = "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n"
	return recordHead + len(subjectOf(streamEvents, e.ID)) + 4 + len(header) + len(e.ID) + e.Size() + recordSum
}

// withIDs returns the events with an id each, and which were made here.
func withIDs(events []event.Event) (_ []event.Event, made []bool) {
	for i := range events {
		if events[i].ID != "" {
			continue
		}
		if made == nil {
			events, made = slices.Clone(events), make([]bool, len(events)) // they are the caller's
		}
		events[i].ID, made[i] = event.NewID(), true
	}
	return events, made
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
	if full := errors.Is(err, ErrFull); full != q.full && (full || err == nil) {
		if q.full = full; full {
			q.log.Warn("queue: full, events are refused", "max_bytes", q.opts.MaxBytes)
		} else {
			q.log.Info("queue: there is room again")
		}
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
			if p.made == nil || !p.made[i] {
				ids = append(ids, p.events[i].ID)
			}
		}
	}
	sequences, err := q.known(ctx, ids)
	if err != nil {
		return unavailable(err)
	}
	var fresh []*nats.Msg
	first := map[string]*event.Event{}
	now := time.Now()
	for _, p := range group {
		for i := range p.events {
			e := &p.events[i]
			if _, ok := sequences[e.ID]; ok || first[e.ID] != nil {
				continue
			}
			first[e.ID] = e
			stored := *e // whatever the sender said; place, time and deliveries are the queue's
			stored.Sequence, stored.Time, stored.Delivery, stored.Receipt = 0, now, 0, nil
			fresh = append(fresh, &nats.Msg{Subject: subjectOf(streamEvents, e.ID),
				Header: nats.Header{"Nats-Msg-Id": {e.ID}}, Data: stored.Append(nil)})
		}
	}
	known, err := q.storeFresh(ctx, fresh, sequences)
	if err != nil {
		return err
	}
	for _, id := range known {
		delete(first, id)
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

// storeFresh stores all of the messages, or none, and adds their sequences. If the server has seen one of their ids in
// the last minutes, somebody published it in this moment, or it was purged since: the leader knows. Those that are there
// by now are left out and returned, the others stored without the server's own memory of ids.
func (q *Queue) storeFresh(ctx context.Context, fresh []*nats.Msg, sequences map[string]uint64) (known []string, err error) {
	for len(fresh) > 0 {
		stored, err := q.store(ctx, fresh)
		if err == nil {
			for i, m := range fresh {
				sequences[idOf(m)] = stored[i]
			}
			break
		}
		if !errors.Is(err, errClash) {
			return nil, err
		}
		select {
		case <-time.After(clashPause):
		case <-ctx.Done():
			return nil, unavailable(err)
		}
		ids := make([]string, len(fresh))
		for i, m := range fresh {
			ids[i] = idOf(m)
		}
		there, err := q.known(ctx, ids)
		if err != nil {
			return nil, unavailable(err)
		}
		rest := fresh[:0]
		for _, m := range fresh {
			id := idOf(m)
			if sequence, ok := there[id]; ok {
				sequences[id], known = sequence, append(known, id)
				continue
			}
			m.Header = nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}}
			rest = append(rest, m)
		}
		fresh = rest
	}
	return known, nil
}

func idOf(m *nats.Msg) string { return (&stored{Subject: m.Subject}).id() }

// errClash says that an id was published a moment ago, or elsewhere in this moment.
var errClash = errors.New("an id was published a moment ago")

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

// store writes the messages, all of one stream, at once, and returns their sequences:
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md.
func (q *Queue) store(ctx context.Context, msgs []*nats.Msg) ([]uint64, error) {
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
	if ack.Duplicate {
		return nil, errClash
	}
	sequences := make([]uint64, len(msgs))
	for i := range sequences {
		sequences[i] = ack.Sequence - uint64(last-i)
	}
	return sequences, nil
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
func (q *Queue) storeSome(ctx context.Context, msgs []*nats.Msg) (err error) {
	if len(msgs) >= minBatch {
		_, err = q.store(ctx, msgs)
		return err
	}
	for _, m := range msgs {
		m.Header = cloned(m.Header)
		if _, err = q.store(ctx, []*nats.Msg{m}); err != nil {
			return err
		}
	}
	return nil
}

// JetStream's error codes that mean something here:
// https://github.com/nats-io/nats-server/blob/main/server/errors.json.
const (
	codeStoreFailed    = 10077
	codeBatchDuplicate = 10201
	codeInProcess      = 10158
	codeWrongLast      = 10071
	codeNoSequence     = 10043
	codeDeleteFailed   = 10057
)

// storeError sorts the server's refusals.
func (q *Queue) storeError(code int, text string) error {
	switch {
	case code == codeBatchDuplicate, code == codeInProcess, code == codeWrongLast:
		return errClash
	case strings.HasPrefix(text, "maximum bytes exceeded"):
		return ErrFull
	case code == codeStoreFailed && q.server != nil:
		q.server.broken(text)
	}
	return unavailable(errors.New(cmp.Or(text, "the server refused")))
}
