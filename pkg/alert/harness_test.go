package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for what should come soon: the machine may be very busy.
const patience = 20 * time.Second

// surroundings are those of an app that runs.
func surroundings(log io.Writer) Surroundings {
	logger := slog.New(slog.NewTextHandler(log, nil))
	registry := dependency.New(dependency.Options{})
	return Surroundings{Log: logger, Closing: func() bool { return false }, Status: func() string { return "all is well" },
		Client: func(name string, p dependency.Policy) (*web.Client, error) {
			d, err := registry.Add(name, p)
			if err != nil {
				return nil, err
			}
			return web.NewClient(d, web.ClientOptions{UserAgent: "shop/1", MaxResponse: 1 << 20}), nil
		}}
}

// panicsFirst makes a client whose first n calls panic.
func panicsFirst(n int32) func(string, dependency.Policy) (*web.Client, error) {
	registry := dependency.New(dependency.Options{})
	return func(name string, p dependency.Policy) (*web.Client, error) {
		d, err := registry.Add(name, p)
		if err != nil {
			return nil, err
		}
		var calls atomic.Int32
		return web.NewClient(d, web.ClientOptions{Wrap: func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				if calls.Add(1) <= n {
					panic("in the client")
				}
				return next.RoundTrip(r)
			})
		}}), nil
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// identified are options of an app called shop.
func identified(o Options) Options {
	o.App, o.Device, o.Deployment, o.Version, o.Commit = "shop", "box-1", "blue", "1.2.3", "abcdef0123456789"
	return o
}

// open returns Alerts that send, and their log. They are closed when the test ends.
func open(t testing.TB, o Options) (*Alerts, *testlog.Log) {
	t.Helper()
	a, err := New(identified(o))
	if err != nil {
		t.Fatal(err)
	}
	log := &testlog.Log{}
	if err := a.Start(context.Background(), surroundings(log)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abandon(t, a) })
	return a, log
}

// abandon ends a without sending, and waits until nothing is left of it.
func abandon(t testing.TB, a *Alerts) {
	t.Helper()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.Close(now)
	late := time.After(patience)
	for _, s := range a.senders {
		select {
		case <-s.box.Done():
		case <-late:
			t.Fatalf("%s: want nothing left in the background", s.service)
		}
	}
	a.listeners.Wait()
}

// finish sends what is left.
func finish(t *testing.T, a *Alerts) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func stat(a *Alerts, service string) Stat {
	for _, s := range a.Stats() {
		if s.Service == service {
			return s
		}
	}
	return Stat{}
}

// service is a server that takes nothing but what the service's interface allows, and notes what it took.
type service[T any] struct {
	*httptest.Server
	mu   sync.Mutex
	took []T
}

// serve makes one. What take refuses fails the test.
func serve[T any](t *testing.T, take func(*http.Request) (T, error), answer func(http.ResponseWriter, T)) *service[T] {
	s := &service[T]{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := take(r)
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.took = append(s.took, v)
		s.mu.Unlock()
		answer(w, v)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service[T]) list() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.took)
}

// wait returns what was taken once there are n of it.
func (s *service[T]) wait(t *testing.T, n int) []T {
	t.Helper()
	await(t, strconv.Itoa(n)+" requests", func() bool { return len(s.list()) >= n })
	return s.list()
}

