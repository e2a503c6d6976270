package alert

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/getsentry/sentry-go"

	"example.com/base-app/pkg/text"
)

type counter = atomic.Uint64

const (
	sdkName     = "sentry.go"
	shortCommit = 12

	// What an event holds at most. Sentry takes 1 MiB and cuts values at 8 KiB.
	maxText    = 4 << 10   // of the error's text, in bytes
	maxValue   = 1 << 10   // of an attribute
	maxTag     = 200       // of a tag: Sentry's limit
	maxAttrs   = 32        // attributes
	maxEvent   = 200 << 10 // all of it as JSON; what is longer loses what led to it
	maxShape   = 200       // of a text in the fingerprint
	maxFrames  = 100
	maxKeyName = 64
	maxStack   = 64 << 10 // of a stack as text: maxFrames are some 20 KiB
)

// draft is what an event will be made of, in the background. It holds nothing that its maker may change later.
type draft struct {
	via       string // guard or log
	id        string // empty: a new one
	at        time.Time
	level     sentry.Level
	title     string // what went wrong, without what changes each time
	text      string // the error's, empty if there is none
	kind      string
	subject   string
	worker    string
	component string
	request   string
	trace     string
	span      string
	hint      string
	unhandled bool
	stack     []byte    // as the runtime writes it
	callers   []uintptr // in its place, if there is none
	attrs     []slog.Attr
	crumbs    []*crumb
	print     []string
}

// bound keeps of d what an event can hold: what waits must not be larger than what is sent.
func (d *draft) bound() {
	d.title, d.text, d.hint = cut(d.title, maxText), cut(d.text, maxText), cut(d.hint, maxValue)
	d.subject, d.worker = cut(d.subject, maxValue), cut(d.worker, maxValue)
	d.trace, d.span = text.Ellipsis(d.trace, maxTag), text.Ellipsis(d.span, maxTag)
	if len(d.stack) > maxStack {
		d.stack = bytes.Clone(d.stack[:maxStack])
	}
}

// putAll puts what a context carries into d.
func (d *draft) putAll(attrs []slog.Attr) {
	for _, a := range attrs {
		d.put(a)
	}
}

// put takes one attribute of a record or a context.
func (d *draft) put(a slog.Attr) {
	switch v := a.Value; a.Key {
	case "request_id":
		d.request = text.Ellipsis(v.String(), maxTag)
	case "trace_id":
		d.trace = v.String()
	case "span_id":
		d.span = v.String()
	case "report_id":
		if eventID.MatchString(v.String()) {
			d.id = v.String()
		}
	case "component":
		d.component = text.Ellipsis(v.String(), maxTag)
	default:
		if len(d.attrs) < maxAttrs {
			d.attrs = append(d.attrs, slog.String(text.Ellipsis(a.Key, maxKeyName), text.Ellipsis(valueText(v), maxValue)))
		}
	}
}

var eventID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func newEventID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// valueText returns a value as people read it. The methods of what is logged may panic; fmt survives that.
func valueText(v slog.Value) string {
	if v.Kind() == slog.KindAny {
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}

// fingerprint is the same for what is the same problem, however often and with whatever numbers it comes: the kind, who
// it happened to, and where, or its text.
func (d *draft) fingerprint() []string {
	where := shape(d.text)
	if place := topOf(d.stack); place != "" {
		where = text.Ellipsis(place, maxValue)
	}
	if d.via == "log" {
		return []string{"log", shape(d.worker), text.Ellipsis(d.title, maxValue), where}
	}
	return []string{d.kind, shape(d.title), shape(d.subject), where}
}

// shape returns a text without what changes each time: words with a digit in them are #.
func shape(s string) string {
	s = text.Ellipsis(s, maxShape)
	var b strings.Builder
	isWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for len(s) > 0 {
		n := strings.IndexFunc(s, isWord)
		if n < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:n])
		s = s[n:]
		end := strings.IndexFunc(s, func(r rune) bool { return !isWord(r) })
		if end < 0 {
			end = len(s)
		}
		if strings.IndexFunc(s[:end], unicode.IsDigit) >= 0 {
			b.WriteByte('#')
		} else {
			b.WriteString(s[:end])
		}
		s = s[end:]
	}
	return b.String()
}

// hide returns an attribute's value without secrets, and nothing of it if its name is that of a secret.
func hide(redact func(string) string, key, value string) string {
	if named := key + "=x"; redact(named) != named {
		return "[redacted]"
	}
	return redact(value)
}

// encode makes the event. Every text is scrubbed here, in the background.
func (r *reporter) encode(d draft, left uint64) ([]byte, error) {
	o, redact := r.a.o, r.a.redact
	tag := func(v string) string { return text.Ellipsis(text.OneLine(redact(v)), maxTag-len("…")) }
	ev := &sentry.Event{EventID: sentry.EventID(d.id), Timestamp: d.at.UTC(), Level: d.level, Platform: "go",
		Release: r.release(), Environment: o.Environment,
		ServerName: o.Device, Fingerprint: d.print, Transaction: tag(d.subject), Logger: tag(d.component),
		Sdk:  sentry.SdkInfo{Name: sdkName, Version: sentry.SDKVersion},
		Tags: map[string]string{}, Contexts: map[string]sentry.Context{
			"runtime": {"name": "go", "version": runtime.Version(), "goroutines": runtime.NumGoroutine()},
			"os":      {"name": runtime.GOOS},
			"device":  {"name": o.Device, "arch": runtime.GOARCH, "processor_count": runtime.NumCPU()}}}
	for i := range ev.Fingerprint {
		ev.Fingerprint[i] = redact(ev.Fingerprint[i])
	}
	for name, v := range map[string]string{"worker": d.worker, "kind": d.kind, "subject": d.subject,
		"component": d.component, "request_id": d.request, "deployment": o.Deployment, "commit": o.Commit} {
		if v != "" {
			ev.Tags[name] = tag(v)
		}
	}
	if left > 0 {
		ev.Tags["left_out"] = strconv.FormatUint(left, 10)
	}
	if d.trace != "" {
		ev.Contexts["trace"] = sentry.Context{"trace_id": d.trace, "span_id": d.span}
	}
	more := sentry.Context{}
	for _, a := range d.attrs {
		more[a.Key] = hide(redact, a.Key, a.Value.String())
	}
	if d.hint != "" {
		more["hint"] = redact(d.hint)
	}
	if len(more) > 0 {
		ev.Contexts["attributes"] = more
	}
	frames := r.frames(d)
	title, said := text.Ellipsis(text.OneLine(redact(d.title)), maxText), text.Ellipsis(redact(d.text), maxText)
	if d.text != "" || len(d.stack) > 0 {
		ev.Exception = []sentry.Exception{{Type: title, Value: said, Stacktrace: frames,
			Mechanism: &sentry.Mechanism{Type: d.via, Handled: sentry.Pointer(!d.unhandled)}}}
	} else {
		ev.Message = title
		if frames != nil {
			ev.Threads = []sentry.Thread{{Stacktrace: frames, Current: true}}
		}
	}
	for _, c := range d.crumbs {
		ev.Breadcrumbs = append(ev.Breadcrumbs, c.render(redact))
	}
	body, err := json.Marshal(ev)
	if len(body) > maxEvent {
		ev.Breadcrumbs = nil
		delete(ev.Contexts, "attributes")
		body, err = json.Marshal(ev)
	}
	return body, err
}
