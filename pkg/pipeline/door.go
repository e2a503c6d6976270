package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/web"
	"github.com/go-json-experiment/json"
)

// retryAfter is what clients are told while the queue takes nothing, in seconds: a burst is over by then.
const retryAfter = "1"

// intake is what the door needs of the queue.
type intake interface {
	Publish(context.Context, ...event.Event) ([]queue.Accepted, error)
	Status(ctx context.Context, id string) (queue.Status, error)
}

// door is where events come in, and where their fate can be asked for.
type door struct {
	events   intake
	handlers *table
	log      *slog.Logger
}

func (d door) register(mux *http.ServeMux) {
	mux.HandleFunc("POST /events", d.post)
	mux.HandleFunc("GET /events/{id}", d.status)
}

// accepted answers POST /events, once or on a line for each event.
type accepted struct {
	ID        string      `json:"id"`
	Sequence  uint64      `json:"sequence"`
	Status    queue.State `json:"status"`
	Duplicate bool        `json:"duplicate,omitzero"`
}

// eventStatus answers GET /events/{id}.
type eventStatus struct {
	ID         string      `json:"id"`
	Sequence   uint64      `json:"sequence"`
	Status     queue.State `json:"status"`
	Deliveries uint32      `json:"deliveries,omitzero"`
}

func (d door) post(w http.ResponseWriter, r *http.Request) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == mediaLines {
		d.postLines(w, r)
		return
	}
	body, ok := web.ReadJSONObject(w, r, maxEvent)
	if !ok {
		return
	}
	e, problem := d.envelope(r, body, r.Header.Get("Idempotency-Key"))
	if problem != nil {
		problem.Write(w, r)
		return
	}
	answers, err := d.events.Publish(r.Context(), e)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/events/"+answers[0].ID)
	web.WriteJSON(w, r, http.StatusAccepted, answer(answers[0]))
}

// postLines takes newline-delimited JSON, an event on each line: https://github.com/ndjson/ndjson-spec. Either all are
// accepted or none is.
func (d door) postLines(w http.ResponseWriter, r *http.Request) {
	body, ok := web.ReadBody(w, r, maxBatch, mediaLines)
	if !ok {
		return
	}
	events, problem := d.split(r, body)
	if problem != nil {
		problem.Write(w, r)
		return
	}
	answers, err := d.events.Publish(r.Context(), events...)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	var text []byte
	for _, a := range answers {
		line, err := json.Marshal(answer(a))
		if err != nil {
			d.refuse(w, r, err)
			return
		}
		text = append(append(text, line...), '\n')
	}
	w.Header().Set("Content-Type", mediaLines)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(text) // a client that lost the answer repeats the request; the ids make that safe
}

func answer(a queue.Accepted) accepted {
	return accepted{ID: a.ID, Sequence: a.Sequence, Status: queue.StateAccepted, Duplicate: a.Duplicate}
}

// refuse answers for a queue that took nothing. After any of these the same request may be sent again: an event that
// was accepted after all is known by its id.
func (d door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	detail := ""
	switch {
	case errors.Is(err, queue.ErrFull):
		detail = "the queue is full; try again later"
	case errors.Is(err, queue.ErrTooLarge): // for ever
		const detail = "these events together are larger than the whole queue; send them in smaller batches"
		web.WriteProblem(w, r, http.StatusRequestEntityTooLarge, detail)
		return
	case errors.Is(err, queue.ErrClosed):
		detail = "the app is shutting down; try again later"
	case errors.Is(err, queue.ErrUnavailable):
		d.log.WarnContext(r.Context(), "event could not be queued", "error", err)
		detail = "the queue takes no events at present; try again later"
	case r.Context().Err() != nil: // the client is gone, or its time is over
		detail = "the request ended before the event was on the disk; send it again under the same id"
	default:
		d.log.ErrorContext(r.Context(), "event could not be queued", "error", err)
		web.WriteProblem(w, r, http.StatusInternalServerError, "the event could not be queued")
		return
	}
	w.Header().Set("Retry-After", retryAfter)
	web.WriteProblem(w, r, http.StatusServiceUnavailable, detail)
}

func (d door) status(w http.ResponseWriter, r *http.Request) {
	s, err := d.events.Status(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, queue.ErrUnknown):
		web.WriteProblem(w, r, http.StatusNotFound, "no event of this id is known")
		return
	case err != nil:
		d.refuse(w, r, err)
		return
	}
	answer := eventStatus{ID: s.ID, Sequence: s.Sequence, Status: s.State}
	if s.State != queue.StateAccepted {
		answer.Deliveries = s.Deliveries
	}
	web.WriteJSON(w, r, http.StatusOK, answer)
}