// strict decodes JSON that has exactly the fields of v.
func strict(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

const testToken, testChat = "4711:AAbb-cc_dd", int64(-100123)

// event is what Sentry takes, by https://develop.sentry.dev/sdk/data-model/event-payloads/.
type event struct {
	EventID     string                    `json:"event_id"`
	Timestamp   time.Time                 `json:"timestamp"`
	Platform    string                    `json:"platform"`
	Level       string                    `json:"level"`
	Logger      string                    `json:"logger"`
	Transaction string                    `json:"transaction"`
	ServerName  string                    `json:"server_name"`
	Release     string                    `json:"release"`
	Environment string                    `json:"environment"`
	Message     string                    `json:"message"`
	Type        string                    `json:"type"`
	Tags        map[string]string         `json:"tags"`
	Fingerprint []string                  `json:"fingerprint"`
	Contexts    map[string]map[string]any `json:"contexts"`
	User        struct{}                  `json:"user"`
	Sdk         struct {
		Name, Version string
	} `json:"sdk"`
	Exception []struct {
		Type, Value string
		Stacktrace  *stacktrace
		Mechanism   struct {
			Type        string
			Handled     *bool
			ExceptionID int `json:"exception_id"`
		}
	} `json:"exception"`
	Threads []struct {
		Stacktrace *stacktrace
		Current    bool
	} `json:"threads"`
	Breadcrumbs []struct {
		Type, Category, Message, Level string
		Timestamp                      time.Time
		Data                           map[string]any
	} `json:"breadcrumbs"`
	kind, raw string
}

type stacktrace struct {
	Frames []struct {
		Function, Module, Filename string
		AbsPath                    string `json:"abs_path"`
		Lineno                     int
		InApp                      bool `json:"in_app"`
	}
}

var auth = regexp.MustCompile(`^Sentry sentry_version=7, sentry_client=[a-z.]+/[0-9.]+, sentry_key=public$`)

// readEnvelope reads an envelope: https://develop.sentry.dev/sdk/data-model/envelopes/.
func readEnvelope(r *http.Request) (e event, err error) {
	if r.Method != http.MethodPost || r.URL.Path != "/api/42/envelope/" || r.URL.RawQuery != "" ||
		r.Header.Get("Content-Type") != "application/x-sentry-envelope" || !auth.MatchString(r.Header.Get("X-Sentry-Auth")) {
		return e, fmt.Errorf("not an envelope: %v", r.Header)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return e, err
	}
	parts := bytes.SplitN(body, []byte("\n"), 3)
	if len(parts) != 3 {
		return e, fmt.Errorf("want three lines, have %q", body)
	}
	var header struct {
		EventID string                         `json:"event_id"`
		SentAt  time.Time                      `json:"sent_at"`
		Sdk     struct{ Name, Version string } `json:"sdk"`
	}
	var about struct {
		Type   string
		Length int
	}
	if err := errors.Join(strict(bytes.NewReader(parts[0]), &header), strict(bytes.NewReader(parts[1]), &about)); err != nil {
		return e, err
	}
	if len(parts[2]) != about.Length+1 || parts[2][about.Length] != '\n' {
		return e, fmt.Errorf("want %d bytes and a line's end, have %d", about.Length, len(parts[2]))
	}
	if err := strict(bytes.NewReader(parts[2]), &e); err != nil {
		return e, err
	}
	e.kind, e.raw = about.Type, string(parts[2])
	switch {
	case !eventID.MatchString(e.EventID) || e.EventID != header.EventID:
		return e, fmt.Errorf("event ids %q and %q", e.EventID, header.EventID)
	case e.Platform != "go" || e.Timestamp.IsZero() || e.Release != "shop@1.2.3+abcdef012345":
		return e, fmt.Errorf("platform %q, time %v, release %q", e.Platform, e.Timestamp, e.Release)
	case !slices.Contains([]string{"fatal", "error", "warning", "info", "debug"}, e.Level):
		return e, fmt.Errorf("level %q", e.Level)
	case e.kind == "event" && len(e.Exception) == 0 && e.Message == "":
		return e, errors.New("neither exception nor message")
	case e.kind != "event" && e.kind != "feedback":
		return e, fmt.Errorf("item type %q", e.kind)
	}
	for k, v := range e.Tags {
		if v == "" || len(v) > 200 || strings.ContainsRune(v, '\n') || len(k) > 32 {
			return e, fmt.Errorf("tag %s=%q", k, v)
		}
	}
	return e, nil
}

func sentryServer(t *testing.T) (*service[event], string) {
	s := serve(t, readEnvelope, func(w http.ResponseWriter, e event) { fmt.Fprintf(w, `{"id":%q}`, e.EventID) })
	return s, strings.Replace(s.URL, "://", "://public@", 1) + "/42"
}

// readIncident reads an event of PagerDuty's Events API v2, with its routing key or, for a webhook, without.
func readIncident(path, routing string) func(*http.Request) (incident, error) {
	return func(r *http.Request) (in incident, err error) {
		if r.Method != http.MethodPost || r.URL.Path != path || r.Header.Get("Content-Type") != "application/json" {
			return in, fmt.Errorf("not an event: %v", r.Header)
		}
		if err := strict(r.Body, &in); err != nil {
			return in, err
		}
		p := in.Payload
		switch {
		case in.RoutingKey != routing, in.Action != "trigger" && in.Action != "resolve", in.Dedup == "" || len(in.Dedup) > 255,
			p.Summary == "" || len(p.Summary) > 1024, p.Source == "", p.Timestamp.IsZero(),
			!slices.Contains([]string{"critical", "error", "warning", "info"}, p.Severity):
			return in, fmt.Errorf("%+v", in)
		}
		return in, nil
	}
}

func pagerdutyServer(t *testing.T) *service[incident] {
	return serve(t, readIncident("/v2/enqueue", "R0UTING"), func(w http.ResponseWriter, in incident) {
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"status":"success","message":"Event processed","dedup_key":%q}`, in.Dedup)
	})
}

// readPing reads a ping: https://cronitor.io/docs/telemetry-api.
func readPing(r *http.Request) (q url.Values, err error) {
	q = r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != "/p/APIKEY/shop-workers" {
		return q, errors.New("not a ping")
	}
	for name, values := range q {
		if !slices.Contains([]string{"state", "msg", "host", "metric"}, name) || len(values) > 1 && name != "metric" {
			return q, fmt.Errorf("%s=%q", name, values)
		}
	}
	if !slices.Contains([]string{"run", "complete", "fail", "ok"}, q.Get("state")) || len(q.Get("msg")) > 2000 {
		return q, fmt.Errorf("%v", q)
	}
	for _, m := range q["metric"] {
		if !regexp.MustCompile(`^(count|error_count):[0-9]+$`).MatchString(m) {
			return q, fmt.Errorf("metric %q", m)
		}
	}
	return q, nil
}

func cronitorServer(t *testing.T) *service[url.Values] {
	return serve(t, readPing, func(w http.ResponseWriter, _ url.Values) { _, _ = io.WriteString(w, "OK") })
}

// post is a message to a chat.
type post struct {
	chat int64
	text string
}

// telegramServer answers sendMessage, and getUpdates with what is in updates: https://core.telegram.org/bots/api.
func telegramServer(t *testing.T, updates <-chan string) *service[post] {
	var s *service[post]
	s = serve(t, func(r *http.Request) (p post, err error) {
		if r.Method != http.MethodPost {
			return p, errors.New("not a call")
		}
		if err := r.ParseMultipartForm(1 << 20); errors.Is(err, io.ErrUnexpectedEOF) && strings.HasSuffix(r.URL.Path, "/getUpdates") {
			return p, nil // the one who asks has ended
		} else if err != nil {
			return p, err
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the one who asks has ended
		switch r.URL.Path {
		case "/bot" + testToken + "/sendMessage":
			for name := range r.MultipartForm.Value {
				if name != "chat_id" && name != "text" {
					return p, fmt.Errorf("unknown field %s", name)
				}
			}
			p.text = r.FormValue("text")
			p.chat, err = strconv.ParseInt(r.FormValue("chat_id"), 10, 64)
			if p.text == "" || len([]rune(p.text)) > 4096 {
				err = fmt.Errorf("text %q", p.text)
			}
			return p, err
		case "/bot" + testToken + "/getUpdates":
			if n, err := strconv.Atoi(r.FormValue("timeout")); err != nil || n < 1 || n > 50 || r.FormValue("allowed_updates") != `["message"]` {
				return p, fmt.Errorf("%v", r.MultipartForm.Value)
			}
			select {
			case u := <-updates:
				p.text = u
			case <-r.Context().Done():
			}
			p.chat = 0
			return p, nil
		}
		return p, errors.New("no such method")
	}, func(w http.ResponseWriter, p post) {
		if p.chat == 0 { // an answer to getUpdates
			s.mu.Lock()
			s.took = s.took[:len(s.took)-1]
			s.mu.Unlock()
			fmt.Fprintf(w, `{"ok":true,"result":[%s]}`, p.text)
			return
		}
		fmt.Fprintf(w, `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":%d,"type":"group"},"text":"x"}}`, p.chat)
	})
	return s
}
