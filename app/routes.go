package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/web"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxEvent   = 1 << 20 // bytes of one event: what doesn't fit belongs in a store, and its address in the event
	retryAfter = "1"     // seconds, told to clients while the queue is full: a burst is over by then
)

// intake is what the routes need of the queue.
type intake interface {
	Publish(context.Context, ...event.Event) ([]queue.Accepted, error)
	Status(ctx context.Context, id string) (queue.Status, error)
}

// routes are the app's part of the HTTP interface.
type routes struct {
	events intake
	log    *slog.Logger
}

func (h routes) register(mux *http.ServeMux) {
	mux.HandleFunc("POST /events", h.post)
	mux.HandleFunc("GET /events/{id}", h.status)
}

// accepted answers POST /events.
type accepted struct {
	ID        string      `json:"id"`
	Sequence  uint64      `json:"sequence"`
	Status    queue.State `json:"status"`
	Duplicate bool        `json:"duplicate,omitempty"`
}

// told answers GET /events/{id}.
type told struct {
	ID         string      `json:"id"`
	Sequence   uint64      `json:"sequence"`
	Status     queue.State `json:"status"`
	Deliveries uint32      `json:"deliveries,omitempty"`
}

func (h routes) post(w http.ResponseWriter, r *http.Request) {
	body, ok := web.ReadJSONObject(w, r, maxEvent)
	if !ok {
		return
	}
	id, problem := chooseID(r.Header.Get("Idempotency-Key"), body)
	if problem != "" {
		web.WriteProblem(w, r, http.StatusBadRequest, problem)
		return
	}
	e := event.Event{ID: id, RequestID: web.RequestID(r.Context()), Body: body}
	// A trace context that is not well formed is left out, as the W3C wants it; the event is none the worse.
	if t := r.Header.Get("Traceparent"); event.ValidTraceParent(t) {
		e.TraceParent = t
	}
	if b := r.Header.Get("Baggage"); event.ValidBaggage(b) {
		e.Baggage = b
	}
	answers, err := h.events.Publish(r.Context(), e)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/events/"+id)
	web.WriteJSON(w, r, http.StatusAccepted, accepted{ID: id, Sequence: answers[0].Sequence, Status: queue.StateAccepted, Duplicate: answers[0].Duplicate})
}

// chooseID takes the id from the header or from the body's member "id", or makes one.
func chooseID(header string, body []byte) (id, problem string) {
	var named struct { // this package takes "ID" for another name than "id", as JSON does and encoding/json doesn't
		ID jsontext.Value `json:"id"`
	}
	_ = json.Unmarshal(body, &named) // it is an object: that was checked
	if named.ID != nil {
		if err := json.Unmarshal(named.ID, &id); err != nil {
			return "", `the member "id" is not a string`
		}
	}
	switch {
	case header != "" && named.ID != nil && header != id:
		return "", `the Idempotency-Key and the member "id" differ: send one of them`
	case header != "":
		id = header
	case named.ID == nil:
		return event.NewID(), ""
	}
	if err := event.CheckID(id); err != nil {
		return "", err.Error()
	}
	return id, ""
}

func (h routes) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, queue.ErrFull):
		w.Header().Set("Retry-After", retryAfter)
		web.WriteProblem(w, r, http.StatusServiceUnavailable, "the queue is full; try again later")
	case errors.Is(err, queue.ErrClosed):
		w.Header().Set("Retry-After", retryAfter)
		web.WriteProblem(w, r, http.StatusServiceUnavailable, "the app is shutting down; try again later")
	default:
		h.log.ErrorContext(r.Context(), "event could not be queued", "error", err)
		web.WriteProblem(w, r, http.StatusInternalServerError, "the event could not be queued")
	}
}

func (h routes) status(w http.ResponseWriter, r *http.Request) {
	s, err := h.events.Status(r.Context(), r.PathValue("id"))
	if err != nil {
		web.WriteProblem(w, r, http.StatusNotFound, "no event of this id is known")
		return
	}
	answer := told{ID: s.ID, Sequence: s.Sequence, Status: s.State}
	if s.State != queue.StateAccepted {
		answer.Deliveries = s.Deliveries
	}
	web.WriteJSON(w, r, http.StatusOK, answer)
}
