package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/web"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxEvent = 1 << 20 // bytes of one event: what doesn't fit belongs in a store, and its address in the event
	// A batch is written at once; more would hold up the others.
	maxBatch       = 8 << 20 // bytes
	maxBatchEvents = 1000
	retryAfter     = "1" // seconds, told to clients while the queue takes nothing: a burst is over by then

	mediaLines = "application/x-ndjson"
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

// accepted answers POST /events, once or on a line for each event.
type accepted struct {
	ID        string      `json:"id"`
	Sequence  uint64      `json:"sequence"`
	Status    queue.State `json:"status"`
	Duplicate bool        `json:"duplicate,omitzero"`
}

// told answers GET /events/{id}.
type told struct {
	ID         string      `json:"id"`
	Sequence   uint64      `json:"sequence"`
	Status     queue.State `json:"status"`
	Deliveries uint32      `json:"deliveries,omitzero"`
}

func (h routes) post(w http.ResponseWriter, r *http.Request) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == mediaLines {
		h.postLines(w, r)
		return
	}
	body, ok := web.ReadJSONObject(w, r, maxEvent)
	if !ok {
		return
	}
	e, problem := envelope(r, body, r.Header.Get("Idempotency-Key"))
	if problem != "" {
		web.WriteProblem(w, r, http.StatusBadRequest, problem)
		return
	}
	answers, err := h.events.Publish(r.Context(), e)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/events/"+answers[0].ID)
	web.WriteJSON(w, r, http.StatusAccepted, answer(answers[0]))
}

// postLines takes newline-delimited JSON, an event on each line: https://github.com/ndjson/ndjson-spec. Either all are
// accepted or none is.
func (h routes) postLines(w http.ResponseWriter, r *http.Request) {
	body, ok := web.ReadBody(w, r, maxBatch, mediaLines)
	if !ok {
		return
	}
	if r.Header.Get("Idempotency-Key") != "" {
		web.WriteProblem(w, r, http.StatusBadRequest, `an Idempotency-Key is for one event; name each line's event by its member "id"`)
		return
	}
	events, status, problem := split(r, body)
	if problem != "" {
		web.WriteProblem(w, r, status, problem)
		return
	}
	answers, err := h.events.Publish(r.Context(), events...)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	var text []byte
	for _, a := range answers {
		line, err := json.Marshal(answer(a))
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		text = append(append(text, line...), '\n')
	}
	w.Header().Set("Content-Type", mediaLines)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(text) // whoever is gone asks again, under the same ids
}

// split makes an event of each line that is not empty.
func split(r *http.Request, body []byte) (events []event.Event, status int, problem string) {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		switch {
		case len(events) == maxBatchEvents:
			return nil, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d events in one request", maxBatchEvents)
		case len(line) > maxEvent:
			return nil, http.StatusRequestEntityTooLarge, fmt.Sprintf("line %d: the event is larger than %d bytes", number, maxEvent)
		}
		if err := web.CheckObject(line); err != nil {
			return nil, http.StatusBadRequest, fmt.Sprintf("line %d: %v", number, err)
		}
		e, problem := envelope(r, line, "")
		if problem != "" {
			return nil, http.StatusBadRequest, fmt.Sprintf("line %d: %s", number, problem)
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil, http.StatusBadRequest, "the body is empty; send one JSON object on each line"
	}
	return events, 0, ""
}

// envelope makes an event of a body that is one JSON object. Key is the id that the request's header names, if any.
func envelope(r *http.Request, body []byte, key string) (e event.Event, problem string) {
	id, problem := chooseID(key, body)
	e = event.Event{ID: id, RequestID: web.RequestID(r.Context()), Body: body}
	// A trace context that is not well formed is left out, as the W3C wants it; the event is none the worse.
	if t := r.Header.Get("Traceparent"); event.ValidTraceParent(t) {
		e.TraceParent = t
	}
	if b := r.Header.Get("Baggage"); event.ValidBaggage(b) {
		e.Baggage = b
	}
	return e, problem
}

// chooseID takes the id from the header or from the body's member "id"; without either it is the queue's to choose.
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
		return "", ""
	}
	if err := event.CheckID(id); err != nil {
		return "", err.Error()
	}
	return id, ""
}

func answer(a queue.Accepted) accepted {
	return accepted{ID: a.ID, Sequence: a.Sequence, Status: queue.StateAccepted, Duplicate: a.Duplicate}
}

// refuse answers for a queue that took nothing. After any of these the same request may be sent again: an event that
// was accepted after all is known by its id.
func (h routes) refuse(w http.ResponseWriter, r *http.Request, err error) {
	detail := ""
	switch {
	case errors.Is(err, queue.ErrFull):
		detail = "the queue is full; try again later"
	case errors.Is(err, queue.ErrClosed):
		detail = "the app is shutting down; try again later"
	case errors.Is(err, queue.ErrUnavailable):
		h.log.WarnContext(r.Context(), "event could not be queued", "error", err)
		detail = "the queue takes no events at present; try again later"
	case r.Context().Err() != nil: // the client is gone, or its time is over
		detail = "the request ended before the event was on the disk; send it again under the same id"
	default:
		h.log.ErrorContext(r.Context(), "event could not be queued", "error", err)
		web.WriteProblem(w, r, http.StatusInternalServerError, "the event could not be queued")
		return
	}
	w.Header().Set("Retry-After", retryAfter)
	web.WriteProblem(w, r, http.StatusServiceUnavailable, detail)
}

func (h routes) status(w http.ResponseWriter, r *http.Request) {
	s, err := h.events.Status(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, queue.ErrUnknown):
		web.WriteProblem(w, r, http.StatusNotFound, "no event of this id is known")
		return
	case err != nil:
		h.refuse(w, r, err)
		return
	}
	answer := told{ID: s.ID, Sequence: s.Sequence, Status: s.State}
	if s.State != queue.StateAccepted {
		answer.Deliveries = s.Deliveries
	}
	web.WriteJSON(w, r, http.StatusOK, answer)
}
