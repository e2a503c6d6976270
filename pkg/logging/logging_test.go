package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is an Out that can be read while others write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) lines() []string {
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// open returns a started Log without syslog (unless o says so) whose lines go to the buffer.
func open(t *testing.T, o logging.Options) (*logging.Log, *buffer) {
	t.Helper()
	out := &buffer{}
	o.Out = out
	if o.Syslog == "" {
		o.Syslog = "off"
	}
	l, err := logging.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(t.Context()) })
	l.Started()
	return l, out
}

func object(t *testing.T, line string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return m
}

// hide replaces the time at the beginning of a line.
func hide(s string) string {
	return regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+Z?`).ReplaceAllString(s, "TIME")
}

var all = logging.Options{App: "shop", Device: "pi", Deployment: "d7", Version: "1.2.3", Commit: "abc123"}

func TestLineHoldsAllFieldsInOrder(t *testing.T) {
	for _, c := range []struct {
		format, want string
		app          logging.Options
	}{
		{"json", `{"time":"TIME","level":"INFO","msg":"sold","app":"shop","worker":"main","device":"pi","version":"1.2.3","commit":"abc123","deployment":"d7","item":"a pen","n":2,"g":{"k":true}}`, all},
		{"json", `{"time":"TIME","level":"INFO","msg":"sold","worker":"main","item":"a pen","n":2,"g":{"k":true}}`, logging.Options{}},
		{"console", `TIME shop main [INFO] sold item="a pen" n=2 g.k=true`, all},
		{"console", `TIME main [INFO] sold item="a pen" n=2 g.k=true`, logging.Options{}},
	} {
		o := c.app
		o.Format = c.format
		l, out := open(t, o)
		l.Logger().Info("sold", "item", "a pen", "n", 2, slog.Group("g", "k", true))
		if have := hide(out.lines()[0]); have != c.want {
			t.Errorf("%s:\nwant %s\nhave %s", c.format, c.want, have)
		}
	}
}

func TestJSONTimeIsUTCWithNanoseconds(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json"})
	at := time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.FixedZone("", 3600))
	if err := l.Logger().Handler().Handle(t.Context(), slog.NewRecord(at, slog.LevelInfo, "m", 0)); err != nil {
		t.Fatal(err)
	}
	if want, have := "2026-01-02T14:04:05.123456789Z", object(t, out.lines()[0])["time"]; have != want {
		t.Errorf("want %s, have %v", want, have)
	}
}

func TestWorkerIsTheNearestThatIsKnown(t *testing.T) {
	tracked := worker.NewContext(t.Context(), worker.New("relay"))
	for _, c := range []struct {
		want string
		log  func(*slog.Logger)
	}{
		{"main", func(l *slog.Logger) { l.Info("m") }},
		{"relay", func(l *slog.Logger) { l.InfoContext(tracked, "m") }},
		{"relay", func(l *slog.Logger) { l.WithGroup("g").InfoContext(tracked, "m", "worker", "inside") }},
		{"cron", func(l *slog.Logger) { l.With("worker", "cron").InfoContext(tracked, "m") }},
		{"dead", func(l *slog.Logger) { l.With("worker", "cron").Info("m", "worker", "dead") }},
	} {
		l, out := open(t, logging.Options{Format: "json"})
		c.log(l.Logger())
		if have := object(t, out.lines()[0])["worker"]; have != c.want {
			t.Errorf("want %s, have %v", c.want, have)
		}
	}
}

func TestContextAttributesStandInEachRecordAtTheTop(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json"})
	ctx := logging.With(t.Context(), slog.String("request_id", "r1"), slog.String("trace_id", "t1"))
	inner := logging.With(ctx, slog.String("request_id", "r2"))
	l.Logger().InfoContext(ctx, "m")
	l.Logger().WithGroup("g").InfoContext(inner, "m", "k", 1)
	l.Logger().With("trace_id", "t2").InfoContext(inner, "m", "request_id", "r3")
	for i, want := range []string{
		`{"time":"TIME","level":"INFO","msg":"m","worker":"main","request_id":"r1","trace_id":"t1"}`,
		`{"time":"TIME","level":"INFO","msg":"m","worker":"main","request_id":"r2","trace_id":"t1","g":{"k":1}}`,
		`{"time":"TIME","level":"INFO","msg":"m","worker":"main","request_id":"r3","trace_id":"t2"}`,
	} {
		if have := hide(out.lines()[i]); have != want {
			t.Errorf("\nwant %s\nhave %s", want, have)
		}
	}
}

func TestNoKeyStandsTwice(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json", Version: "1"})
	l.Logger().With("k", 1).Info("m", "k", 2, "version", 3, "level", 4, "truncated", 5, slog.Group("", "k", 6, "msg", 7))
	want := `{"time":"TIME","level":"INFO","msg":"m","worker":"main","version":"1","k":6,"version_":3,"level_":4,"truncated_":5,"msg_":7}`
	if have := hide(out.lines()[0]); have != want {
		t.Errorf("\nwant %s\nhave %s", want, have)
	}
}

func TestErrorShowsItsHint(t *testing.T) {
	hinted := fault.Config("set X", errors.New("x is missing"))
	for _, c := range []struct {
		want string
		args []any
	}{
		{`TIME main [INFO] m error="start: x is missing" hint="set X"`, []any{"error", fmt.Errorf("start: %w", hinted)}},
		{`TIME main [INFO] m hint=mine error="x is missing"`, []any{"hint", "mine", "error", hinted}},
		{`TIME main [INFO] m error=plain`, []any{"error", errors.New("plain")}},
		{`TIME main [INFO] m error=<nil>`, []any{"error", (*fault.Error)(nil)}},
	} {
		l, out := open(t, logging.Options{Format: "console"})
		l.Logger().Info("m", c.args...)
		if have := hide(out.lines()[0]); have != c.want {
			t.Errorf("\nwant %s\nhave %s", c.want, have)
		}
	}
}

func TestLevelIsDebugUntilStarted(t *testing.T) {
	l, err := logging.New(logging.Options{Level: slog.LevelWarn, Out: &buffer{}, Syslog: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	check := func(when string, want slog.Level) {
		t.Helper()
		if have := l.Level(); have != want {
			t.Errorf("%s: want %v, have %v", when, want, have)
		}
		if l.Logger().Enabled(t.Context(), want-1) || !l.Logger().Enabled(t.Context(), want) {
			t.Errorf("%s: the logger does not follow", when)
		}
	}
	check("new", slog.LevelDebug)
	l.Started()
	check("started", slog.LevelWarn)
	if have := l.ToggleDebug(); have != slog.LevelDebug {
		t.Errorf("toggle returned %v", have)
	}
	check("toggled", slog.LevelDebug)
	l.Started()
	check("started again", slog.LevelDebug)
	l.ToggleDebug()
	check("toggled back", slog.LevelWarn)
	l.SetLevel(slog.LevelError)
	check("set", slog.LevelError)
	l.ToggleDebug()
	l.ToggleDebug()
	check("set, then toggled twice", slog.LevelWarn)
}

func TestStartedKeepsALevelThatSomebodyChose(t *testing.T) {
	l, err := logging.New(logging.Options{Out: &buffer{}, Syslog: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	l.SetLevel(slog.LevelError)
	l.Started()
	if have := l.Level(); have != slog.LevelError {
		t.Errorf("have %v", have)
	}
}

func TestToggleFromConfiguredDebugGoesToInfo(t *testing.T) {
	l, _ := open(t, logging.Options{Level: slog.LevelDebug})
	if have := []slog.Level{l.ToggleDebug(), l.ToggleDebug()}; have[0] != slog.LevelInfo || have[1] != slog.LevelDebug {
		t.Errorf("have %v", have)
	}
}

func TestParseLevel(t *testing.T) {
	for s, want := range map[string]slog.Level{"debug": -4, "info": 0, "WARN": 4, "Error": 8} {
		if have, err := logging.ParseLevel(s); err != nil || have != want {
			t.Errorf("%s: have %v, %v", s, have, err)
		}
	}
	for _, s := range []string{"", "warning", "info+1", " info", "sekrit"} {
		_, err := logging.ParseLevel(s)
		if want := "logging: level: want debug, info, warn or error"; err == nil || err.Error() != want {
			t.Errorf("%q: have %v", s, err)
		}
	}
}

func TestBadOptionsSayWhatToWriteInstead(t *testing.T) {
	for _, c := range []struct {
		o    logging.Options
		want string
	}{
		{logging.Options{Format: "sekrit"}, "LOG_FORMAT"},
		{logging.Options{Syslog: "sekrit"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "http://sekrit"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "udp://u:sekrit@h"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "udp://sekrit:99999"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "udp://sekrit:0"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "tcp://sekrit/path"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "tcp://:514"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "unix://sekrit"}, "SYSLOG_ADDRESS"},
		{logging.Options{Syslog: "unix:///sekrit?x"}, "SYSLOG_ADDRESS"},
	} {
		_, err := logging.New(c.o)
		if fault.Of(err) != fault.KindConfig || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(fault.Hint(err), c.want) {
			t.Errorf("%+v: have %v", c.o, err)
		}
		if err != nil && strings.Contains(err.Error()+fault.Hint(err), "sekrit") {
			t.Errorf("the value is echoed: %v", err)
		}
	}
}

func TestOutputsSaysWhichItPicked(t *testing.T) {
	for _, c := range []struct {
		o    logging.Options
		want string
	}{
		{logging.Options{Format: "json", Syslog: "off"}, "json to stdout, no syslog"},
		{logging.Options{Format: "console", Out: os.Stderr, Syslog: "udp://127.0.0.1"}, "console to stderr, syslog to udp://127.0.0.1:514"},
		{logging.Options{Out: &buffer{}, Syslog: "tcp://[::1]:7"}, "json to *logging_test.buffer, syslog to tcp://[::1]:7"},
		{logging.Options{Out: &buffer{}, Syslog: "tcp://localhost"}, "json to *logging_test.buffer, syslog to tcp://localhost:601"},
		{logging.Options{Out: &buffer{}, Syslog: "unix:///nowhere/log"}, "json to *logging_test.buffer, syslog to unix:///nowhere/log"},
	} {
		if c.o.Out == nil && c.o.Format == "" {
			t.Fatal("the format of stdout depends on who runs the test")
		}
		l, err := logging.New(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if have := l.Outputs(); have != c.want {
			t.Errorf("want %s, have %s", c.want, have)
		}
		l.SetLevel(slog.LevelError) // that it is down is not our subject
		l.Close(t.Context())
	}
}

func TestStdTakesTheErrorsOfAnHTTPServer(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json"})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }))
	srv.Config.ErrorLog = l.Std("web", slog.LevelWarn)
	srv.Start()
	if resp, err := http.Get(srv.URL); err == nil {
		resp.Body.Close()
		t.Error("the request succeeded")
	}
	http.DefaultClient.CloseIdleConnections()
	srv.Close()
	if n := len(out.lines()); n != 1 {
		t.Fatalf("want one line, have %d", n)
	}
	m := object(t, out.lines()[0])
	if m["level"] != "WARN" || m["component"] != "web" || !strings.Contains(m["msg"].(string), "oops\ngoroutine ") {
		t.Errorf("have %v", m)
	}
}

func TestRecordsAfterCloseStillGoToOut(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json"})
	if err := errors.Join(l.Close(t.Context()), l.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		l.Logger().Info("last words")
	}
	if n := len(out.lines()); n != 20 {
		t.Errorf("want 20 lines, have %d", n)
	}
}
