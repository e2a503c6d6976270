package base

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/alert"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

func TestAWrongAlertSettingRefusesTheStart(t *testing.T) {
	for _, name := range []string{"SENTRY_DSN", "WEBHOOK_URL", "TELEGRAM_TOKEN", "TELEGRAM_CHAT_ID", "CRONITOR_API_KEY", "CRONITOR_MONITOR_KEY", "PAGERDUTY_ROUTING_KEY"} {
		code, _, err := call(t, nil, []string{name + "=s3 cret/"})
		if code != 78 || strings.Count(err, "\n") != 1 || !strings.Contains(err, name[:6]) || strings.Contains(err, "s3 cret") {
			t.Errorf("%s: want 78 and one line that names it, have %d, %s", name, code, err)
		}
	}
	if code, _, err := call(t, nil, []string{"SENTRY_DNS=x"}); code != 78 || !strings.Contains(err, "SENTRY_DSN") {
		t.Errorf("want the nearest name, have %d, %s", code, err)
	}
}

// told is all services at one address; it notes each request as METHOD path body.
type told struct {
	*httptest.Server
	mu   sync.Mutex
	text string
}

func newTold(t *testing.T) *told {
	s := &told{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.text += r.Method + " " + r.URL.RequestURI() + " " + string(body) + "\n"
		s.mu.Unlock()
		if r.URL.Path == "/v2/enqueue" {
			_, _ = io.WriteString(w, `{"status":"success"}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// await waits until what was told matches, and tells whether it does.
func (s *told) await(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); !re.MatchString(s.String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("want %s told, have\n%s", pattern, s)
			return
		}
	}
}

// A dependency that the app can't do without is a problem while it is down. The services themselves are dependencies
// that nobody needs: they stand in the health, and the app is ready without them.
func TestARequiredDependencyIsAProblemWhileItIsDown(t *testing.T) {
	t.Parallel() // it waits for seconds
	s, dir := newTold(t), t.TempDir()
	vars := []string{"PAGERDUTY_ROUTING_KEY=R", "PAGERDUTY_URL=" + s.URL, "WEBHOOK_URL=http://127.0.0.1:1/", "DATA_DIR=" + dir, "DEVICE_NAME=box-1"}
	var health string
	code, out, _ := call(t, func(rt *Runtime) error {
		db, err := rt.Depend("db", dependency.Policy{Required: true, Failures: 1, Cooldown: time.Millisecond})
		if err != nil {
			return err
		}
		rt.Serve(func(*http.ServeMux) {})
		rt.Started()
		fail := func(err error) { _ = db.Do(t.Context(), func(context.Context) error { return err }) }
		fail(dependency.Failure(errors.New("connection refused, password=pw")))
		s.await(t, `"event_action":"trigger","dedup_key":"base-app@box-1/dependency/db".*connection refused, password=\[redacted\]`)
		for deadline := time.Now().Add(10 * time.Second); db.Health().State != dependency.Up && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			fail(nil)
		}
		s.await(t, `"event_action":"resolve","dedup_key":"base-app@box-1/dependency/db"`)
		health = bodyOf(t, rt.addr, "/healthz")
		if status := statusOf(t, rt.addr, "/readyz"); status != 200 {
			t.Errorf("want it ready though the webhook is down, have %d", status)
		}
		rt.Done("tested")
		return rt.Wait()
	}, vars)
	if code != 0 {
		t.Errorf("want exit 0, have %d:\n%s", code, out)
	}
	if !regexp.MustCompile(`"name":"alert-pagerduty","state":"up".*"required":false`).MatchString(health) || !regexp.MustCompile(`"name":"alert-webhook","state":"(degraded|down)"`).MatchString(health) {
		t.Errorf("want the services in the health, have %s", health)
	}
	if n := strings.Count(s.String(), "alert-webhook"); n != 0 {
		t.Errorf("want no alert about an alert, have\n%s", s)
	}
	if text, err := os.ReadFile(filepath.Join(dir, alert.ProblemsFile)); err != nil || !regexp.MustCompile(`"dependency/db","State":2.*"Told":{"pagerduty":2}`).Match(text) {
		t.Errorf("want it over, and PagerDuty told so, but not the webhook, have %s, %v", text, err)
	}
}

// A part of the app that is not well is a problem, also for the next life, which tells that it is over.
func TestAProblemOutlivesTheProcess(t *testing.T) {
	t.Parallel() // it waits for seconds
	s, dir := newTold(t), t.TempDir()
	vars := []string{"WEBHOOK_URL=" + s.URL + "/hook", "DATA_DIR=" + dir, "DEVICE_NAME=box-1"}
	run := func(sick error, pattern string) {
		t.Helper()
		code, out, _ := call(t, func(rt *Runtime) error {
			rt.Check("shelf", func() (any, error) { return nil, sick })
			rt.Started()
			rt.problems.Raise(alert.Alert{Key: "never-was", State: alert.Over, Severity: alert.Error})
			s.await(t, pattern)
			if over := time.Since(rt.began); sick == nil && over < 5*time.Second {
				t.Errorf("want the end told when the new process is steady, it was after %v", over)
			}
			rt.Done("tested")
			return rt.Wait()
		}, vars)
		if code != 0 {
			t.Errorf("want exit 0, have %d:\n%s", code, out)
		}
	}
	run(errors.New("full"), `"event_action":"trigger","dedup_key":"base-app@box-1/check/shelf".*shelf: full`)
	if strings.Contains(s.String(), "resolve") {
		t.Errorf("want it open while nobody knows, have\n%s", s)
	}
	run(nil, `"event_action":"resolve","dedup_key":"base-app@box-1/check/shelf"`)
	if strings.Contains(s.String(), "never-was") {
		t.Errorf("want no end without a beginning, have\n%s", s)
	}
}

// What people write about a failure reaches Sentry under the id of its event; the cause of the end does, too.
func TestAFailuresPageAndItsFeedbackLeadToOneEvent(t *testing.T) {
	s := newTold(t)
	code, _, _ := call(t, func(rt *Runtime) error {
		rt.Serve(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /honeypot/", func(http.ResponseWriter, *http.Request) { panic("stuck in honey") })
		})
		rt.Started()
		page := bodyOf(t, rt.addr, "/honeypot/")
		form := url.Values{"comment": {"I only clicked"}}
		for _, name := range []string{"report_id", "request_id", "token"} {
			m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
			if m == nil {
				t.Fatalf("want %s in the page, have\n%s", name, page)
			}
			form.Set(name, m[1])
		}
		client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.PostForm("http://"+rt.addr.String()+"/feedback", form)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		s.await(t, `"event_id":"`+form.Get("report_id")+`".*\n.*"type":"event".*\n.*stuck in honey`)
		s.await(t, `"associated_event_id":"`+form.Get("report_id")+`"`)
		rt.Capture(rt.Context(), errors.New("caught by hand"))
		rt.Capture(rt.Context(), fault.Dependency("db", errors.New("away")))
		s.await(t, "caught by hand")
		return errors.New("cannot go on")
	}, []string{"SENTRY_DSN=" + strings.Replace(s.URL, "://", "://public@", 1) + "/42"})
	if code != 1 || !strings.Contains(s.String(), `"level":"fatal"`) || !strings.Contains(s.String(), "cannot go on") {
		t.Errorf("want exit 1 and its cause told before, have %d and\n%s", code, s)
	}
	if strings.Contains(s.String(), `"value":"dependency: db`) {
		t.Errorf("want no noise about a dependency, have\n%s", s)
	}
}

// Cronitor hears of the start, of who is missing, and of the end; the report of each minute is a worker.
func TestCronitorHearsHowTheWorkersAre(t *testing.T) {
	s := newTold(t)
	code, _, _ := call(t, func(rt *Runtime) error {
		rt.Go("sound", func(ctx context.Context) error { <-ctx.Done(); return nil })
		s.await(t, `GET /p/key/shop\?.*state=run`)
		rt.alerts.Ping(alert.PingOf(rt.nanny.Workers()))
		s.await(t, `metric=count%3A[0-9]+&metric=error_count%3A0&msg=[0-9]+\+workers&state=ok`)
		rt.Go("broken", func(context.Context) error { return errors.New("out of order") })
		<-rt.Context().Done()
		rt.alerts.Ping(alert.PingOf(rt.nanny.Workers()))
		return rt.Wait()
	}, []string{"CRONITOR_API_KEY=key", "CRONITOR_MONITOR_KEY=shop", "CRONITOR_URL=" + s.URL})
	s.await(t, `metric=error_count%3A1&msg=1\+of\+[0-9]+\+workers\+are\+missing%3A\+broken\+is\+dead&state=fail`)
	if last := s.String()[strings.LastIndex(s.String(), "GET "):]; code != 1 || !regexp.MustCompile(`msg=[^&]*out\+of\+order&state=fail`).MatchString(last) {
		t.Errorf("want the end told last, have %d and %s", code, last)
	}
}

func bodyOf(t *testing.T, addr net.Addr, path string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
