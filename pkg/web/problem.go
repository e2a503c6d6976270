package web

import (
	"encoding/json"
	"fmt"
	"net/http"
)

const problemType = "application/problem+json"

// Problem is what went wrong, for programs and for people: RFC 9457, with the request id and a hint as extensions.
type Problem struct {
	Type      string `json:"type,omitempty"`       // a URI of the kind of problem; empty means about:blank: see the status
	Title     string `json:"title"`                // the kind in words; empty becomes the status's text
	Status    int    `json:"status"`               // the HTTP status
	Detail    string `json:"detail,omitempty"`     // this occurrence, in words that help its client
	Instance  string `json:"instance,omitempty"`   // the path that was asked for
	RequestID string `json:"request_id,omitempty"` // what to search the logs for
	Hint      string `json:"hint,omitempty"`       // what a person can do about it
}

// Error makes a Problem an error: its status, its title and its detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, p.title())
	}
	return fmt.Sprintf("%d %s: %s", p.Status, p.title(), p.Detail)
}

func (p *Problem) title() string {
	if p.Title != "" {
		return p.Title
	}
	return http.StatusText(p.Status)
}

// Write answers r with the problem: as JSON, or as a page if the request prefers text/html to JSON, as browsers do.
// Title, instance and request id are filled in where they are empty. Headers that the handler had set for a successful
// answer (length, encoding, ETag) are removed; Allow and Retry-After stay.
func (p *Problem) Write(w http.ResponseWriter, r *http.Request) {
	filled := *p
	filled.Title = p.title()
	if filled.Instance == "" {
		filled.Instance = r.URL.EscapedPath()
	}
	if filled.RequestID == "" {
		filled.RequestID = RequestID(r.Context())
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	if x := exchangeOf(r.Context()); x != nil && prefersHTML(r.Header["Accept"]) {
		x.site.pages().write(w, p.Status, x.page(&filled))
		return
	}
	h.Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(filled.document())
}

func (p *Problem) document() []byte {
	filled := *p
	filled.Title = p.title()
	text, _ := json.Marshal(filled) // strings and a number: it can't fail
	return append(text, '\n')
}

// WriteProblem answers r with a Problem of the given status (400 to 599) and detail.
func WriteProblem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	(&Problem{Status: status, Detail: detail}).Write(w, r)
}

// WriteJSON answers r with v as JSON and a newline. If v can't be encoded, which is a bug, WriteJSON panics before
// anything is sent, and the server answers 500. It ignores a client that is gone.
func WriteJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("web: write json: %s %s: %w", r.Method, r.Pattern, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
