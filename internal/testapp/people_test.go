//go:build long

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// switchboard is all services that are told, at one address. It notes each request as one line: METHOD path body.
type switchboard struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
}

func newSwitchboard(t *testing.T) *switchboard {
	s := &switchboard{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *switchboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.calls = append(s.calls, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	s.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/getUpdates"):
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/sendMessage"):
		_, _ = io.WriteString(w, `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":7,"type":"group"},"text":"x"}}`)
	case r.URL.Path == "/v2/enqueue":
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"status":"success","message":"Event processed","dedup_key":"x"}`)
	case r.URL.Path == "/api/42/envelope/":
		_, _ = io.WriteString(w, `{"id":"x"}`)
	}
}

// settings switch everything on.
func (s *switchboard) settings() []string {
	return []string{"SENTRY_DSN=" + strings.Replace(s.URL, "://", "://public@", 1) + "/42", "PAGERDUTY_ROUTING_KEY=R0UTING", "PAGERDUTY_URL=" + s.URL,
		"WEBHOOK_URL=" + s.URL + "/hook", "TELEGRAM_TOKEN=4711:AAbb", "TELEGRAM_CHAT_ID=7", "TELEGRAM_URL=" + s.URL,
		"CRONITOR_API_KEY=key", "CRONITOR_MONITOR_KEY=shop", "CRONITOR_URL=" + s.URL, "APP_NAME=shop", "DEVICE_NAME=box-1"}
}

// find waits for a call that has all the parts, and returns it.
func (s *switchboard) find(t *testing.T, parts ...string) string {
	t.Helper()
	found := ""
	await(t, "a call with "+strings.Join(parts, " and "), func() bool { found = s.has(parts...); return found != "" })
	return found
}

// has returns the first call that has all the parts, empty if there is none.
func (s *switchboard) has(parts ...string) string {
	if list := s.all(parts); len(list) > 0 {
		return list[0]
	}
	return ""
}

func (s *switchboard) count(parts ...string) int { return len(s.all(parts)) }

func (s *switchboard) all(parts []string) (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(c, p) }) {
			list = append(list, c)
		}
	}
	return list
}

func (s *switchboard) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// A handler that panics is an event with the request's id and the stack. A worker's death is told before the process is
// gone, and over when the next one is well.
func TestPeopleAreToldWhatHappens(t *testing.T) {
	s := newSwitchboard(t)
	r := newRecorder(t, t.TempDir(), append(s.settings(), "LOG_FORMAT=json", "LOG_LEVEL=info", "METRICS_ADDR=off")...)
	r.path = program(t, "broken")
	r.start()
	r.ready()
	s.find(t, "POST /bot4711:AAbb/sendMessage", "shop on box-1: started")
	s.find(t, "GET /p/key/shop?", "state=run")

	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	send := func(body, id string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {id}}
		if answer, err := client.Do(req); err == nil {
			_ = answer.Body.Close()
		}
	}
	send(`{"do":"handler panics"}`, "request-1")
	envelope := strings.Split(s.find(t, "POST /api/42/envelope/", "the handler panics", `"mechanism":{"type":"guard"`), "\n")
	var event struct {
		Release   string
		Tags      map[string]string
		Exception []struct {
			Type, Value string
			Stacktrace  struct {
				Frames []struct{ Function, Module string }
			}
		}
	}
	if err := json.Unmarshal([]byte(envelope[2]), &event); err != nil || len(event.Exception) != 1 {
		t.Fatalf("want an event, have %v, %q", err, envelope)
	}
	frames := event.Exception[0].Stacktrace.Frames
	if event.Tags["request_id"] != "request-1" || !strings.HasPrefix(event.Tags["worker"], "handler-") || !strings.HasPrefix(event.Release, "shop@") ||
		len(frames) == 0 || !strings.HasPrefix(frames[len(frames)-1].Function, "runBroken.func") {
		t.Errorf("want the request, the worker, the release and the place that panicked, have %s", envelope[2])
	}

	send(`{"victim":"fail"}`, "request-2")
	<-r.ended
	if code := r.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("want exit 1, have %d:\n%s", code, r.log())
	}
	for _, parts := range [][]string{
		{"POST /api/42/envelope/", "the victim fails", `"subject":"victim"`},
		{"POST /v2/enqueue", `"event_action":"trigger"`, `"dedup_key":"shop@box-1/exit"`, "the victim fails", `"routing_key":"R0UTING"`},
		{"POST /hook", `"event_action":"trigger"`, `"dedup_key":"shop@box-1/exit"`},
		{"POST /bot4711:AAbb/sendMessage", "PROBLEM shop on box-1: stops: ", "the victim fails"},
		{"GET /p/key/shop?", "state=fail", "victim+fails"},
	} {
		if s.has(parts...) == "" {
			t.Errorf("want a call with %q before the end", parts)
		}
	}
	if n := s.count("POST /api/42/envelope/", `"transaction":"victim"`); n != 1 {
		t.Errorf("want the death reported once, have %d", n)
	}

	s.forget()
	r.start()
	r.ready()
	s.find(t, "POST /v2/enqueue", `"event_action":"resolve"`, `"dedup_key":"shop@box-1/exit"`)
	s.find(t, "POST /hook", `"event_action":"resolve"`)
	s.find(t, "POST /bot4711:AAbb/sendMessage", "OVER shop on box-1")
	if s.has("POST /api/42/envelope/", `"transaction":"victim"`) != "" {
		t.Error("want the last run's death reported by it alone")
	}

	r.kill() // it can't say a word
	s.forget()
	r.start()
	r.ready()
	s.find(t, "POST /v2/enqueue", `"event_action":"trigger"`, `"dedup_key":"shop@box-1/exit"`, "ended without a word")
	s.find(t, "POST /api/42/envelope/", "ended without a word", `"subject":"last run"`)
	s.find(t, "POST /v2/enqueue", `"event_action":"resolve"`)
	r.stop()
	s.find(t, "POST /bot4711:AAbb/sendMessage", "shop on box-1: stops: signal SIGTERM")
	s.find(t, "GET /p/key/shop?", "state=complete")
	for _, secret := range []string{"R0UTING", "AAbb", "public@"} {
		if strings.Contains(r.log(), secret) {
			t.Errorf("want no secret in the log, have %s in\n%s", secret, r.log())
		}
	}
}

// An end that had to be forced is told by whoever forces it.
func TestAForcedEndIsTold(t *testing.T) {
	s := newSwitchboard(t)
	r := newRecorder(t, t.TempDir(), append(s.settings(), "LOG_LEVEL=info", "LOG_FORMAT=json", "SHUTDOWN_GRACE=100ms")...)
	r.path = program(t, "broken")
	r.start()
	r.ready()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Post("http://"+r.addr+"/events", "application/json", strings.NewReader(`{"victim":"ignore the shutdown"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	await(t, "the victim to obey", func() bool { return strings.Contains(r.log(), "the victim obeys") })
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	<-r.ended
	if code := r.cmd.ProcessState.ExitCode(); code != 70 {
		t.Errorf("want exit 70, have %d:\n%s", code, r.log())
	}
	for _, parts := range [][]string{
		{"POST /api/42/envelope/", "the end had to be forced", "still alive: victim", `"kind":"unclean"`},
		{"POST /v2/enqueue", "trigger", "the end had to be forced"},
		{"POST /bot4711:AAbb/sendMessage", "PROBLEM", "the end had to be forced"},
		{"GET /p/key/shop?", "state=fail"},
	} {
		if s.has(parts...) == "" {
			t.Errorf("want a call with %q before the end", parts)
		}
	}
}

// Without any service an error is a file that a person can read.
func TestWithoutAServiceAnErrorIsAFile(t *testing.T) {
	dir := t.TempDir()
	r := newRecorder(t, dir, "QUEUE_MAX_DELIVERIES=1", "LOG_FORMAT=json")
	r.path = program(t, "faulty")
	r.start()
	r.ready()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Post("http://"+r.addr+"/events", "application/json", strings.NewReader(`{"id":"e1"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	text := ""
	await(t, "the file", func() bool {
		list, _ := filepath.Glob(filepath.Join(dir, "data", "errors", "*.json"))
		if len(list) == 0 {
			return false
		}
		b, _ := os.ReadFile(list[0])
		text = string(b)
		return strings.HasSuffix(text, "}\n")
	})
	if !strings.Contains(text, "event is dead, it failed too often") || !strings.Contains(text, "out of order") {
		t.Errorf("want what happened, have %s", text)
	}
	r.stop()
}

// A process that is killed while a service hangs has told nobody; the next one does.
func TestWhatHungWhenTheProcessWasKilledIsToldByTheNext(t *testing.T) {
	s := newSwitchboard(t)
	var hang atomic.Bool
	var hanging atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hang.Load() {
			s.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the one who asks has ended
		hanging.Add(1)
		<-r.Context().Done()
	}))
	t.Cleanup(front.Close)
	r := newRecorder(t, t.TempDir(), "WEBHOOK_URL="+front.URL+"/hook", "APP_NAME=shop", "DEVICE_NAME=box-1", "LOG_FORMAT=json")
	r.path = program(t, "broken")
	r.start()
	r.ready()
	r.kill() // it can't say a word
	hang.Store(true)
	r.start()
	await(t, "the webhook to hang", func() bool { return hanging.Load() > 0 })
	r.kill()
	hang.Store(false)
	r.start()
	r.ready()
	s.find(t, "POST /hook", `"event_action":"trigger"`, `"dedup_key":"shop@box-1/exit"`, "ended without a word")
	r.stop()
}
