package web

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"example.com/base-app/pkg/dependency"
)

// maxHeard is how much of a body stands in the log: an event, as a rule, and a quarter of what a line may hold, since
// the quotes of JSON are escaped there.
const maxHeard = 1 << 10

// overheard is the body of a request whose beginning is kept for the log.
type overheard struct {
	io.ReadCloser
	json bool

	mu   sync.Mutex // a proxy's transport may still read when its handler is done
	head []byte
	read int64
}

// overhear keeps the beginning of what is read of the body, if it is text that the log wants. Else it returns nil, and
// the request is as it was.
func (s *site) overhear(r *http.Request) *overheard {
	if r.Body == nil || r.Body == http.NoBody || !s.Log.Enabled(r.Context(), slog.LevelDebug) {
		return nil
	}
	text, json := readable(r.Header)
	if !text && !json {
		return nil
	}
	o := &overheard{ReadCloser: r.Body, json: json}
	r.Body = o
	return o
}

// readable tells whether a body is text that is shown as it comes, or JSON. A form is neither: it is what people log in with.
func readable(h http.Header) (text, json bool) {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || h.Get("Content-Encoding") != "" {
		return false, false
	}
	return strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+json") || media == "application/json" || media == "application/x-ndjson"
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
	if o.json {
		text = hideCredentials(text)
	}
	log.LogAttrs(r.Context(), slog.LevelDebug, "request body", slog.String("body", dependency.Scrub(text)), slog.Int64("bytes", read), slog.Bool("whole", whole))
}

// hiddenValue takes the place of what is not shown.
const hiddenValue = "[redacted]"

// hideCredentials returns JSON, or the beginning of some, without the values whose names sound like a credential, however
// deep they are and however the name is written. What stands behind a mistake in it is not shown: nobody knows whose
// value it is.
func hideCredentials(text string) string {
	var out strings.Builder
	shown := 0 // how much of the text is in out, or left out
	d := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		token, err := d.ReadToken()
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF): // the end, or where it was cut
			return out.String() + text[shown:]
		case err != nil:
			return out.String() + text[shown:d.InputOffset()] + hiddenValue
		}
		in, n := d.StackIndex(d.StackDepth())
		if isName := in == jsontext.KindBeginObject && n%2 == 1; !isName || token.Kind() != jsontext.KindString || !dependency.IsCredential(token.String()) {
			continue
		}
		out.WriteString(text[shown:d.InputOffset()] + ":" + hiddenValue)
		if d.SkipValue() != nil {
			return out.String()
		}
		shown = int(d.InputOffset())
	}
}
