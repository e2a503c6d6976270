package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-telegram/bot/models"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

// logTo returns a logger whose records a hears.
func logTo(t testing.TB, a *Alerts) *slog.Logger {
	t.Helper()
	l, err := logging.New(logging.Options{Out: &testlog.Log{}, Format: "json", Syslog: "off", Observe: a.Record})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l.Logger()
}

// inRequest is the context of a request that the worker called web serves.
func inRequest(t testing.TB) context.Context {
	ctx := worker.NewContext(t.Context(), worker.New("web"))
	return logging.With(ctx, slog.String("request_id", "req-1"), slog.String("trace_id", "0af7651916cd43dd8448eb211c80319c"), slog.String("span_id", "b7ad6b7169203331"))
}

const reportID = "0123456789abcdef0123456789abcdef"

//go:noinline
func explode() { panic("no way on at 0x1234") }

// A guard logs an error and reports it. It is one event, with all that is known; what was logged before leads to it.
func TestWhatAGuardCatchesIsOneEvent(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn, Environment: "staging"})
	log := logTo(t, a)
	log.DebugContext(inRequest(t), "request body", "body", "not for others")
	log.InfoContext(inRequest(t), "before", "password", "x", "n", 7)
	ctx := logging.With(inRequest(t), slog.String("report_id", reportID))
	guard := fault.Guard{Log: log, Report: a.Report}
	_ = guard.Run(ctx, "handler GET /honeypot/", func(context.Context) error { explode(); return nil })
	log.InfoContext(ctx, "after") // nothing of its own
	finish(t, a)
	have := s.list()
	if len(have) != 1 {
		t.Fatalf("want one event, have %d", len(have))
	}
	e := have[0]
	if e.EventID != reportID || e.Level != "error" || e.Environment != "staging" || e.ServerName != "box-1" || e.Transaction != "handler GET /honeypot/" {
		t.Errorf("want the report's id and who it was, have %s", e.raw)
	}
	for name, want := range map[string]string{"worker": "web", "request_id": "req-1", "kind": "panic", "subject": "handler GET /honeypot/", "deployment": "blue", "commit": "abcdef0123456789"} {
		if e.Tags[name] != want {
			t.Errorf("tag %s: want %s, have %s", name, want, e.Tags[name])
		}
	}
	if c := e.Contexts["trace"]; c["trace_id"] != "0af7651916cd43dd8448eb211c80319c" || c["span_id"] != "b7ad6b7169203331" {
		t.Errorf("want the trace, have %v", c)
	}
	x := e.Exception[0]
	if x.Type != "panic in handler GET /honeypot/" || !strings.Contains(x.Value, "no way on") || *x.Mechanism.Handled {
		t.Errorf("want the panic, have %+v", x)
	}
	top := x.Stacktrace.Frames[len(x.Stacktrace.Frames)-1]
	if top.Function != "explode" || top.Module != "example.com/base-app/pkg/alert" || top.Filename != "alert_test.go" || top.Lineno == 0 || !top.InApp {
		t.Errorf("want the place that panicked on top, have %+v", top)
	}
	if first := x.Stacktrace.Frames[0]; first.InApp && first.Module == "testing" {
		t.Errorf("want others' frames marked as such, have %+v", first)
	}
	if len(e.Breadcrumbs) != 1 || e.Breadcrumbs[0].Message != "before" || e.Breadcrumbs[0].Category != "web" || e.Breadcrumbs[0].Level != "info" || e.Breadcrumbs[0].Data["n"] != "7" || e.Breadcrumbs[0].Data["password"] != "[redacted]" {
		t.Errorf("want what led to it, have %+v", e.Breadcrumbs)
	}
}

// ERROR records that no guard reports are events by the rule of their error's kind; dependencies make no noise.
func TestErrorRecordsAreEventsByTheirErrorsKind(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		level slog.Level
		attrs []any
		want  string // the exception's type and value, or the message; empty: no event
	}{
		{"an error", slog.LevelError, []any{"error", boom}, "it failed: boom"},
		{"a text", slog.LevelError, []any{"n", 1}, "it failed"},
		{"a text as an error", slog.LevelError, []any{"error", "boom"}, "it failed: boom"},
		{"a warning", slog.LevelWarn, []any{"error", boom}, ""},
		{"a dependency", slog.LevelError, []any{"error", fault.Dependency("db", boom)}, ""},
		{"a dependency, wrapped", slog.LevelError, []any{"error", fmt.Errorf("load: %w", fault.Dependency("db", boom))}, ""},
		{"a setting", slog.LevelError, []any{"error", fault.Config("mend it", boom)}, ""},
		{"a crash", slog.LevelError, []any{"cause", "fatal error: all goroutines are asleep", "stack", "main.f(...)\n\t/src/main.go:7 +0x1d"}, "it failed: fatal error: all goroutines are asleep"},
	} {
		s, dsn := sentryServer(t)
		a, _ := open(t, Options{DSN: dsn})
		logTo(t, a).Log(inRequest(t), c.level, "it failed", c.attrs...)
		finish(t, a)
		have := ""
		for _, e := range s.list() {
			have += e.Message
			for _, x := range e.Exception {
				have += x.Type + ": " + x.Value
			}
			if e.Tags["worker"] != "web" || e.Tags["request_id"] != "req-1" {
				t.Errorf("%s: want the worker and the request, have %v", c.name, e.Tags)
			}
		}
		if have != c.want {
			t.Errorf("%s: want %q, have %q", c.name, c.want, have)
		}
	}
}

