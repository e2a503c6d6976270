package toxitest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/dependency"
)

func TestAPartnerThatDoesNotAnswerInTimeIsGivenUp(t *testing.T) {
	for name, toxic := range map[string][2]string{
		"slow":             {"latency", `"latency":60000`},
		"a black hole":     {"timeout", `"timeout":0`},
		"a trickle":        {"bandwidth", `"rate":0`},
		"one byte at once": {"slicer", `"average_size":1,"size_variation":0,"delay":1000000`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newPartner(t, dependency.Policy{Attempt: time.Second, Total: 10 * time.Second, Tries: 2})
			x.poison(t, toxic[0], 1, toxic[1])
			began := time.Now()
			err := x.ask(t, "GET", "")
			blamed(t, err)
			if !errors.Is(err, context.DeadlineExceeded) || x.dep.Health().Tries != 2 || time.Since(began) < 2*time.Second {
				t.Errorf("want two tries of 1 s, have %v after %v", err, time.Since(began))
			}
			if x.asked.Load() != 2 {
				t.Errorf("want 2 requests arrived, so that only the answers were late, have %d", x.asked.Load())
			}
		})
	}
}

func TestABodyThatDripsIsCutOffWhenTheCallsTimeIsOver(t *testing.T) {
	x := newPartner(t, dependency.Policy{Total: 500 * time.Millisecond})
	x.poison(t, "bandwidth", 1, `"rate":1`) // KB/s: the body would take a minute
	err := x.ask(t, "GET", "body=long")
	blamed(t, err)
	h := x.dep.Health()
	if !errors.Is(err, context.DeadlineExceeded) || x.asked.Load() != 1 {
		t.Errorf("want one try and the time over, have %v, %d tries", err, x.asked.Load())
	}
	if h.InFlight != 0 || h.Failures != 1 || h.State != dependency.Degraded {
		t.Errorf("want the place free and the failure counted, have %+v", h)
	}
}

func TestABodyThatIsCutShortIsAnErrorAndNotAShortAnswer(t *testing.T) {
	x := newPartner(t, dependency.Policy{})
	x.poison(t, "limit_data", 1, `"bytes":10000`)
	blamed(t, x.ask(t, "GET", "body=long"))
	if h := x.dep.Health(); h.Failures != 1 || h.InFlight != 0 {
		t.Errorf("have %+v", h)
	}
}

func TestAResetIsTriedAgainOnlyWhereThatIsSafe(t *testing.T) {
	for method, want := range map[string]int64{"GET": 3, "PUT": 3, "POST": 1} {
		x := newPartner(t, dependency.Policy{Pause: time.Millisecond})
		x.poison(t, "reset_peer", 1, `"timeout":0`)
		blamed(t, x.ask(t, method, ""))
		if x.asked.Load() != want {
			t.Errorf("%s: want %d requests arrived, have %d", method, want, x.asked.Load())
		}
	}
}

// A fifth of the connections is reset. What the callers see of that stays within a budget of errors, the same in
// quiet and in disturbed times.
func TestRetriesKeepTheErrorBudget(t *testing.T) {
	const (
		calls  = 200
		budget = calls * 4 / 100 // three resets in a row are 0.8 % of the calls
	)
	x := newPartner(t, dependency.Policy{Pause: time.Millisecond, Failures: 20})
	phase := func(name string, least, most uint64) {
		failures, errs, before := x.dep.Health().Failures, 0, x.dep.Health().Calls
		for range calls {
			if x.ask(t, "GET", "connection=new") != nil {
				errs++
			}
		}
		failures = x.dep.Health().Failures - failures
		t.Logf("%s: %d of %d calls failed, after %d failed tries", name, errs, calls, failures)
		if failures < least || failures > most || x.dep.Health().Calls-before != calls {
			t.Errorf("%s: want %d to %d tries hit, have %d", name, least, most, failures)
		}
		if errs > budget {
			t.Errorf("%s: want at most %d errors, have %d", name, budget, errs)
		}
	}
	phase("quiet", 0, 0)
	x.poison(t, "reset_peer", 0.2, `"timeout":0`)
	phase("disturbed", 20, 110) // 50 on average
	x.heal(t)
	phase("quiet again", 0, 0)
}

func TestTheBreakerSparesAPartnerThatIsDownAndFindsOutThatItIsBack(t *testing.T) {
	x := newPartner(t, dependency.Policy{Pause: time.Millisecond, Failures: 3, Cooldown: 300 * time.Millisecond})
	if err := x.ask(t, "GET", ""); err != nil {
		t.Fatal(err)
	}
	x.proxy.Stop()
	blamed(t, x.ask(t, "GET", "")) // three tries
	tries := x.dep.Health().Tries
	refused, began := 0, time.Now()
	for len(x.changes()) < 5 { // it looks again, twice and in vain, and goes on refusing
		if time.Since(began) > patience {
			t.Fatalf("want it open, and half-open from time to time, have %v", x.changes())
		}
		err := x.ask(t, "GET", "")
		blamed(t, err)
		if errors.Is(err, dependency.ErrOpen) {
			refused++
		}
	}
	more := x.dep.Health().Tries - tries
	t.Logf("%d calls refused and %d tries made in %v", refused, more, time.Since(began))
	if refused < 100 || more > 12 {
		t.Errorf("want all calls but a few refused, have %d refused and %d tries", refused, more)
	}
	if err := x.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); x.ask(t, "GET", "") != nil; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the partner is back, and the breaker stays open")
		}
	}
	changes := x.changes()
	if h := x.dep.Health(); h.State != dependency.Up || h.Breaker != dependency.Closed || !slices.Equal(changes[:2], []dependency.Breaker{dependency.Open, dependency.HalfOpen}) ||
		!slices.Equal(changes[len(changes)-2:], []dependency.Breaker{dependency.HalfOpen, dependency.Closed}) {
		t.Errorf("want it up, after open, half-open, … half-open, closed, have %s after %v", h.State, changes)
	}
	for range 20 {
		if err := x.ask(t, "GET", ""); err != nil {
			t.Error(err)
		}
	}
}

func (x *partner) changes() []dependency.Breaker {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.breakers)
}

func TestASlowPartnerHoldsOnlyItsOwnPlaces(t *testing.T) {
	slow := newPartner(t, dependency.Policy{Concurrent: 4, Wait: 50 * time.Millisecond})
	other := newPartner(t, dependency.Policy{Concurrent: 4})
	slow.poison(t, "latency", 1, `"latency":1500`)
	errs := make([]error, 20)
	var calls sync.WaitGroup
	for i := range errs {
		calls.Go(func() { errs[i] = slow.ask(t, "GET", "") })
	}
	for range 50 { // meanwhile
		if err := other.ask(t, "GET", ""); err != nil {
			t.Error(err)
		}
	}
	calls.Wait()
	served, busy := 0, 0
	for _, err := range errs {
		switch {
		case err == nil:
			served++
		case errors.Is(err, dependency.ErrBusy):
			busy++
		default:
			t.Error(err)
		}
	}
	// Callers that this machine lets come later than 1.5 s find the places free again.
	if served < 4 || busy < 1 || served+busy != len(errs) || slow.asked.Load() != int64(served) {
		t.Errorf("want 4 served and 16 refused, have %d and %d, and %d requests arrived", served, busy, slow.asked.Load())
	}
	if h := slow.dep.Health(); h.State != dependency.Up || h.InFlight != 0 || !strings.Contains(string(h.Breaker), "closed") {
		t.Errorf("want a slow partner not taken for one that is down, have %+v", h)
	}
}
