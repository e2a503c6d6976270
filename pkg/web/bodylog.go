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

// maxLogged is how many bytes of a body are logged. Most events are shorter. It is a quarter of what a line may hold:
// the log escapes the quotes of JSON.
const maxLogged = 1 << 10

// bodyLog is a request's body that keeps its own beginning for the log. A nil bodyLog logs nothing.
type bodyLog struct {
	io.ReadCloser
	json bool

	mu   sync.Mutex // a proxy's transport may still read when its handler is done
	head []byte
	read int64
}

// keepBody replaces the request's body by a bodyLog, if the body is text and the log is at debug. Otherwise it returns
// nil and leaves the request alone.
func (s *site) keepBody(r *http.Request) *bodyLog {
	if r.Body == nil || r.Body == http.NoBody || !s.Log.Enabled(r.Context(), slog.LevelDebug) {
		return nil
	}
	text, json := readable(r.Header)
	if !text && !json {
		return nil
	}
	b := &bodyLog{ReadCloser: r.Body, json: json}
	r.Body = b
	return b
}

// readable returns whether a body is plain text or JSON. A form is neither: people log in with forms.
func readable(h http.Header) (text, json bool) {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || h.Get("Content-Encoding") != "" {
		return false, false
	}
	json = strings.HasSuffix(media, "+json") || media == "application/json" || media == "application/x-ndjson"
	return strings.HasPrefix(media, "text/"), json
}

func (b *bodyLog) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(n)
	b.head = append(b.head, p[:min(n, maxLogged-len(b.head))]...)
	return n, err
}

// log logs the beginning of what the handler read, without values that look like secrets. It logs nothing if the handler
// read nothing.
func (b *bodyLog) log(r *http.Request, log *slog.Logger) {
	if b == nil {
		return
	}
	b.mu.Lock()
	text, read := string(b.head), b.read
	b.mu.Unlock()
	if read == 0 {
		return
	}
	whole := read == int64(len(text))
	if !whole { // cut between words: half a URL or half a string may hide that it holds a secret
		text = text[:max(0, strings.LastIndexAny(text, " \n\""))]
	}
	if b.json {
		text = hideCredentials(text)
	}
	log.LogAttrs(r.Context(), slog.LevelDebug, "request body",
		slog.String("body", dependency.Scrub(text)), slog.Int64("bytes", read), slog.Bool("whole", whole))
}

// hiddenValue stands in the log in place of a secret.
const hiddenValue = "[redacted]"

// hideCredentials returns JSON, or the beginning of some, without the values whose names sound like a credential, at any
// depth and however the name is written. After a syntax error it leaves out the rest, since nobody knows which name a
// value belongs to.
func hideCredentials(text string) string {
	var out strings.Builder
	shown := 0 // the text before this is done: it is in out, or left out
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
		isName := in == jsontext.KindBeginObject && n%2 == 1 && token.Kind() == jsontext.KindString
		if !isName || !dependency.IsCredential(token.String()) {
			continue
		}
		out.WriteString(text[shown:d.InputOffset()] + ":" + hiddenValue)
		if d.SkipValue() != nil {
			return out.String()
		}
		shown = int(d.InputOffset())
	}
}
