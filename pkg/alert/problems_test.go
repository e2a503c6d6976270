package alert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/nanny"
)

// services are those that take every alert. What is sent to one is kept: the states, and by whom.
type services struct {
	names       []string
	states, who string
}

func (s *services) Receivers(Alert) []string { return s.names }
func (s *services) Send(Alert)               {}
func (s *services) SendTo(a Alert, names ...string) {
	s.states += []string{"note ", "open ", "over "}[a.State]
	s.who += fmt.Sprint(a.State, names)
}

// keeper returns problems with a file.
func keeper(path string) *Problems { return keeperFor(path, &services{names: []string{"webhook"}}) }

func keeperFor(path string, s *services) *Problems {
	p := &Problems{alerts: s, open: map[string]*problem{}}
	p.Load(path)
	return p
}

// sent returns what is sent again.
func sent(p *Problems, all bool) *services {
	s := p.alerts.(*services)
	s.states, s.who = "", ""
	p.resend(all)
	return s
}

// One that nobody wants is not offered again in this life, and is in the next if it is found again; one that was lost is
// offered again; an end whose beginning nobody knows is told with it.
func TestWhatBecameOfAnAlertDecidesWhetherItIsOfferedAgain(t *testing.T) {
	db := Alert{Key: "dependency/db", State: Open, Severity: Critical, Summary: "db is down"}
	over := db
	over.State = Over
	for _, c := range []struct {
		name       string
		do         func(p *Problems)
		lost, next string // what is offered again in this life, and by the next
		news       bool   // whether the next life's finding it is news
	}{
		{"nobody answered", func(p *Problems) { p.add(db) }, "", "open ", false},
		{"taken", func(p *Problems) { p.add(db); p.Settled("webhook", db.Key, Open, Taken) }, "", "", false},
		{"refused", func(p *Problems) { p.add(db); p.Settled("webhook", db.Key, Open, Refused) }, "", "", true},
		{"lost", func(p *Problems) { p.add(db); p.Settled("webhook", db.Key, Open, Lost) }, "open ", "open ", false},
		{"over, and nobody heard", func(p *Problems) { p.add(db); p.add(over) }, "", "open over ", true},
		{"over, and only its beginning was heard", func(p *Problems) { p.add(db); p.Settled("webhook", db.Key, Open, Taken); p.add(over) }, "", "over ", true},
		{"over, and told", func(p *Problems) { p.add(db); p.add(over); p.Settled("webhook", db.Key, Over, Taken) }, "", "", true},
		{"over, and nobody wants to know", func(p *Problems) { p.add(db); p.add(over); p.Settled("webhook", db.Key, Over, Refused) }, "", "", true},
		{"again before the end was told", func(p *Problems) {
			p.add(db)
			p.Settled("webhook", db.Key, Open, Taken)
			p.add(over)
			p.add(db)
			p.Settled("webhook", db.Key, Over, Taken)
		}, "", "open ", false},
	} {
		path := filepath.Join(t.TempDir(), ProblemsFile)
		p := keeper(path)
		c.do(p)
		if have := sent(p, false).states; have != c.lost {
			t.Errorf("%s: want %q offered again, have %q", c.name, c.lost, have)
		}
		next := keeper(path)
		if have := sent(next, true).states; have != c.next {
			t.Errorf("%s: want %q offered by the next life, have %q", c.name, c.next, have)
		}
		if have := next.add(db); have != c.news {
			t.Errorf("%s: want it news for the next life: %v, have %v", c.name, c.news, have)
		}
	}
}

// Who has heard is not told again because somebody else has not.
func TestOnlyWhoDoesNotKnowIsToldAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), ProblemsFile)
	both := &services{names: []string{"pagerduty", "webhook"}}
	p := keeperFor(path, both)
	db := Alert{Key: "dependency/db", State: Open, Severity: Critical}
	p.add(db)
	p.Settled("pagerduty", db.Key, Open, Taken)
	db.State = Over
	p.add(db)
	p.Settled("pagerduty", db.Key, Over, Taken)
	have := sent(keeperFor(path, both), true).who
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
		path := filepath.Join(t.TempDir(), ProblemsFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := keeper(path)
		offered := strings.Count(sent(p, true).states, " ")
		if have := len(p.list()); have != want || offered != want {
			t.Errorf("%s: want %d problems, have %d", text, want, have)
		}
		if !p.add(Alert{Key: "check/shelf", State: Open}) {
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
			path := filepath.Join(t.TempDir(), ProblemsFile)
			exit := Alert{Key: ExitKey, State: Open, Severity: Critical}
			over := exit
			over.State = Over
			began := 0
			for end := time.Now().Add(3 * time.Hour); time.Now().Before(end); {
				p := keeper(path)
				if wait := p.steadyAfter(); wait <= c.life {
					time.Sleep(wait)
					if p.add(over) {
						p.Settled("webhook", ExitKey, Over, Taken)
					}
					time.Sleep(c.life - wait)
				} else {
					time.Sleep(c.life)
				}
				if p.add(exit) {
					began++
					p.Settled("webhook", ExitKey, Open, Taken)
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
			p.add(over)
			p.add(exit)
			if wait := p.steadyAfter(); wait != steady {
				t.Errorf("want what was long ago forgotten, have %v", wait)
			}
		})
	}
}

