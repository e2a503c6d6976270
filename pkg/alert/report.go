package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/getsentry/sentry-go"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

// reporter makes events of errors and sends them to Sentry, or writes them into files. The form is Sentry's and so are the
// types, from its Go library. The library's client is not used: it reports neither what was lost nor when it is done.
type reporter struct {
	*sender
	a      *Alerts
	dsn    *sentry.Dsn // nil: files
	client *http.Client
	files  files   // with a dsn, for what could not be sent before the end
	crumbs *crumbs // nil with files: who reads them has the log
	module string  // ours: its frames are the app's
}

func (a *Alerts) newReporter(p plan) *reporter {
	r := &reporter{a: a, dsn: p.dsn, files: files{a.o.Dir}}
	if info, ok := debug.ReadBuildInfo(); ok {
		r.module = info.Main.Path
	}
	service := sentryName
	if p.dsn == nil {
		service = fileName
	} else {
		r.crumbs = &crumbs{}
	}
	r.sender = a.sender(service, eventQueue, eventBurst, eventWindow)
	r.keeps = p.dsn != nil && a.o.Dir != ""
	return r
}

func (r *reporter) connect(client connector) (err error) {
	if r.dsn != nil {
		r.client, err = dial(client, r.service, policy())
	}
	return err
}

// Report makes an event of an error that a guard caught. It does not block. During the shutdown it does nothing.
func (a *Alerts) Report(ctx context.Context, e *fault.Error) {
	if !a.isClosing() {
		a.errors.report(ctx, e, sentry.LevelError)
	}
}

// First reports the cause of the shutdown, unless it is reported already or its kind is not reported.
func (a *Alerts) First(cause error) {
	e, ok := errors.AsType[*fault.Error](cause)
	if !ok {
		e = &fault.Error{Kind: fault.KindUnhandled, Err: cause}
	}
	if e.Kind.Rule().Report && e.Claim() {
		a.errors.report(context.Background(), e, sentry.LevelFatal)
	}
}

func (r *reporter) report(ctx context.Context, e *fault.Error, level sentry.Level) {
	d := draft{via: "guard", at: time.Now(), level: level, worker: worker.FromContext(ctx).Name(), kind: e.Kind.String(), subject: e.Subject,
		text: e.Error(), hint: e.Hint, stack: e.Stack, unhandled: e.Kind == fault.KindPanic || level == sentry.LevelFatal}
	d.title = d.kind
	if d.subject != "" {
		d.title += " in " + d.subject
	}
	d.putAll(logging.Attrs(ctx))
	r.offerDraft(d)
}

// Record is for logging.Options: of an ERROR record it makes an event, unless a guard reports it or its error's kind is not
// reported; what is below, down to INFO, becomes part of the events that follow.
func (a *Alerts) Record(ctx context.Context, rec slog.Record) {
	r := a.errors
	switch {
	case rec.Level < slog.LevelInfo: // debug records hold bodies of events, which must not leave the machine
	case rec.Level < slog.LevelError:
		r.crumbs.add(rec)
	case !fault.IsReported(ctx) && !a.isClosing():
		r.reportLine(rec)
	}
}

func (r *reporter) reportLine(rec slog.Record) {
	d := draft{at: rec.Time, via: "log", level: sentry.LevelError, title: rec.Message, attrs: make([]slog.Attr, 0, rec.NumAttrs())}
	var err error
	rec.Attrs(func(a slog.Attr) bool {
		switch {
		case a.Key == "worker":
			d.worker = a.Value.String()
			return true
		case a.Key == "stack" && a.Value.Kind() == slog.KindString:
			d.stack = []byte(a.Value.String())
			return true
		case a.Key == "subject":
			d.subject = a.Value.String()
		case a.Key == "cause":
			d.text = valueText(a.Value)
		case a.Key == "error" && err == nil:
			err, _ = a.Value.Any().(error)
			d.text = valueText(a.Value)
			return true
		}
		d.put(a)
		return true
	})
	if err != nil {
		kind := fault.Of(err)
		if !kind.Rule().Report {
			return
		}
		if e, ok := errors.AsType[*fault.Error](err); ok && !e.Claim() {
			return // it is an event already
		}
		d.kind = kind.String()
		if d.stack == nil {
			d.stack = fault.Stack(err)
		}
	}
	if d.stack == nil {
		d.callers = callers()
	}
	r.offerDraft(d)
}

// offerDraft queues what will be an event, unless its worker or component is ignored.
func (r *reporter) offerDraft(d draft) {
	if count := r.a.ignores(d); count != nil {
		count.Add(1)
		return
	}
	d.bound()
	if d.id == "" {
		d.id = newEventID()
	}
	d.crumbs = r.crumbs.list()
	d.print = d.fingerprint()
	var body []byte // made with the first try
	r.envelope(strings.Join(d.print, "\x00"), d.id, d.at, "event", func(left uint64) (_ []byte, err error) {
		if body == nil {
			body, err = r.encode(d, left)
		}
		return body, err
	})
}

