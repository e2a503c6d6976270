package base

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	rt.Stop(nil)
	return rt.Wait()
}

// awaitFile waits until alerts.json holds the text, or no longer does.
func awaitFile(t *testing.T, dir, text string, want bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		have, _ := os.ReadFile(filepath.Join(dir, openProblems))
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

// keeper is problems with a file.
func keeper(path string) *problems {
	p := &problems{}
	p.load(path, func(alert.Alert) []string { return []string{"webhook"} })
	return p
}

// One that nobody wants is not offered again in this life, and is in the next if it is found again; one that was lost is
// offered again; an end whose beginning nobody knows is told with it.
func TestWhatBecameOfAnAlertDecidesWhetherItIsOfferedAgain(t *testing.T) {
	db := alert.Alert{Key: "dependency/db", State: alert.Open, Severity: alert.Critical, Summary: "db is down"}
	over := db
	over.State = alert.Over
	again := func(p *problems, all bool) (s string) {
		p.again(all, func(a alert.Alert, _ ...string) { s += []string{"note ", "open ", "over "}[a.State] })
		return s
	}
	for _, c := range []struct {
		name       string
		do         func(p *problems)
		lost, next string // what is offered again in this life, and by the next
		news       bool   // whether the next life's finding it is news
	}{
		{"nobody answered", func(p *problems) { p.note(db) }, "", "open ", false},
		{"taken", func(p *problems) { p.note(db); p.settled("webhook", db.Key, alert.Open, alert.Taken) }, "", "", false},
		{"refused", func(p *problems) { p.note(db); p.settled("webhook", db.Key, alert.Open, alert.Refused) }, "", "", true},
		{"lost", func(p *problems) { p.note(db); p.settled("webhook", db.Key, alert.Open, alert.Lost) }, "open ", "open ", false},
		{"over, and nobody heard", func(p *problems) { p.note(db); p.note(over) }, "", "open over ", true},
		{"over, and only its beginning was heard", func(p *problems) { p.note(db); p.settled("webhook", db.Key, alert.Open, alert.Taken); p.note(over) }, "", "over ", true},
		{"over, and told", func(p *problems) { p.note(db); p.note(over); p.settled("webhook", db.Key, alert.Over, alert.Taken) }, "", "", true},
		{"over, and nobody wants to know", func(p *problems) { p.note(db); p.note(over); p.settled("webhook", db.Key, alert.Over, alert.Refused) }, "", "", true},
		{"again before the end was told", func(p *problems) {
			p.note(db)
			p.settled("webhook", db.Key, alert.Open, alert.Taken)
			p.note(over)
			p.note(db)
			p.settled("webhook", db.Key, alert.Over, alert.Taken)
		}, "", "open ", false},
	} {
		path := filepath.Join(t.TempDir(), openProblems)
		p := keeper(path)
		c.do(p)
		if have := again(p, false); have != c.lost {
			t.Errorf("%s: want %q offered again, have %q", c.name, c.lost, have)
		}
		next := keeper(path)
		if have := again(next, true); have != c.next {
			t.Errorf("%s: want %q offered by the next life, have %q", c.name, c.next, have)
		}
		if have := next.note(db); have != c.news {
			t.Errorf("%s: want it news for the next life: %v, have %v", c.name, c.news, have)
		}
	}
}

// Who has heard is not told again because somebody else has not.
func TestOnlyWhoDoesNotKnowIsToldAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), openProblems)
	takers := func(alert.Alert) []string { return []string{"pagerduty", "webhook"} }
	p := &problems{}
	p.load(path, takers)
	db := alert.Alert{Key: "dependency/db", State: alert.Open, Severity: alert.Critical}
	p.note(db)
	p.settled("pagerduty", db.Key, alert.Open, alert.Taken)
	db.State = alert.Over
	p.note(db)
	p.settled("pagerduty", db.Key, alert.Over, alert.Taken)
	next := &problems{}
	next.load(path, takers)
	have := ""
	next.again(true, func(a alert.Alert, names ...string) { have += fmt.Sprint(a.State, names) })
	if want := "1 [webhook]2 [webhook]"; have != want {
		t.Errorf("want %s, have %s", want, have)
	}
}

// A file that is not ours, or torn, or of another version, is no reason to fail.
func TestAFileOfProblemsThatCannotBeReadTellsNothing(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "null": 0, "[]": 0, "garbage": 0, `{"exit":`: 0, `{"exit":null}`: 0, `{"exit":7}`: 0, `{"exit":{"Key":"other","State":1}}`: 0,
		`{"exit":{"Key":"exit","State":9}}`: 0, `{"exit":{"Key":"exit","State":1,"Severity":99}}`: 0,
		`{"exit":{"Key":"exit","State":1,"Severity":3,"Summary":"of a version before","Details":null}}`: 1,
	} {
		path := filepath.Join(t.TempDir(), openProblems)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := keeper(path)
		offered := 0
		p.again(true, func(alert.Alert, ...string) { offered++ })
		if have := len(p.list()); have != want || offered != want {
			t.Errorf("%s: want %d problems, have %d", text, want, have)
		}
		if !p.note(alert.Alert{Key: "check/shelf", State: alert.Open}) {
			t.Errorf("%s: want new problems noted", text)
		}
	}
}

// An app that crashes again and again, if not at once, is a few incidents, and then one.
func TestACrashLoopIsFewIncidents(t *testing.T) {
	for _, c := range []struct {
		life time.Duration
		want int
	}{{6 * time.Second, 2}, {time.Minute, 5}, {5 * time.Minute, 7}} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), openProblems)
			exit := alert.Alert{Key: exitKey, State: alert.Open, Severity: alert.Critical}
			over := exit
			over.State = alert.Over
			began := 0
			for end := time.Now().Add(3 * time.Hour); time.Now().Before(end); {
				p := keeper(path)
				if wait := p.steadyAfter(); wait <= c.life {
					time.Sleep(wait)
					if p.note(over) {
						p.settled("webhook", exitKey, alert.Over, alert.Taken)
					}
					time.Sleep(c.life - wait)
				} else {
					time.Sleep(c.life)
				}
				if p.note(exit) {
					began++
					p.settled("webhook", exitKey, alert.Open, alert.Taken)
				}
			}
			if began != c.want {
				t.Errorf("lives of %v: want %d incidents in three hours, have %d", c.life, c.want, began)
			}
			p := keeper(path)
			if wait := p.steadyAfter(); wait > mostSteady {
				t.Errorf("want %v at most, have %v", mostSteady, wait)
			}
			time.Sleep(lately)
			p.note(over)
			p.note(exit)
			if wait := p.steadyAfter(); wait != steady {
				t.Errorf("want what was long ago forgotten, have %v", wait)
			}
		})
	}
}

// What is kept is as small as what is sent.
func TestAProblemInTheFileIsBounded(t *testing.T) {
	d, dir := newDeaf(t), t.TempDir()
	d.life(t, dir, func(rt *Runtime, _ *dependency.Dependency) error {
		huge := strings.Repeat("x ", 4<<20)
		rt.problem(alert.Alert{Key: "check/shelf", State: alert.Open, Severity: alert.Error, Summary: huge, Details: map[string]string{"error": huge}})
		text, err := os.ReadFile(filepath.Join(dir, openProblems))
		if err != nil || len(text) > 64<<10 {
			t.Errorf("want some KiB, have %d bytes, %v", len(text), err)
		}
		return stopNow(rt)
	})
}
