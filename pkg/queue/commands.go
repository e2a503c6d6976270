package queue

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"example.com/base-app/pkg/fault"
)

// ErrNotOpen answers the commands of the queue until it is open.
var ErrNotOpen = errors.New("the queue is not open yet")

// StatusAnswer is what the command status answers.
type StatusAnswer struct {
	Stats
	Problem string `json:"problem,omitempty"` // why it takes no events at present
}

// DeadAnswer is what the command dead list answers.
type DeadAnswer struct {
	List []DeadLetter `json:"dead_letters"`
	Next uint64       `json:"next,omitempty"` // for the option --after of the next call; 0: that was all
}

// Order is what the commands take that change the queue.
type Order struct {
	ID     string `json:"id"` // empty: all
	Reason string `json:"reason"`
}

// CountAnswer is what they answer.
type CountAnswer struct {
	Count int `json:"count"`
}

// Commands registers what the control socket answers about the queue that opened returns, nil as long as it is not open.
// Changes are logged with their reason.
func Commands(opened func() *Queue, log *slog.Logger, register func(pattern string, answer func(*http.Request) (any, error))) {
	with := func(pattern string, ask func(*Queue, *http.Request) (any, error)) {
		register(pattern, func(r *http.Request) (any, error) {
			q := opened()
			if q == nil {
				return nil, ErrNotOpen
			}
			return ask(q, r)
		})
	}
	with("GET /queue", func(q *Queue, r *http.Request) (any, error) {
		s := StatusAnswer{}
		var err error
		if s.Stats, err = q.Stats(r.Context()); err != nil {
			s.Problem = err.Error()
		}
		return s, nil
	})
	with("GET /queue/dead", func(q *Queue, r *http.Request) (any, error) {
		after, err1 := strconv.ParseUint(r.FormValue("after"), 10, 64)
		limit, err2 := strconv.Atoi(r.FormValue("limit"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, fault.Usage("%w", err)
		}
		list, next, err := q.DeadLetters(r.Context(), after, limit)
		return DeadAnswer{list, next}, err
	})
	change := func(pattern, what string, do func(*Queue, context.Context, string) (int, error)) {
		with(pattern, func(q *Queue, r *http.Request) (any, error) {
			var o Order
			if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
				return nil, fault.Usage(`the body is no {"id":"…","reason":"…"}: %w`, err)
			}
			n, err := do(q, r.Context(), o.ID)
			if errors.Is(err, ErrUnknown) || err == nil && n == 0 && o.ID != "" {
				return nil, fault.Usage("no dead letter has the id %s", o.ID)
			}
			attrs := []any{"count", n, "reason", o.Reason}
			if o.ID != "" {
				attrs = append(attrs, "id", o.ID)
			}
			if err != nil {
				attrs = append(attrs, "error", err)
			}
			log.Warn("order: "+what, attrs...)
			return CountAnswer{n}, err
		})
	}
	change("POST /queue/dead/replay", "dead letters replayed", (*Queue).Replay)
	change("POST /queue/dead/purge", "dead letters purged", (*Queue).PurgeDead)
	change("POST /queue/purge", "waiting events purged", func(q *Queue, ctx context.Context, _ string) (int, error) { return q.Purge(ctx) })
}
