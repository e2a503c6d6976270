package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Status tells where an event is.
type Status struct {
	ID         string
	Sequence   uint64
	State      State
	Deliveries uint32 // of an event that is processed or dead
}

// fate is the record of an event in DONE, and what the headers of one in DEAD say.
type fate struct {
	Sequence   uint64 `json:"sequence"`
	Deliveries uint32 `json:"deliveries"`
}

// Status tells where the event is; ErrUnknown if it was never accepted, or so long ago that it is forgotten. It blocks
// for a round trip to the server, until ctx ends. Between the end of the handler and StateProcessed lies a write.
func (q *Queue) Status(ctx context.Context, id string) (Status, error) {
	// An event is in the next stream before it leaves the last, and a replay goes from the last to the first.
	for _, stream := range []string{streamEvents, streamDone, streamDead, streamEvents} {
		m, err := q.last(ctx, stream, id)
		if errors.Is(err, ErrUnknown) {
			continue
		}
		if err != nil {
			return Status{}, err
		}
		switch stream {
		case streamEvents:
			return Status{ID: id, Sequence: m.Sequence, State: StateAccepted}, nil
		case streamDone:
			var f fate
			if err := json.Unmarshal(m.Data, &f); err != nil {
				return Status{}, fmt.Errorf("queue: record of %s: %w", id, err)
			}
			return Status{id, f.Sequence, StateProcessed, f.Deliveries}, nil
		default:
			d, err := m.deadLetter()
			return Status{id, d.Sequence, StateDead, d.Deliveries}, err
		}
	}
	return Status{}, ErrUnknown
}

// stored is a message of a stream as the server tells it.
type stored struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Raw      []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
	header   nats.Header
}

func (m *stored) id() string {
	_, id, _ := strings.Cut(m.Subject, ".")
	return id
}

// possible tells whether a subject can end with the id; one with a wildcard names more than one event.
func possible(id string) bool { return id != "" && !strings.ContainsAny(id, ".*> \t\r\n") }

// subjectOf is where a stream keeps what belongs to the id.
func subjectOf(stream, id string) string { return strings.ToLower(stream) + "." + id }

// last returns the last message of the id in a stream, from the stream's leader: a replica may not have it yet.
func (q *Queue) last(ctx context.Context, stream, id string) (*stored, error) {
	if !possible(id) {
		return nil, ErrUnknown
	}
	return q.get(ctx, stream, map[string]any{"last_by_subj": subjectOf(stream, id)})
}

// get returns one message: https://docs.nats.io/reference/reference-protocols/nats_api_reference.
func (q *Queue) get(ctx context.Context, stream string, which map[string]any) (*stored, error) {
	var answer struct {
		Message *stored `json:"message"`
	}
	if err := q.request(ctx, "STREAM.MSG.GET."+stream, which, &answer); err != nil {
		return nil, err
	}
	if answer.Message == nil {
		return nil, ErrUnknown
	}
	m := answer.Message
	if len(m.Raw) > 0 {
		var err error
		if m.header, err = nats.DecodeHeadersMsg(m.Raw); err != nil {
			return nil, fmt.Errorf("queue: headers of %s: %w", m.Subject, err)
		}
	}
	return m, nil
}

// request asks JetStream's API. What is not found is ErrUnknown, any other refusal ErrUnavailable.
func (q *Queue) request(ctx context.Context, what string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	m, err := q.nc.RequestWithContext(ctx, "$JS.API."+what, body)
	if err != nil {
		return unavailable(fmt.Errorf("%s: %w", what, err))
	}
	var refused pubAck
	if err := errors.Join(json.Unmarshal(m.Data, &refused), json.Unmarshal(m.Data, out)); err != nil {
		return unavailable(fmt.Errorf("%s: %w", what, err))
	}
	switch {
	case refused.Error == nil:
		return nil
	case refused.Error.Code == 404:
		return ErrUnknown
	}
	return unavailable(fmt.Errorf("%s: %s", what, refused.Error.Description))
}

// known returns the sequences of those ids that wait, were processed, or are dead.
func (q *Queue) known(ctx context.Context, ids []string) (map[string]uint64, error) {
	sequences := map[string]uint64{}
	for _, stream := range []string{streamEvents, streamDone, streamDead} {
		err := q.lastOf(ctx, stream, ids, func(m *stored) error {
			switch stream {
			case streamEvents:
				sequences[m.id()] = m.Sequence
			case streamDone:
				var f fate
				if err := json.Unmarshal(m.Data, &f); err != nil {
					return err
				}
				sequences[m.id()] = f.Sequence
			default:
				d, err := m.deadLetter()
				if err != nil {
					return err
				}
				sequences[m.id()] = d.Sequence
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stream, err)
		}
	}
	return sequences, nil
}

// lastOf calls fn for each of the ids' last messages in a stream, with one request for all of them. Any replica may
// answer, so what was published a moment ago may be missing:
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md.
func (q *Queue) lastOf(ctx context.Context, stream string, ids []string, fn func(*stored) error) error {
	inbox := q.nc.NewRespInbox()
	sub, err := q.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	for left := ids; len(left) > 0; {
		subjects := make([]string, len(left))
		for i, id := range left {
			subjects[i] = subjectOf(stream, id)
		}
		body, err := json.Marshal(map[string]any{"multi_last": subjects, "batch": len(subjects)})
		if err != nil {
			return err
		}
		if err := q.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
			return err
		}
		found := map[string]bool{}
		more, err := q.answers(ctx, sub, func(m *stored) error { found[m.id()] = true; return fn(m) })
		if err != nil || !more || len(found) == 0 {
			return err
		}
		var rest []string
		for _, id := range left {
			if !found[id] {
				rest = append(rest, id)
			}
		}
		left = rest
	}
	return nil
}

// answers reads what a direct get sends until its end, and tells whether the server cut it short.
func (q *Queue) answers(ctx context.Context, sub *nats.Subscription, fn func(*stored) error) (more bool, err error) {
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return false, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
			if err != nil {
				return false, fmt.Errorf("direct get: %w", err)
			}
			if err := fn(&stored{Subject: m.Header.Get("Nats-Subject"), Sequence: sequence, header: m.Header, Data: m.Data}); err != nil {
				return false, err
			}
		case "404":
			return false, nil
		case "204":
			return m.Header.Get("Nats-Num-Pending") != "0", nil
		case "503":
			return false, nats.ErrNoResponders
		default:
			return false, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
	}
}
