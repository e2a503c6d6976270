package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// codeNoStream is JetStream's for a stream that is not there.
const codeNoStream = 10059

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
	case refused.Error.ErrCode == codeNoStream:
		return unavailable(fmt.Errorf("stream %s %w", what[strings.LastIndexByte(what, '.')+1:], errNoStream))
	case refused.Error.Code == 404, refused.Error.ErrCode == codeNoSequence,
		refused.Error.ErrCode == codeDeleteFailed && strings.Contains(refused.Error.Description, "no message found"):
		return ErrUnknown
	}
	return unavailable(fmt.Errorf("%s: %s", what, refused.Error.Description))
}

// lookUps is how many ids are looked up at the same time: enough to fill the way to the server.
const lookUps = 64

// known returns the sequences of those ids that wait, were processed, or are dead. The streams' leaders are asked, with a
// request for each: any replica could answer one request for all (a direct get), but so could one that stands still.
func (q *Queue) known(ctx context.Context, ids []string) (map[string]uint64, error) {
	sequences := map[string]uint64{}
	var mu sync.Mutex
	var first error
	var all sync.WaitGroup
	next := make(chan string)
	for range min(lookUps, len(ids)) {
		all.Go(func() {
			for id := range next {
				s, err := q.Status(ctx, id)
				mu.Lock()
				switch {
				case err == nil:
					sequences[id] = s.Sequence
				case !errors.Is(err, ErrUnknown):
					first = cmp.Or(first, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	all.Wait()
	return sequences, first
}