func TestTheMonitorsReportIsAwaited(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "crashes"), 0o700); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	go func() {
		path, report := awaitReport(t.Context(), dir, 7)
		found <- filepath.Base(path) + " " + string(report["reason"])
	}()
	for name, text := range map[string]string{"monitor-20260101T000000.000Z-8.json": `{"reason":"another"}`, "monitor-20260101T000000.000Z-7.json": `{"reason":"dying"}`} {
		path := filepath.Join(dir, "crashes", name)
		if err := errors.Join(os.WriteFile(path+"~", []byte(text), 0o600), os.Rename(path+"~", path)); err != nil {
			t.Fatal(err)
		}
	}
	if have := <-found; have != `monitor-20260101T000000.000Z-7.json "dying"` {
		t.Errorf("want the report of that process, have %s", have)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if path, _ := awaitReport(ended, dir, 9); path != "" {
		t.Errorf("want none, have %s", path)
	}
}

// quiet is a process in which nothing is wrong.
func quiet() Scene {
	return Scene{Began: time.Now().Add(-time.Hour), Started: func() bool { return true }, Leaving: func() bool { return false },
		Dependencies: func() []dependency.Health { return nil }, Checks: func() map[string]error { return nil }, Failed: func() error { return nil }}
}

// A dependency that is down is a problem, critical if it is required, but for the services that take the alerts.
func TestADependencyThatIsDownIsAProblem(t *testing.T) {
	p := keeper(filepath.Join(t.TempDir(), ProblemsFile))
	p.scene = quiet()
	p.scene.Dependencies = func() []dependency.Health {
		return []dependency.Health{{Name: "db", State: dependency.Down, Required: true}, {Name: "cache", State: dependency.Down},
			{Name: "alert-webhook", State: dependency.Down}, {Name: "shop", State: dependency.Unknown}}
	}
	now, unknown := p.find()
	if len(now) != 2 || now["dependency/db"].Severity != Critical || now["dependency/cache"].Severity != Warning || !unknown["dependency/shop"] {
		t.Errorf("have %v, %v", now, unknown)
	}
}

// What a look found is over once no look finds it; what the app opened itself is over when the app says so.
func TestALookEndsWhatALookFound(t *testing.T) {
	p := keeper(filepath.Join(t.TempDir(), ProblemsFile))
	p.scene = quiet()
	p.scene.Checks = func() map[string]error { return map[string]error{"shelf": errors.New("full")} }
	p.Raise(Alert{Key: OwnPrefix + "stock", State: Open, Severity: Error})
	p.look()
	if have := p.list(); len(have) != 2 || have["check/shelf"].Summary != "shelf: full" {
		t.Errorf("want both, have %v", have)
	}
	p.scene.Checks = func() map[string]error { return nil }
	p.look()
	if have := p.list(); len(have) != 1 || have[OwnPrefix+"stock"].Key == "" {
		t.Errorf("want the app's own alone, have %v", have)
	}
	p.Raise(Alert{Key: OwnPrefix + "stock", State: Over, Severity: Error})
	if have := p.list(); len(have) != 0 {
		t.Errorf("want none, have %v", have)
	}
}

// The report to Cronitor counts who should be there, and names who is not.
func TestAPingNamesTheWorkersThatAreMissing(t *testing.T) {
	list := []nanny.Status{{Name: "reader", State: nanny.StateParked}, {Name: "once", State: nanny.StateDone}, {Name: "relay", State: nanny.StateDead}}
	if have, want := PingOf(list), (Ping{State: "fail", Message: "1 of 2 workers are missing: relay is dead", Workers: 2, Missing: 1, Counting: true}); have != want {
		t.Errorf("want %+v, have %+v", want, have)
	}
	if have, want := PingOf(list[:2]), (Ping{State: "ok", Message: "1 workers", Workers: 1, Counting: true}); have != want {
		t.Errorf("want %+v, have %+v", want, have)
	}
}
