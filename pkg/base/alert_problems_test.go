package base

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/base-app/pkg/alert"
	"example.com/base-app/pkg/dependency"
)

// deaf is a webhook that can be away: it answers 503 then, and counts who asked.
type deaf struct {
	*told
	away  atomic.Bool
	asked atomic.Int64
}

func newDeaf(t *testing.T) *deaf {
	d := &deaf{told: newTold(t)}
	hear := d.Config.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.away.Load() {
			hear.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		d.asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(front.Close)
	d.URL = front.URL
	return d
}

// awaitTry waits until it was asked while it is away.
func (d *deaf) awaitTry(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); d.asked.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("want a try")
		}
	}
}

// life runs the app once, with a required dependency db.
func (d *deaf) life(t *testing.T, dir string, run func(rt *Runtime, db *dependency.Dependency) error) int {
	t.Helper()
	code, _, _ := call(t, func(rt *Runtime) error {
		db, err := rt.Depend("db", dependency.Policy{Required: true, Failures: 1, Cooldown: time.Millisecond})
		if err != nil {
			return err
		}
		rt.Started()
		return run(rt, db)
	}, []string{"WEBHOOK_URL=" + d.URL + "/hook", "DATA_DIR=" + dir, "DEVICE_NAME=box-1"})
	return code
}

func stopNow(rt *Runtime) error {
	rt.Done("tested")
	return rt.Wait()
}

// awaitFile waits until alerts.json holds the text, or no longer does.
func awaitFile(t *testing.T, dir, text string, want bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		have, _ := os.ReadFile(filepath.Join(dir, alert.ProblemsFile))
		if strings.Contains(string(have), text) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("want %s in the file: %v, have %s", text, want, have)
			return
		}
	}
}

// What nobody could be told in one life is told in the next, be it a beginning or an end.
func TestWhatCouldNotBeToldIsToldByTheNextLife(t *testing.T) {
	t.Parallel() // it waits for seconds
	d, dir := newDeaf(t), t.TempDir()
	fail := func(db *dependency.Dependency, err error) {
		_ = db.Do(t.Context(), func(context.Context) error { return err })
	}
	d.away.Store(true)
	d.life(t, dir, func(rt *Runtime, db *dependency.Dependency) error {
		fail(db, dependency.Failure(errors.New("connection refused")))
		d.awaitTry(t)
		return stopNow(rt)
	})
	d.away.Store(false)
	d.life(t, dir, func(rt *Runtime, _ *dependency.Dependency) error {
		d.await(t, `"event_action":"trigger","dedup_key":"base-app@box-1/dependency/db".*connection refused`)
		awaitFile(t, dir, `"Told":{"webhook":1}`, true)
		return stopNow(rt)
	})

	d.away.Store(true)
	d.asked.Store(0)
	d.life(t, dir, func(rt *Runtime, db *dependency.Dependency) error {
		for deadline := time.Now().Add(30 * time.Second); db.Health().State != dependency.Up && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			fail(db, nil)
		}
		d.awaitTry(t)
		return stopNow(rt)
	})
	if strings.Contains(d.String(), "resolve") {
		t.Fatalf("want the end not told yet, have\n%s", d)
	}
	d.away.Store(false)
	d.life(t, dir, func(rt *Runtime, _ *dependency.Dependency) error {
		d.await(t, `"event_action":"resolve","dedup_key":"base-app@box-1/dependency/db"`)
		awaitFile(t, dir, "dependency/db", false)
		return stopNow(rt)
	})
	if n := strings.Count(d.String(), "trigger"); n != 1 {
		t.Errorf("want what was told not told again, have\n%s", d)
	}
}

// The end of a process that could not be told is told by the next one, before it tells that it is over.
func TestAnExitThatCouldNotBeToldIsToldByTheNextLife(t *testing.T) {
	t.Parallel() // it waits for seconds
	d, dir := newDeaf(t), t.TempDir()
	d.away.Store(true)
	if code := d.life(t, dir, func(*Runtime, *dependency.Dependency) error { return errors.New("cannot go on") }); code != 1 {
		t.Fatalf("want exit 1, have %d", code)
	}
	d.away.Store(false)
	d.life(t, dir, func(rt *Runtime, _ *dependency.Dependency) error {
		d.await(t, `(?s)"trigger","dedup_key":"base-app@box-1/exit"[^\n]*cannot go on.*"resolve","dedup_key":"base-app@box-1/exit"`)
		return stopNow(rt)
	})
}

// What is kept is as small as what is sent.
func TestAProblemInTheFileIsBounded(t *testing.T) {
	d, dir := newDeaf(t), t.TempDir()
	d.life(t, dir, func(rt *Runtime, _ *dependency.Dependency) error {
		huge := strings.Repeat("x ", 4<<20)
		rt.problems.Raise(alert.Alert{Key: "check/shelf", State: alert.Open, Severity: alert.Error, Summary: huge, Details: map[string]string{"error": huge}})
		text, err := os.ReadFile(filepath.Join(dir, alert.ProblemsFile))
		if err != nil || len(text) > 64<<10 {
			t.Errorf("want some KiB, have %d bytes, %v", len(text), err)
		}
		return stopNow(rt)
	})
}

// An alert of the app's own lasts until the app ends it, be it another process that does.
func TestAnAlertOfTheAppLastsUntilTheAppEndsIt(t *testing.T) {
	s, dir := newTold(t), t.TempDir()
	vars := []string{"WEBHOOK_URL=" + s.URL + "/hook", "DATA_DIR=" + dir, "DEVICE_NAME=box-1"}
	stock := alert.Alert{Key: "stock", State: alert.Open, Severity: alert.Error, Summary: "the stock is empty"}
	code, out, _ := call(t, func(rt *Runtime) error {
		rt.Alert(stock)
		rt.Alert(stock)
		rt.Alert(alert.Alert{Summary: "nameless"})
		s.await(t, `"event_action":"trigger","dedup_key":"base-app@box-1/app/stock".*the stock is empty`)
		awaitFile(t, dir, `"Told":{"webhook":1}`, true)
		return stopNow(rt)
	}, vars)
	if code != 0 || !strings.Contains(out, "an alert without a key is not sent") {
		t.Errorf("have %d\n%s", code, out)
	}
	stock.State = alert.Over
	call(t, func(rt *Runtime) error {
		rt.Alert(stock)
		s.await(t, `"event_action":"resolve","dedup_key":"base-app@box-1/app/stock"`)
		return stopNow(rt)
	}, vars)
	if n := strings.Count(s.String(), "trigger"); n != 1 {
		t.Errorf("want it begun once, have\n%s", s)
	}
}