func TestWhatWasCapturedIsNoSecondEventWhenItIsLogged(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn})
	err := fault.Recover("handle", func() error { explode(); return nil })
	a.Capture(inRequest(t), err)
	logTo(t, a).ErrorContext(inRequest(t), "event is dead", "error", fmt.Errorf("e1: %w", err))
	a.Capture(inRequest(t), err)
	finish(t, a)
	if have := s.list(); len(have) != 1 || have[0].Tags["kind"] != "panic" || have[0].Tags["request_id"] != "req-1" {
		t.Errorf("want one event, have %d", len(have))
	}
}

func TestARecordWithoutAStackShowsWhoLogged(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn})
	logHere(logTo(t, a))
	finish(t, a)
	frames := s.list()[0].Threads[0].Stacktrace.Frames
	if top := frames[len(frames)-1]; top.Function != "logHere" {
		t.Errorf("want the place that logged on top, have %+v", top)
	}
}

//go:noinline
func logHere(log *slog.Logger) { log.Error("no stack") }

// One worker's repeated failure is one issue, whatever numbers are in it; different failures are different issues.
func TestTheFingerprintIsThatOfTheProblem(t *testing.T) {
	of := func(kind fault.Kind, subject, text string) string {
		d := draft{via: "guard", kind: kind.String(), subject: subject, title: kind.String() + " in " + subject, text: text}
		return strings.Join(d.fingerprint(), "|")
	}
	same := of(fault.KindUnhandled, "handler-1", "event 4711: dial 10.0.0.1:443: i/o timeout after 3s")
	if other := of(fault.KindUnhandled, "handler-7", "event 0815: dial 10.0.0.9:1443: i/o timeout after 12s"); other != same {
		t.Errorf("want one issue, have %q and %q", same, other)
	}
	for _, other := range []string{of(fault.KindUnhandled, "reader", "event 4711: dial 10.0.0.1:443: i/o timeout after 3s"), of(fault.KindUnhandled, "handler-1", "no space left"), of(fault.KindStuck, "handler-1", "event 4711: dial 10.0.0.1:443: i/o timeout after 3s")} {
		if other == same {
			t.Errorf("want another issue than %q", same)
		}
	}
}

// A storm is a few events, and the number of the others.
func TestAStormIsAFewEventsAndANumber(t *testing.T) {
	const n = 500
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn})
	for i := range n {
		a.Report(t.Context(), &fault.Error{Kind: fault.KindUnhandled, Subject: "reader", Err: fmt.Errorf("event %d failed", i)})
	}
	finish(t, a)
	have := s.list()
	left := fmt.Sprint(n - eventBurst - 1)
	if len(have) != eventBurst+1 || have[eventBurst].Tags["left_out"] != left || have[0].Tags["left_out"] != "" {
		t.Errorf("want %d events and the last to tell of %s others, have %d and %v", eventBurst+1, left, len(have), have[len(have)-1].Tags)
	}
	if st := stat(a, "sentry"); st.Sent != eventBurst+1 || fmt.Sprint(st.Suppressed) != left || st.Dropped != 0 {
		t.Errorf("want it counted, have %+v", st)
	}
}

func TestAnIgnoredWorkerOrComponentIsCounted(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn, Ignore: []string{"handler", "cache"}})
	log := logTo(t, a)
	ctx := worker.NewContext(t.Context(), worker.New("handler-2"))
	a.Report(ctx, &fault.Error{Kind: fault.KindUnhandled, Err: errors.New("boom")})
	log.Error("cold", "component", "cache")
	log.Error("seen", "component", "shelf")
	finish(t, a)
	if n := a.Ignored(); len(s.list()) != 1 || n["handler"] != 1 || n["cache"] != 1 {
		t.Errorf("want one event and two counted, have %d and %v", len(s.list()), n)
	}
}

