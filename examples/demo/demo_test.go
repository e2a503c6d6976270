// Package demo_test is the walk-through of docs/demo.md as a test: the two services and the load client as programs of
// their own, and a real PostgreSQL, which is stopped and started under them.
package demo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, _ := programs(); dir != "" {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

const joeHasAFriend = `{"first_name":"jane","last_name":"cooler"}`

func TestWalkThrough(t *testing.T) {
	dir, db := build(t), newDatabase(t)
	db.start(t)
	service2 := start(t, dir, "service2", "APP_DATABASE_URL="+db.url)
	service1 := start(t, dir, "service1", "APP_SERVICE2_URL="+service2.url)
	eventually(t, "service2 is ready", func() bool { return service2.get(t, "/readyz") == 200 })

	t.Run("a request becomes a row and an answer", func(t *testing.T) {
		if a := service1.ask(t, "GET", "/", ""); a.status != 200 || a.body != `{"users":[{"first_name":"joe","last_name":"cool"}]}` {
			t.Fatalf("have %+v", a)
		}
		for range 2 { // under one key it is one user
			a := service1.ask(t, "POST", "/users", joeHasAFriend, "Content-Type: application/json", "Idempotency-Key: jane-1")
			if a.status != 201 || a.body != joeHasAFriend {
				t.Fatalf("have %+v", a)
			}
		}
		if n := db.count(t, "cooler"); n != 1 {
			t.Errorf("want one row, have %d", n)
		}
		if a := service1.ask(t, "GET", "/", ""); !strings.Contains(a.body, joeHasAFriend) {
			t.Errorf("have %+v", a)
		}
	})
	t.Run("what service2 refuses the client hears from service1", func(t *testing.T) {
		for _, body := range []string{`{"first_name":"jane"}`, `{"first_name":"jane","last_name":"x","age":5}`, `{"first_name":"\u0000","last_name":"x"}`} {
			a := service1.ask(t, "POST", "/users", body, "Content-Type: application/json", "X-Request-ID: refused")
			if a.status != 400 || !strings.Contains(a.body, `"request_id":"refused"`) {
				t.Errorf("%s: want a problem with the request's id, have %+v", body, a)
			}
		}
	})
	t.Run("the logs of both services join by the request's id", func(t *testing.T) {
		if id := service1.ask(t, "GET", "/", "", "X-Request-ID: walk-1").header.Get("X-Request-Id"); id != "walk-1" {
			t.Errorf("want the id back, have %q", id)
		}
		for s, want := range map[*service]string{service1: "service2 answered, request", service2: "users read, request"} {
			var have []string
			for _, l := range s.of(t, "walk-1") {
				have = append(have, l.Message)
			}
			if strings.Join(have, ", ") != want {
				t.Errorf("%s: want %q under the id, have %q", s.name, want, have)
			}
		}
	})
	t.Run("the honeypot costs its own request", func(t *testing.T) {
		a := service1.ask(t, "GET", "/honeypot/", "", "X-Request-ID: bear")
		if a.status != 500 || !strings.Contains(a.body, `"request_id":"bear"`) || strings.Contains(a.body, "divide") {
			t.Errorf("want a problem that keeps the cause to itself, have %+v", a)
		}
		if a := service1.ask(t, "GET", "/honeypot/", "", "Accept: text/html"); a.status != 500 || !strings.Contains(a.body, "<form") {
			t.Errorf("want a page with a form, have %+v", a)
		}
		var failed line
		for _, l := range service1.of(t, "bear") {
			if l.Message == "failed" {
				failed = l
			}
		}
		if failed.Level != "ERROR" || !strings.Contains(failed.text, "integer divide by zero") || !strings.Contains(failed.Stack, "main.crash") {
			t.Errorf("want the cause and the stack in the log, have %+v", failed)
		}
		if service1.get(t, "/healthz") != 200 || service1.get(t, "/") != 200 {
			t.Error("want everybody else served")
		}
	})
	t.Run("the load client tells how it was answered", func(t *testing.T) {
		text, code := load(t, dir, "-url", service1.url+"/", "-rate", "40", "-for", "2s", "-timeout", patience.String())
		sum := regexp.MustCompile(`(?m)^in all +[0-9.]+/s  half [0-9.]+ ms  99% [0-9.]+ ms  slowest [0-9.]+ ms  (\d+) × 200 OK$`).FindStringSubmatch(text)
		if code != 0 || sum == nil || sum[1] != "80" {
			t.Errorf("want 80 answers and exit code 0, have %d of\n%s", code, text)
		}
		text, code = load(t, dir, "-url", service1.url+"/honeypot/", "-rate", "10", "-for", "500ms", "-timeout", patience.String())
		id := regexp.MustCompile(`(?m)^the first that failed: 500 .* request_id (\S+)$`).FindStringSubmatch(text)
		if code != 1 || !strings.Contains(text, "5 × 500 Internal Server Error") || id == nil {
			t.Fatalf("want 5 failures, an id and exit code 1, have %d of\n%s", code, text)
		}
		if len(service1.of(t, id[1])) != 2 {
			t.Errorf("want the failure and the request under %s", id[1])
		}
		if _, code := load(t, dir, "-url", service1.url+"/honeypot/", "-rate", "10", "-for", "200ms", "-failures", "1"); code != 0 {
			t.Errorf("want failures forgiven that were allowed, have %d", code)
		}
	})
	outage(t, db, service1, service2)
	t.Run("both stop in order", func(t *testing.T) {
		service1.stop(t)
		service2.stop(t)
	})
}

// outage stops the database, looks at what is left, and starts it again.
func outage(t *testing.T, db *database, service1, service2 *service) {
	t.Run("without the database", func(t *testing.T) {
		db.stop()
		eventually(t, "service2's breaker opens", func() bool {
			a := service2.ask(t, "GET", "/", "")
			if a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Fatalf("want 503 with Retry-After, have %+v", a)
			}
			return service2.get(t, "/readyz") == 503
		})
		opened := service2.find(t, "the breaker", func(l line) bool { return l.Level == "WARN" && strings.Contains(l.Message, "breaker") })
		if !strings.Contains(opened.text, "users-db") {
			t.Errorf("want the database named, have %s", opened.text)
		}
		if health := service2.ask(t, "GET", "/healthz", ""); health.status != 200 || !strings.Contains(health.body, `"name":"users-db","state":"down"`) {
			t.Errorf("want service2 alive, and to say what is down, have %+v", health)
		}
		a := service1.ask(t, "GET", "/", "", "X-Request-ID: outage-1")
		if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"request_id":"outage-1"`) {
			t.Errorf("want 503 with Retry-After from service1, have %+v", a)
		}
		if len(service1.lines(func(l line) bool {
			return l.Level == "ERROR" && l.RequestID != "bear" && l.Subject != "handler GET /honeypot/"
		})) > 0 ||
			len(service2.lines(func(l line) bool { return l.Level == "ERROR" })) > 0 {
			t.Error("want warnings and no noise for what somebody else did")
		}
		if service1.get(t, "/readyz") != 200 {
			t.Error("want service1 ready: it does not require service2")
		}
	})
	t.Run("with the database again", func(t *testing.T) {
		db.start(t)
		eventually(t, "service1 answers by itself", func() bool { return service1.get(t, "/") == 200 })
		eventually(t, "service2 is ready by itself", func() bool { return service2.get(t, "/readyz") == 200 })
		if n := db.count(t, "cooler"); n != 1 {
			t.Errorf("want the row that was there, have %d", n)
		}
	})
}

func TestService2StartsBeforeItsDatabase(t *testing.T) {
	dir, db := build(t), newDatabase(t)
	service2 := start(t, dir, "service2", "APP_DATABASE_URL="+db.url)
	if a := service2.ask(t, "GET", "/readyz", ""); a.status != 503 || service2.get(t, "/healthz") != 200 {
		t.Errorf("want it alive and not ready, have %+v", a)
	}
	db.start(t)
	eventually(t, "service2 is ready", func() bool { return service2.get(t, "/readyz") == 200 })
	if a := service2.ask(t, "GET", "/", ""); a.status != 200 {
		t.Errorf("have %+v", a)
	}
	service2.stop(t)
}

// That it is full is an answer of the database, and yet no reason to die of.
func TestService2WaitsForADatabaseThatIsFull(t *testing.T) {
	dir, db := build(t), newDatabase(t)
	db.start(t, "-c", "max_connections=1", "-c", "superuser_reserved_connections=0", "-c", "max_wal_senders=0")
	release := db.take(t)
	service2 := start(t, dir, "service2", "APP_DATABASE_URL="+db.url)
	if a := service2.ask(t, "GET", "/", ""); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("want 503 with Retry-After, have %+v", a)
	}
	service2.find(t, "why", func(l line) bool { return strings.Contains(l.text, "too many clients") })
	release()
	eventually(t, "service2 is ready", func() bool { return service2.get(t, "/readyz") == 200 })
	service2.stop(t)
}

func TestWrongSettingsAreToldWithoutTheSecret(t *testing.T) {
	dir := build(t)
	for url, want := range map[string]string{
		"":                                "APP_DATABASE_URL: required",
		"postgres://me:hunter2@db:port/x": "APP_DATABASE_URL is not a database's URL (write postgres://",
	} {
		cmd := exec.Command(filepath.Join(dir, "service2"))
		cmd.Env = []string{"DATA_DIR=" + t.TempDir(), "WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off", "APP_DATABASE_URL=" + url}
		text, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 78 || !strings.Contains(string(text), want) || strings.Contains(string(text), "hunter2") {
			t.Errorf("%q: want exit code 78 and %q, have %d and\n%s", url, want, code, text)
		}
	}
}

func TestTheLoadClientsCommandLine(t *testing.T) {
	dir := build(t)
	for _, args := range []string{"-rate 0", "-rate NaN", "-url ftp://x", "-url x", "-clients 0", "-for -1s", "-failures 2", "more", "-unknown"} {
		if text, code := load(t, dir, strings.Fields(args)...); code != 64 {
			t.Errorf("load %s: want exit code 64, have %d and\n%s", args, code, text)
		}
	}
	if text, code := load(t, dir, "-url", "http://127.0.0.1:1/", "-rate", "20", "-for", "200ms"); code != 1 || !strings.Contains(text, "× connection refused") {
		t.Errorf("want exit code 1 with nobody there, have %d and\n%s", code, text)
	}
}

// load runs the load client to its end.
func load(t *testing.T, dir string, args ...string) (text string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "load"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}
