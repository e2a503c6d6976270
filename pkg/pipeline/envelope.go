package pipeline

import (
	"bytes"
	"fmt"
	"net/http"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/web"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxEvent = 1 << 20 // bytes of one event: what doesn't fit belongs in a store, and its address in the event
	// A batch is written at once; more would hold up the others.
	maxBatch       = 8 << 20 // bytes
	maxBatchEvents = 1000

	mediaLines = "application/x-ndjson"

	// unknownType is the problem type of an event that no handler takes, relative to the address that was asked.
	unknownType = "/problems/unknown-event-type"
)

func problem(status int, format string, args ...any) *web.Problem {
	return &web.Problem{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// split makes an event of each line of a batch that is not empty.
func (d door) split(r *http.Request, body []byte) (events []event.Event, p *web.Problem) {
	if r.Header.Get("Idempotency-Key") != "" {
		return nil, problem(http.StatusBadRequest, `an Idempotency-Key is for one event; name each line's event by its member "id"`)
	}
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		switch {
		case len(events) == maxBatchEvents:
			return nil, problem(http.StatusRequestEntityTooLarge, "more than %d events in one request", maxBatchEvents)
		case len(line) > maxEvent:
			return nil, problem(http.StatusRequestEntityTooLarge, "line %d: the event is larger than %d bytes", number, maxEvent)
		}
		if err := web.CheckObject(line); err != nil {
			return nil, problem(http.StatusBadRequest, "line %d: %v", number, err)
		}
		e, p := d.envelope(r, line, "")
		if p != nil {
			p.Detail = fmt.Sprintf("line %d: %s", number, p.Detail)
			return nil, p
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil, problem(http.StatusBadRequest, "the body is empty; send one JSON object on each line")
	}
	return events, nil
}

// envelope makes an event of a body that is one JSON object. Key is the id that the request's header names, if any.
func (d door) envelope(r *http.Request, body []byte, key string) (e event.Event, p *web.Problem) {
	var named struct { // this package takes "ID" for another name than "id", as JSON does and encoding/json doesn't
		ID   jsontext.Value `json:"id"`
		Type jsontext.Value `json:"type"`
	}
	_ = json.Unmarshal(body, &named) // it is an object: that was checked
	id, err := chooseID(key, named.ID)
	if err != nil {
		return e, problem(http.StatusBadRequest, "%v", err)
	}
	e = event.Event{ID: id, RequestID: web.RequestID(r.Context()), Body: body}
	if e.Type, err = text("type", named.Type); err == nil {
		err = event.CheckType(e.Type)
	}
	if err != nil {
		return e, problem(http.StatusBadRequest, "%v", err)
	}
	if !d.handlers.accepts(e.Type) {
		p := problem(http.StatusUnprocessableEntity, "%v", d.handlers.unknown(e.Type))
		p.Type, p.Title = unknownType, "Unknown event type"
		return e, p
	}
	// A trace context that is not well formed is left out, as the W3C wants it; the event is none the worse.
	if t := r.Header.Get("Traceparent"); event.ValidTraceParent(t) {
		e.TraceParent = t
	}
	if b := r.Header.Get("Baggage"); event.ValidBaggage(b) {
		e.Baggage = b
	}
	return e, nil
}

// chooseID returns the id that the header or the body names; without either it is empty, and the queue chooses one.
func chooseID(header string, member jsontext.Value) (string, error) {
	id, err := text("id", member)
	switch {
	case err != nil:
		return "", err
	case header == "" && member == nil:
		return "", nil
	case header != "" && member != nil && header != id:
		return "", fmt.Errorf(`the Idempotency-Key and the member "id" differ: send one of them`)
	case header != "":
		id = header
	}
	return id, event.CheckID(id)
}

// text returns a member that must be a string, or empty if it is not there.
func text(name string, member jsontext.Value) (s string, err error) {
	if member == nil {
		return "", nil
	}
	if json.Unmarshal(member, &s) != nil || member.Kind() != '"' {
		return "", fmt.Errorf("the member %q is not a string", name)
	}
	return s, nil
}