// While the process shuts down, only the first cause is reported, and only once.
func TestAShutdownReportsItsFirstCauseOnce(t *testing.T) {
	s, dsn := sentryServer(t)
	a, err := New(identified(Options{DSN: dsn}))
	if err != nil {
		t.Fatal(err)
	}
	closing := false
	with := surroundings(&testlog.Log{})
	with.Closing = func() bool { return closing }
	if err := a.Start(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abandon(t, a) })
	log := logTo(t, a)
	dead := &fault.Error{Kind: fault.KindEnded, Op: "worker", Subject: "reader", Err: errors.New("returned")}
	fault.Guard{Log: log, Report: a.Report}.Handle(t.Context(), "reader", dead)
	closing = true
	a.First(fmt.Errorf("worker reader: restarts did not help: %w", dead))
	a.First(fault.Dependency("db", errors.New("gone")))
	log.Error("an echo")
	a.Report(t.Context(), &fault.Error{Kind: fault.KindPanic, Err: errors.New("another echo")})
	a.Capture(t.Context(), errors.New("a third"))
	a.First(errors.New("cannot open the shop"))
	finish(t, a)
	var have []string
	for _, e := range s.list() {
		have = append(have, e.Level+" "+e.Exception[0].Value)
	}
	want := []string{"error worker: reader: returned", "fatal cannot open the shop"}
	if !slices.Equal(have, want) {
		t.Errorf("want %q, have %q", want, have)
	}
}

// A sentinel is the same error each time: what was reported once must not hide what comes later.
func TestASentinelIsAnEventEachTimeItHappens(t *testing.T) {
	unknown := fault.New(fault.KindUnhandled, "unknown thing")
	for name, once := range map[string]func(*Alerts, *slog.Logger){
		"a capture": func(a *Alerts, _ *slog.Logger) { a.Capture(t.Context(), unknown) },
		"a record":  func(_ *Alerts, log *slog.Logger) { log.Error("failed", "error", fmt.Errorf("look: %w", unknown)) },
		"a guard": func(a *Alerts, log *slog.Logger) {
			fault.Guard{Log: log, Report: a.Report}.Handle(t.Context(), "look", unknown)
		},
	} {
		s, dsn := sentryServer(t)
		a, _ := open(t, Options{DSN: dsn})
		log := logTo(t, a)
		for range 3 {
			once(a, log)
		}
		finish(t, a)
		if n := len(s.list()); n != 3 {
			t.Errorf("%s: want three events, have %d", name, n)
		}
	}
}

func TestFeedbackIsLinkedToItsEvent(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn})
	a.Feedback(web.Feedback{ReportID: reportID, RequestID: "req-1", Comment: "I only clicked", Name: "Ada", Email: "ada@example.org"})
	finish(t, a)
	e := s.list()[0]
	if f := e.Contexts["feedback"]; e.kind != "feedback" || e.Type != "feedback" || f["associated_event_id"] != reportID || f["message"] != "I only clicked" || f["name"] != "Ada" || f["contact_email"] != "ada@example.org" {
		t.Errorf("want the feedback linked to the event, have %s", e.raw)
	}
}

