package dependency_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errBoom = errors.New("boom")
	errDown = dependency.Failure(errBoom)
)

func ok(context.Context) error   { return nil }
func down(context.Context) error { return errDown }

// hang waits for its context, as a call to somebody who never answers does.
func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func add(t testing.TB, p dependency.Policy) *dependency.Dependency {
	t.Helper()
	d, err := dependency.New(dependency.Options{}).Add("db", p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// records is a log and an Observer that keep what they hear.
type records struct {
	mu       sync.Mutex
	text     bytes.Buffer
	tries    []error
	took     []time.Duration
	breakers []dependency.Breaker
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *records) Try(_ context.Context, _ string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries, r.took = append(r.tries, err), append(r.took, took)
}

func (r *records) Breaker(_ string, s dependency.Breaker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.breakers = append(r.breakers, s)
}

func (r *records) told() []dependency.Breaker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.breakers)
}

func (r *records) options() dependency.Options {
	return dependency.Options{Log: slog.New(slog.NewTextHandler(r, nil)), Observer: r}
}

func TestMistakesInTheProgramAreTold(t *testing.T) {
	r := dependency.New(dependency.Options{})
	if _, err := r.Add("db", dependency.Policy{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		policy dependency.Policy
		want   string
	}{
		{"db", dependency.Policy{}, "taken"},
		{"", dependency.Policy{}, "1 to 64"},
		{strings.Repeat("x", 65), dependency.Policy{}, "1 to 64"},
		{"My DB", dependency.Policy{}, "lower-case"},
		{"a", dependency.Policy{Tries: -1}, "negative"},
		{"b", dependency.Policy{Total: -time.Second}, "negative"},
		{"c", dependency.Policy{Rate: -1}, "rate"},
	} {
		if _, err := r.Add(c.name, c.policy); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %+v: want an error with %q, have %v", c.name, c.policy, c.want, err)
		}
	}
	for i := 1; i < dependency.MaxDependencies; i++ {
		if _, err := r.Add("n"+strings.Repeat("x", i%60)+string(rune('a'+i/60)), dependency.Policy{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Add("one-more", dependency.Policy{}); err == nil {
		t.Error("want an end of the list, have none")
	}
	if list := r.List(); len(list) != dependency.MaxDependencies || list[0].Name != "db" || list[1].Name != "nxa" {
		t.Errorf("want all in the order of their adding, have %d: %v …", len(list), list[:2])
	}
}

func TestTheDefaultsFitTogether(t *testing.T) {
	p := add(t, dependency.Policy{}).Policy()
	if p.Attempt >= p.Total || p.Pause > p.MaxPause || p.Tries < 2 || p.Burst < 1 {
		t.Errorf("have %+v", p)
	}
	p = add(t, dependency.Policy{Total: time.Second, Pause: time.Minute, Rate: 7}).Policy()
	if p.Attempt != time.Second || p.MaxPause != time.Minute || p.Burst != 7 {
		t.Errorf("want an attempt no longer than the total, a longest pause no shorter than the first, a second's burst, have %+v", p)
	}
}

func TestHealthTellsWhatTheCallsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := add(t, dependency.Policy{Failures: 2})
		began := time.Now()
		step := func(fn func(context.Context) error, want dependency.State, since time.Duration) {
			t.Helper()
			<-time.After(time.Second)
			_ = d.Do(t.Context(), fn)
			if h := d.Health(); h.State != want || h.Since.Sub(began) != since {
				t.Errorf("have %s since %v, want %s since %v", h.State, h.Since.Sub(began), want, since)
			}
		}
		if h := d.Health(); h.State != dependency.Unknown || h.Breaker != dependency.Closed || h.LastError != "" {
			t.Errorf("have %+v before the first call", h)
		}
		step(ok, dependency.Up, time.Second)
		step(ok, dependency.Up, time.Second)
		step(down, dependency.Degraded, 3*time.Second)
		step(ok, dependency.Up, 4*time.Second)
		step(down, dependency.Degraded, 5*time.Second)
		step(down, dependency.Down, 6*time.Second)
		step(ok, dependency.Down, 6*time.Second) // refused
		<-time.After(dependency.DefaultCooldown)
		step(down, dependency.Down, 6*time.Second) // tried, in vain
		h := d.Health()
		if h.Calls != 8 || h.Tries != 7 || h.Failures != 4 || h.Refused != 1 || h.InFlight != 0 {
			t.Errorf("want 8 calls, 7 tries, 4 failures, 1 refusal, have %+v", h)
		}
		if h.LastError != "boom" || h.LastErrorAt.Sub(began) != 8*time.Second+dependency.DefaultCooldown {
			t.Errorf("want the last error and its time, have %+v", h)
		}
		<-time.After(dependency.DefaultCooldown)
		step(ok, dependency.Up, time.Since(began)+time.Second)
	})
}

func TestOnlyARequiredDependencyDecidesTheReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := dependency.New(dependency.Options{})
		db, _ := r.Add("db", dependency.Policy{Required: true})
		mail, err := r.Add("mail", dependency.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		fail := func(d *dependency.Dependency) {
			for range dependency.DefaultFailures {
				_ = d.Do(t.Context(), down)
			}
		}
		if fail(mail); r.Err() != nil {
			t.Errorf("want ready without mail, have %v", r.Err())
		}
		fail(db)
		if err := r.Err(); fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "db") || strings.Contains(err.Error(), "mail") {
			t.Errorf("want db, and only it, have %v", err)
		}
		<-time.After(dependency.DefaultCooldown + time.Millisecond)
		if err := r.Err(); err != nil {
			t.Errorf("want calls let in after the cooldown, to find out, have %v", err)
		}
	})
}

func TestABlockedLogHoldsUpNobodyElseAndChangesKeepTheirOrder(t *testing.T) {
	blocked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var seen records
	log := slog.New(slog.NewTextHandler(writer(func() {
		once.Do(func() { close(blocked) })
		<-release
	}), nil))
	d, err := dependency.New(dependency.Options{Log: log, Observer: &seen}).Add("db", dependency.Policy{Failures: 1, Cooldown: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error)
	go func() { first <- d.Do(t.Context(), down) }()
	<-blocked
	for deadline := time.Now().Add(10 * time.Second); d.Health().Breaker != dependency.HalfOpen; <-time.After(time.Millisecond) { // hangs if it waits for the log
		if time.Now().After(deadline) {
			t.Fatal("the breaker stays open")
		}
	}
	if n := seen.told(); len(n) != 0 {
		t.Errorf("want the second change told after the first, have %v", n)
	}
	close(release)
	<-first
	if have := seen.told(); !slices.Equal(have, []dependency.Breaker{dependency.Open, dependency.HalfOpen}) {
		t.Errorf("have %v", have)
	}
}

type writer func()

func (w writer) Write(b []byte) (int, error) { w(); return len(b), nil }
