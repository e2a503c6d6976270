package web

import (
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	"example.com/base-app/pkg/depend"
)

// maxHeard is how much of a body stands in the log: an event, as a rule, and a quarter of what a line may hold, since
// the quotes of JSON are escaped there.
const maxHeard = 1 << 10

// overheard is the body of a request whose beginning is kept for the log.
type overheard struct {
	io.ReadCloser

	mu   sync.Mutex // a proxy's transport may still read when its handler is done
	head []byte
	read int64
}

// overhear keeps the beginning of what is read of the body, if it is text that the log wants. Else it returns nil, and
// the request is as it was.
func (s *site) overhear(r *http.Request) *overheard {
	if r.Body == nil || r.Body == http.NoBody || !s.Log.Enabled(r.Context(), slog.LevelDebug) || !readable(r.Header) {
		return nil
	}
	o := &overheard{ReadCloser: r.Body}
	r.Body = o
	return o
}

// readable tells whether a body is text that is shown as it comes. A form is not: it is what people log in with.
func readable(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || h.Get("Content-Encoding") != "" {
		return false
	}
	return strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "+json") || media == "application/json" || media == "application/x-ndjson"
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read += int64(n)
	o.head = append(o.head, p[:min(n, maxHeard-len(o.head))]...)
	return n, err
}

// tell logs what was read, without what names itself a secret. What nobody read was never here.
func (o *overheard) tell(r *http.Request, log *slog.Logger) {
	if o == nil {
		return
	}
	o.mu.Lock()
	text, read := string(o.head), o.read
	o.mu.Unlock()
	if read == 0 {
		return
	}
	whole := read == int64(len(text))
	if !whole { // between words: half a URL or half a string may hide what it is
		text = text[:max(0, strings.LastIndexAny(text, " \n\""))]
	}
	log.LogAttrs(r.Context(), slog.LevelDebug, "request body", slog.String("body", depend.Scrub(text)), slog.Int64("bytes", read), slog.Bool("whole", whole))
}