// envelope queues the item of an envelope. It becomes a file if it can't be sent before the end.
func (r *reporter) envelope(key, id string, at time.Time, kind string, encode func(left uint64) ([]byte, error)) {
	it := item{key: key, send: func(ctx context.Context, left uint64) error {
		body, err := encode(left)
		if err != nil {
			return outbox.Final(err)
		}
		return r.deliver(ctx, id, at, kind, body)
	}}
	if r.keeps {
		it.keep = func(left uint64) error {
			body, err := encode(left)
			if err != nil {
				return err
			}
			return r.files.write(id, at, body)
		}
	}
	r.offer(it)
}

// Feedback sends what a person wrote about a failure, linked to its event.
func (a *Alerts) Feedback(f web.Feedback) {
	r, at, id := a.errors, time.Now(), newEventID()
	r.envelope("", id, at, "feedback", func(uint64) ([]byte, error) {
		about := map[string]string{"message": a.redact(f.Comment), "associated_event_id": f.ReportID, "source": "error page"}
		if f.Name != "" {
			about["name"] = a.redact(f.Name)
		}
		if f.Email != "" {
			about["contact_email"] = text.Ellipsis(f.Email, maxValue) // an address looks like what is scrubbed
		}
		// https://develop.sentry.dev/sdk/telemetry/feedbacks/: an event of a type of its own.
		return json.Marshal(map[string]any{"type": "feedback", "event_id": id, "timestamp": at.UTC(), "platform": "go", "level": "info",
			"release": r.release(), "environment": a.o.Environment, "server_name": a.o.Device,
			"tags":     map[string]string{"request_id": f.RequestID},
			"contexts": map[string]any{"feedback": about}})
	})
}

// deliver makes one try.
func (r *reporter) deliver(ctx context.Context, id string, at time.Time, kind string, body []byte) error {
	if r.dsn == nil {
		return r.files.write(id, at, body)
	}
	// https://develop.sentry.dev/sdk/data-model/envelopes/: a header, then each item with a header of its own.
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"event_id":%q,"sent_at":%q,"sdk":{"name":%q,"version":%q}}`+"\n",
		id, time.Now().UTC().Format(time.RFC3339Nano), sdkName, sentry.SDKVersion)
	fmt.Fprintf(&b, `{"type":%q,"length":%d}`+"\n", kind, len(body))
	b.Write(body)
	b.WriteByte('\n')
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.dsn.GetAPIURL().String(), &b)
	if err != nil {
		return outbox.Final(bare(err))
	}
	req.Header.Set("Content-Type", "application/x-sentry-envelope")
	auth := "Sentry sentry_version=7, sentry_client=" + sdkName + "/" + sentry.SDKVersion + ", sentry_key=" + r.dsn.GetPublicKey()
	if secret := r.dsn.GetSecretKey(); secret != "" { // of servers before 2018
		auth += ", sentry_secret=" + secret
	}
	req.Header.Set("X-Sentry-Auth", auth)
	answer, err := call(r.client, req)
	if err != nil {
		return err
	}
	if trimmed := bytes.TrimSpace(answer); len(trimmed) > 0 && trimmed[0] != '{' { // relays may answer nothing
		return nonsense("no JSON")
	}
	return nil
}

// release is the version in Sentry's form: package@version.
func (r *reporter) release() string {
	o := r.a.o
	v := strings.Map(func(c rune) rune {
		if strings.ContainsRune("\n\r\t/\\ ", c) {
			return '-'
		}
		return c
	}, o.App+"@"+o.Version)
	if o.Commit != "" && !strings.Contains(o.Version, o.Commit[:min(len(o.Commit), shortCommit)]) {
		v += "+" + o.Commit[:min(len(o.Commit), shortCommit)]
	}
	return text.Ellipsis(v, maxTag)
}

// ignores returns the count of the name that hides d, nil if none does.
func (a *Alerts) ignores(d draft) *counter {
	if len(a.ignored) == 0 {
		return nil
	}
	names := []string{d.worker, strings.TrimRight(strings.TrimRight(d.worker, "0123456789"), "-"), d.subject, d.component}
	for _, n := range names {
		if c := a.ignored[n]; c != nil && n != "" {
			return c
		}
	}
	return nil
}

// callers returns where the record comes from: who called slog.
func callers() []uintptr {
	const above = 4 // runtime.Callers, callers, reportLine, Record
	pcs := make([]uintptr, maxFrames)
	return slices.Clip(pcs[:runtime.Callers(above, pcs)])
}