// Without a DSN the same event is a file; there are only so many of them.
func TestWithoutADSNEventsAreFiles(t *testing.T) {
	dir := t.TempDir()
	a, _ := open(t, Options{Dir: dir})
	ctx := logging.With(inRequest(t), slog.String("report_id", reportID))
	_ = fault.Guard{Log: logTo(t, a), Report: a.Report}.Run(ctx, "handler GET /", func(context.Context) error { explode(); return nil })
	finish(t, a)
	list, _ := filepath.Glob(filepath.Join(dir, "errors", "*"))
	if len(list) != 1 || stat(a, "file").Sent != 1 {
		t.Fatalf("want one file, have %q, %+v", list, a.Stats())
	}
	text, err := os.ReadFile(list[0])
	var e event
	if err := errors.Join(err, strict(strings.NewReader(string(text)), &e)); err != nil || e.EventID != reportID || !strings.Contains(e.Exception[0].Value, "no way on") || e.Tags["request_id"] != "req-1" {
		t.Errorf("want the event, have %v, %s", err, text)
	}
	if info, err := os.Stat(list[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("want it private, have %v, %v", info.Mode(), err)
	}

	f := files{dir}
	for i := range keptFiles + 5 {
		if err := f.write(fmt.Sprintf("%032d", i), time.Now().Add(time.Duration(i)*time.Second), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ = filepath.Glob(filepath.Join(dir, "errors", "*")); len(list) != keptFiles {
		t.Errorf("want the newest %d kept, have %d", keptFiles, len(list))
	}
}

func TestAFolderThatCannotBeWrittenIsCountedAndTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "errors"), nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	a, log := open(t, Options{Dir: dir})
	for i := range 3 {
		a.Report(t.Context(), &fault.Error{Kind: fault.KindUnhandled, Subject: string(rune('a' + i))})
	}
	finish(t, a)
	if st := stat(a, "file"); st.Dropped != 3 || strings.Count(log.String(), "alerts can't be sent") != 1 {
		t.Errorf("want three dropped and one line, have %+v\n%s", st, log)
	}
}

// An event is bounded, whatever is in it.
func TestAnEventIsBounded(t *testing.T) {
	s, dsn := sentryServer(t)
	a, _ := open(t, Options{DSN: dsn})
	log := logTo(t, a)
	huge := strings.Repeat("ä< ", 100_000) // JSON makes six bytes of each <
	for i := range 2 * keptCrumbs {
		log.Info(huge, "n", i, "a", huge, "b", struct{ X string }{huge}, "c", huge, "d", huge, "e", huge, "f", huge, "g", huge, "h", huge)
	}
	var attrs []any
	for i := range 100 {
		attrs = append(attrs, fmt.Sprintf("%s%d", huge, i), huge)
	}
	log.Error(huge, append(attrs, "error", errors.New(huge), "stack", strings.Repeat("main.f(...)\n\t/src/main.go:7 +0x1d\n", 100_000))...)
	finish(t, a)
	e := s.list()[0]
	if len(e.raw) > maxEvent+1 || len(e.Exception[0].Stacktrace.Frames) > maxFrames {
		t.Errorf("want at most %d bytes and %d frames, have %d and %d", maxEvent, maxFrames, len(e.raw), len(e.Exception[0].Stacktrace.Frames))
	}
}

// Problems and their ends go to PagerDuty and the webhook under one key; what is only good to know goes to the chat alone.
func TestProblemsAreTriggeredAndResolved(t *testing.T) {
	p := pagerdutyServer(t)
	h := serve(t, readIncident("/hook/s3cret", ""), func(http.ResponseWriter, incident) {})
	c := telegramServer(t, nil)
	a, _ := open(t, Options{PagerDuty: PagerDuty{"R0UTING", p.URL}, Webhook: h.URL + "/hook/s3cret", Telegram: Telegram{testToken, fmt.Sprint(testChat), c.URL}})
	down := Alert{Key: "dependency/db", State: Open, Severity: Critical, Summary: "dependency db is down: postgres://u:pw@db/x refused", Details: map[string]string{"error": "password=pw"}}
	a.Send(down)
	p.wait(t, 1)
	h.wait(t, 1)
	down.State = Over
	a.Send(down)
	a.Send(Alert{Key: "dependency/cache", State: Open, Severity: Warning, Summary: "dependency cache is down"})
	a.Send(Alert{Key: "start", Summary: "started"})
	finish(t, a)
	for name, list := range map[string][]incident{"pagerduty": p.list(), "webhook": h.list()} {
		if len(list) != 2 || list[0].Action != "trigger" || list[1].Action != "resolve" || list[0].Dedup != "shop@box-1/dependency/db" || list[1].Dedup != list[0].Dedup {
			t.Errorf("%s: want a trigger and a resolve under one key, have %+v", name, list)
			continue
		}
		if pl := list[0].Payload; pl.Severity != "critical" || pl.Source != "box-1" || pl.Group != "blue" || pl.Details["version"] != "1.2.3" ||
			pl.Summary != "shop on box-1: dependency db is down: postgres://db refused" || pl.Details["error"] != "password=[redacted]" {
			t.Errorf("%s: want it told without secrets, have %+v", name, pl)
		}
	}
	var have []string
	for _, m := range c.list() {
		if m.chat != testChat {
			t.Errorf("want chat %d, have %d", testChat, m.chat)
		}
		have = append(have, m.text)
	}
	want := []string{"PROBLEM shop on box-1: dependency db is down: postgres://db refused", "OVER shop on box-1: dependency db is down: postgres://db refused",
		"PROBLEM shop on box-1: dependency cache is down", "shop on box-1: started"}
	if !slices.Equal(have, want) {
		t.Errorf("want %q, have %q", want, have)
	}
}

func TestPings(t *testing.T) {
	c := cronitorServer(t)
	a, _ := open(t, Options{Cronitor: Cronitor{"APIKEY", "shop-workers", c.URL}})
	for i, p := range []Ping{{State: "run", Message: "started"}, {State: "fail", Message: "1 of 3 workers are missing: reader is dead", Workers: 3, Missing: 1, Counting: true}, {State: "complete"}} {
		a.Ping(p)
		c.wait(t, i+1)
	}
	var have []string
	for _, q := range c.list() {
		have = append(have, q.Encode())
	}
	want := []string{"host=box-1&msg=started&state=run",
		"host=box-1&metric=count%3A3&metric=error_count%3A1&msg=1+of+3+workers+are+missing%3A+reader+is+dead&state=fail", "host=box-1&state=complete"}
	if !slices.Equal(have, want) {
		t.Errorf("want %q, have %q", want, have)
	}
}

// The one chat may ask for the status, and nobody may do anything else; the question that is open ends with the process.
func TestTelegramAnswersTheStatusToItsChatAlone(t *testing.T) {
	updates := make(chan string)
	c := telegramServer(t, updates)
	a, _ := open(t, Options{Telegram: Telegram{testToken, fmt.Sprint(testChat), c.URL}})
	for i, u := range []struct {
		chat int64
		text string
	}{{666, "/status"}, {testChat, "/stop"}, {testChat, "hello /status"}, {testChat, "/statusx"}, {testChat, "/status@shop_bot now"}} {
		text, _ := json.Marshal(u.text)
		select {
		case updates <- fmt.Sprintf(`{"update_id":%d,"message":{"message_id":1,"date":1,"chat":{"id":%d,"type":"group"},"text":%s}}`, i+1, u.chat, text):
		case <-time.After(patience):
			t.Fatal("nobody asks for updates")
		}
	}
	if have := c.wait(t, 1); len(have) != 1 || have[0].chat != testChat || have[0].text != "all is well" {
		t.Errorf("want one answer, have %v", have)
	}
	finish(t, a)
	a.listeners.Wait() // or the test never ends
	for _, u := range []struct {
		chat int64
		text string
		want bool
	}{{testChat, "/status", true}, {testChat, " /status@shop_bot now", true}, {666, "/status", false}, {testChat, "/stop", false}, {testChat, "/statusx", false}, {testChat, "", false}} {
		if have := a.telegram.isStatus(&models.Update{Message: &models.Message{Chat: models.Chat{ID: u.chat}, Text: u.text}}); have != u.want {
			t.Errorf("%+v: have %v", u, have)
		}
	}
	if a.telegram.isStatus(&models.Update{}) {
		t.Error("want what is no message passed over")
	}
}

// The library of Telegram calls in goroutines of its own; a panic there ends the process.
func TestAPanicInACallOfTelegramIsAFailureLikeOthers(t *testing.T) {
	updates := make(chan string, 1)
	updates <- fmt.Sprintf(`{"update_id":1,"message":{"message_id":1,"date":1,"chat":{"id":%d,"type":"group"},"text":"/status"}}`, testChat)
	c := telegramServer(t, updates)
	a, err := New(identified(Options{Telegram: Telegram{testToken, fmt.Sprint(testChat), c.URL}}))
	if err != nil {
		t.Fatal(err)
	}
	log := &testlog.Log{}
	with := surroundings(log)
	with.Status = func() string { panic("a check of the app") }
	with.Client = panicsFirst(3) // more than may be under way: each gives its place back
	if err := a.Start(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abandon(t, a) })
	if have := c.wait(t, 1)[0].text; !strings.Contains(have, "can't be told: panic: telegram: a check of the app") {
		t.Errorf("want it said what is wrong with the status, have %q", have)
	}
	await(t, "the line in the log", func() bool { return strings.Contains(log.String(), "panic: telegram: in the client") })
}

// Whoever forces the end does not wait for a service that hangs, though an orderly end waits for it.
func TestASecondCloseDoesNotWaitForTheFirst(t *testing.T) {
	asked, hangs := make(chan struct{}, 10), make(chan struct{}) // more than it is tried
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-hangs }))
	defer s.Close()
	a, _ := open(t, Options{Webhook: s.URL})
	a.Send(Alert{Key: "a", State: Open, Severity: Critical, Summary: "x"})
	<-asked
	first := make(chan error, 1)
	go func() { first <- a.Close(context.Background()) }()
	await(t, "the first to begin", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.closed }) // and it waits from here on
	if err := a.Close(context.Background()); err != nil {
		t.Errorf("want nothing to say, have %v", err)
	}
	select {
	case <-a.webhook.box.Done(): // when the call that hangs is given up
		t.Error("the second Close waited for the first")
	default:
	}
	close(hangs)
	if err := <-first; err != nil {
		t.Errorf("want the first one to end in order, have %v", err)
	}
}
