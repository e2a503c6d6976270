package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"github.com/nats-io/nats.go"
)

// DeadLetter is an event that can't be handled.
type DeadLetter struct {
	ID         string    `json:"id"`
	Sequence   uint64    `json:"sequence"`   // that it had in the queue
	Deliveries uint32    `json:"deliveries"` // attempts to handle it
	Reason     string    `json:"reason"`     // the last one's error
	Time       time.Time `json:"time"`       // since when it is dead
	Bytes      int       `json:"bytes"`      // of the body
}

// The headers of a dead letter.
const (
	headerReason     = "Dead-Reason"
	headerSequence   = "Dead-Sequence"
	headerDeliveries = "Dead-Deliveries"
	// maxReason bounds what is kept of an error's text.
	maxReason = 1024
)

// message is the dead letter as it is stored.
func (d *DeadLetter) message(envelope []byte) *nats.Msg {
	return &nats.Msg{Subject: subjectOf(streamDead, d.ID), Data: envelope, Header: nats.Header{
		headerReason: {headerText(d.Reason)}, headerSequence: {strconv.FormatUint(d.Sequence, 10)},
		headerDeliveries: {strconv.FormatUint(uint64(d.Deliveries), 10)}}}
}

// headerText makes an error's text one that a header can carry: short, and printable ASCII in one line.
func headerText(s string) string {
	text := []byte(s[:min(len(s), maxReason)])
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = ' '
		}
	}
	return string(text)
}

// deadLetter reads a message of DEAD.
func (m *stored) deadLetter() (DeadLetter, error) {
	sequence, err := strconv.ParseUint(m.header.Get(headerSequence), 10, 64)
	deliveries, err2 := strconv.ParseUint(m.header.Get(headerDeliveries), 10, 32)
	if err := errors.Join(err, err2); err != nil {
		return DeadLetter{}, fmt.Errorf("queue: dead letter %s: %w", m.Subject, err)
	}
	d := DeadLetter{ID: m.id(), Sequence: sequence, Deliveries: uint32(deliveries), Reason: m.header.Get(headerReason),
		Time: m.Time, Bytes: len(m.Data)}
	if e, err := event.Decode(m.Data); err == nil {
		d.Bytes = len(e.Body)
	}
	return d, nil
}

// DeadLetters returns at most limit dead letters, the oldest first, from position after on; next is the position for
// the following call, 0 at the end.
func (q *Queue) DeadLetters(ctx context.Context, after uint64, limit int) (list []DeadLetter, next uint64, err error) {
	for len(list) < limit {
		m, err := q.nextDead(ctx, after)
		if errors.Is(err, ErrUnknown) {
			return list, 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		after = m.Sequence
		d, err := m.deadLetter()
		if err != nil {
			return nil, 0, err
		}
		list = append(list, d)
	}
	return list, after, nil
}

func (q *Queue) nextDead(ctx context.Context, after uint64) (*stored, error) {
	return q.get(ctx, streamDead, map[string]any{"seq": after + 1, "next_by_subj": "dead.*"})
}

var errMoving = fault.New(fault.KindUsage,
	"queue: a backup is being made, or dead letters are being replayed already: try again when that is done")

// Replay puts dead letters back into the queue, as new: the one with the id, or with an empty id all that are there
// now. It returns how many; with an error those before it are back.
func (q *Queue) Replay(ctx context.Context, id string) (n int, err error) {
	select {
	case q.moves <- struct{}{}:
		defer func() { <-q.moves }()
	default:
		return 0, errMoving
	}
	if id != "" {
		m, err := q.last(ctx, streamDead, id)
		if err != nil {
			return 0, err
		}
		return 1, q.replay(ctx, m)
	}
	stats, err := q.streamInfo(ctx, streamDead)
	if err != nil {
		return 0, err
	}
	for after := uint64(0); after < stats.State.LastSeq; n++ {
		m, err := q.nextDead(ctx, after)
		if errors.Is(err, ErrUnknown) || err == nil && m.Sequence > stats.State.LastSeq {
			break
		}
		if err != nil {
			return n, err
		}
		if err := q.replay(ctx, m); err != nil {
			return n, err
		}
		after = m.Sequence
	}
	return n, nil
}

// replay publishes before it deletes: should it be interrupted between the two, the event is in both places.
func (q *Queue) replay(ctx context.Context, m *stored) error {
	e, err := event.Decode(m.Data)
	if err != nil {
		return fmt.Errorf("queue: replay %s: %w", m.id(), err)
	}
	q.forget(e.ID)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if _, err := q.store(ctx, []*nats.Msg{{Subject: subjectOf(streamEvents, e.ID), Data: m.Data}}); err != nil {
		return fmt.Errorf("queue: replay %s: %w", e.ID, err)
	}
	var answer struct{}
	err = q.request(ctx, "STREAM.MSG.DELETE."+streamDead, map[string]any{"seq": m.Sequence, "no_erase": true}, &answer)
	if errors.Is(err, ErrUnknown) { // it is dead again already, and that letter has taken the place of this one
		return nil
	}
	return err
}

// PurgeDead deletes the dead letter with the id, or all with an empty id, and returns how many.
func (q *Queue) PurgeDead(ctx context.Context, id string) (int, error) {
	if id == "" {
		return q.purge(ctx, streamDead, map[string]any{})
	}
	if !possible(id) {
		return 0, ErrUnknown
	}
	return q.purge(ctx, streamDead, map[string]any{"filter": subjectOf(streamDead, id)})
}

// Purge deletes all events that are in the queue, and returns how many. There is no way back. Those that Next has handed
// out are among them: they go on, once, and one that fails then is a dead letter, one that is interrupted is gone. Of what
// other replicas have in flight, this one knows nothing: there a failure is the end, too.
func (q *Queue) Purge(ctx context.Context) (int, error) {
	tried, err := q.streamInfo(ctx, streamTries)
	if err != nil {
		return 0, err
	}
	events, err := q.streamInfo(ctx, streamEvents)
	if err != nil {
		return 0, err
	}
	last := events.State.LastSeq
	n, err := q.purge(ctx, streamEvents, upTo(last))
	if err != nil {
		return 0, err
	}
	q.flight.purge(last)
	signal(q.room)
	signal(q.ready)
	// Who uses one of the ids again begins anew.
	q.history.clear()
	if _, err := q.purge(ctx, streamTries, upTo(tried.State.LastSeq)); err != nil {
		return n, fmt.Errorf("queue: the events are purged, the counts of their attempts are not: %w", err)
	}
	return n, nil
}

// upTo names the messages of a stream up to the sequence.
func upTo(last uint64) map[string]any { return map[string]any{"seq": last + 1} } // the first that stays

func (q *Queue) purge(ctx context.Context, stream string, which map[string]any) (int, error) {
	var answer struct {
		Purged int `json:"purged"`
	}
	err := q.request(ctx, "STREAM.PURGE."+stream, which, &answer)
	return answer.Purged, err
}
