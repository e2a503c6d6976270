package dependency_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

func TestWhatCountsAsAFailureAndWhatIsTriedAgain(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		name  string
		err   error
		tries int
		blame bool // the dependency failed
	}{
		{"success", nil, 1, false},
		{"an answer", sql.ErrNoRows, 1, false},
		{"an answer, marked safe to repeat", dependency.Safe(sql.ErrNoRows), 1, false},
		{"an error of a file", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, 1, false},
		{"a refused connection", refused, 1, true},
		{"a refused connection, wrapped", fmt.Errorf("query: %w", refused), 1, true},
		{"a reset, safe to repeat", dependency.Safe(syscall.ECONNRESET), 3, true},
		{"a connection cut short, safe to repeat", dependency.Safe(fmt.Errorf("read: %w", io.ErrUnexpectedEOF)), 3, true},
		{"an unknown host, safe to repeat", dependency.Safe(&net.DNSError{Name: "db"}), 3, true},
		{"marked as a failure", dependency.Failure(errBoom), 1, true},
		{"marked as both", dependency.Safe(dependency.Failure(errBoom)), 3, true},
		{"marked as both, wrapped between", dependency.Failure(fmt.Errorf("query: %w", dependency.Safe(errBoom))), 3, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, tries := add(t, dependency.Policy{}), 0
			err := d.Do(t.Context(), func(context.Context) error { tries++; return c.err })
			if !errors.Is(err, c.err) || tries != c.tries {
				t.Errorf("%s: want %v after %d tries, have %v after %d", c.name, c.err, c.tries, err, tries)
			}
			if blamed := fault.Of(err) == fault.KindDependency; blamed != c.blame || c.blame != (d.Health().Failures > 0) {
				t.Errorf("%s: want blamed %v, have %v and %d failures", c.name, c.blame, err, d.Health().Failures)
			}
		})
	}
}

func TestAnExhaustedCallNamesTheDependencyAndTheTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := add(t, dependency.Policy{}).Do(t.Context(), func(context.Context) error { return dependency.Safe(errDown) })
		if want := "dependency: db: tried 3 times: boom"; err == nil || err.Error() != want {
			t.Errorf("want %q, have %v", want, err)
		}
		if fault.ExitCode(err) != fault.ExitDependency || !errors.Is(err, errBoom) {
			t.Errorf("want exit code 69 and the cause, have %d", fault.ExitCode(err))
		}
	})
}

func TestPausesAreAnythingUpToAGrowingBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}
		const runs = 300
		sums, short, long := make([]time.Duration, len(bounds)), 0, 0
		for range runs {
			d := add(t, dependency.Policy{Tries: 5, Total: time.Hour, Pause: time.Second, MaxPause: 3 * time.Second})
			var at []time.Time
			_ = d.Do(t.Context(), func(context.Context) error {
				at = append(at, time.Now())
				return dependency.Safe(syscall.ECONNRESET)
			})
			for i, bound := range bounds {
				pause := at[i+1].Sub(at[i])
				if pause > bound+1 {
					t.Fatalf("pause %d: want at most %v, have %v", i, bound, pause)
				}
				sums[i] += pause
				if pause < bound/5 {
					short++
				} else if pause > bound*4/5 {
					long++
				}
			}
		}
		if fifth := runs * len(bounds) / 5; short < fifth/2 || long < fifth/2 {
			t.Errorf("want pauses all over the range, have %d in its first fifth and %d in its last, of %d", short, long, 5*fifth)
		}
		for i, bound := range bounds {
			if mean := sums[i] / runs; mean < bound/3 || mean > bound*2/3 {
				t.Errorf("pause %d: want a mean of about the half of %v, have %v", i, bound, mean)
			}
		}
	})
}

func TestATryAndACallEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dependency.Policy{Attempt: 2 * time.Second, Total: 5 * time.Second, Tries: 9, Failures: 99}
		began := time.Now()
		err := add(t, p).Do(t.Context(), hang)
		if took := time.Since(began); took != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 2s") {
			t.Errorf("want one try of 2 s, have %v after %v", err, took)
		}
		began = time.Now()
		err = add(t, p).Do(t.Context(), func(ctx context.Context) error { return dependency.Safe(hang(ctx)) })
		if took := time.Since(began); took > 5*time.Second || took < 4*time.Second || fault.Of(err) != fault.KindDependency {
			t.Errorf("want tries until 5 s are over, have %v after %v", err, took)
		}
		slow := func(ctx context.Context) error { // an error of its own instead of the context's
			<-ctx.Done()
			return errors.New("canceling statement due to user request")
		}
		if err := add(t, p).Do(t.Context(), slow); fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "no answer within 2s: canceling") {
			t.Errorf("want a failure, whatever the driver calls it, have %v", err)
		}
	})
}

func TestEveryWaitEndsWithTheCaller(t *testing.T) {
	limited := dependency.Policy{Rate: 0.1, Burst: 1, Wait: time.Minute, Total: time.Hour}
	for name, c := range map[string]struct {
		policy dependency.Policy
		before func(context.Context, *dependency.Dependency)
		fn     func(context.Context) error
	}{
		"a try":   {dependency.Policy{}, nil, hang},
		"a pause": {dependency.Policy{Pause: time.Hour, Total: 4 * time.Hour}, nil, func(context.Context) error { return dependency.Safe(errDown) }},
		"a place": {dependency.Policy{Concurrent: 1, Wait: time.Minute, Attempt: time.Hour, Total: time.Hour}, func(ctx context.Context, d *dependency.Dependency) { go d.Do(ctx, hang) }, ok},
		"a token": {limited, func(ctx context.Context, d *dependency.Dependency) { _ = d.Do(ctx, ok) }, ok},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := add(t, c.policy)
				if c.before != nil {
					c.before(t.Context(), d)
					synctest.Wait()
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				began := time.Now()
				err := d.Do(ctx, c.fn)
				if took := time.Since(began); took > time.Millisecond && name != "a pause" || took > time.Second || !errors.Is(err, context.Canceled) {
					t.Errorf("want the end of the caller's context at once, have %v after %v", err, took)
				}
				if fault.Of(err) == fault.KindDependency {
					t.Errorf("want nobody blamed, have %v", err)
				}
				if h := d.Health(); name == "a try" && (h.Failures != 0 || h.LastError != "") {
					t.Errorf("want no failure, have %+v", h)
				}
			})
		})
	}
}

func TestTheBreakerOpensLooksAgainAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen records
		d, err := dependency.New(seen.options()).Add("db", dependency.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		call := func(err error) error {
			return d.Do(t.Context(), func(context.Context) error { calls++; return err })
		}
		for range dependency.DefaultFailures {
			_ = call(errDown)
		}
		if err := call(nil); !errors.Is(err, dependency.ErrOpen) || fault.Of(err) != fault.KindDependency || calls != dependency.DefaultFailures {
			t.Errorf("want a refusal after %d failures, have %v after %d calls", dependency.DefaultFailures, err, calls)
		}
		for range 2 {
			<-time.After(dependency.DefaultCooldown + time.Millisecond)
			_ = call(errDown) // passes, fails
			if err := call(nil); !errors.Is(err, dependency.ErrOpen) {
				t.Errorf("want it open again, have %v", err)
			}
		}
		<-time.After(dependency.DefaultCooldown + time.Millisecond)
		calls = 0
		if err := errors.Join(call(nil), call(nil)); err != nil || calls != 2 {
			t.Errorf("want it closed, have %v after %d of 2 calls", err, calls)
		}
		want := []dependency.Breaker{dependency.Open, dependency.HalfOpen, dependency.Open, dependency.HalfOpen, dependency.Open, dependency.HalfOpen, dependency.Closed}
		if !slices.Equal(seen.breakers, want) {
			t.Errorf("want the observer told of %v, have %v", want, seen.breakers)
		}
		if lines := strings.Split(strings.TrimSpace(seen.text.String()), "\n"); len(lines) != 2 ||
			!strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "dependency=db error=boom") || !strings.Contains(lines[1], "down=15.003s") {
			t.Errorf("want one line when it opens and one when it closes, have\n%s", &seen.text)
		}
		if n := len(seen.tries); n != 12 || !errors.Is(seen.tries[5], dependency.ErrOpen) || seen.tries[11] != nil {
			t.Errorf("want the observer told of 9 tries and 3 refusals, have %v", seen.tries)
		}
	})
}

func TestWhileTheBreakerIsHalfOpenOneTryPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := add(t, dependency.Policy{Failures: 1})
		_ = d.Do(t.Context(), down)
		<-time.After(dependency.DefaultCooldown + time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		probe := make(chan error)
		go func() { probe <- d.Do(ctx, hang) }()
		synctest.Wait()
		if err := d.Do(t.Context(), ok); !errors.Is(err, dependency.ErrOpen) {
			t.Errorf("want the second refused, have %v", err)
		}
		if n := d.Health().InFlight; n != 1 {
			t.Errorf("want one place held, have %d", n)
		}
		cancel() // its caller gives up: no verdict, and the next may try
		<-probe
		if err := d.Do(t.Context(), ok); err != nil {
			t.Errorf("want the next let through, have %v", err)
		}
	})
}

func TestTheBreakerOpensWhenHalfOfManyFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := add(t, dependency.Policy{})
		for i := range 30 {
			fn := ok
			if i%2 == 0 {
				fn = down
			}
			if errors.Is(d.Do(t.Context(), fn), dependency.ErrOpen) {
				if i < 19 || i > 21 {
					t.Errorf("want it open after 20 calls, have it after %d", i)
				}
				return
			}
			<-time.After(100 * time.Millisecond)
		}
		t.Error("want it open, since half of all calls fail")
	})
}

func TestTheBreakerOpensForASlowCallerOfABlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, attempt := range []time.Duration{time.Second, dependency.DefaultAttempt, time.Minute} {
			d := add(t, dependency.Policy{Attempt: attempt, Total: time.Hour})
			for range dependency.DefaultFailures {
				_ = d.Do(t.Context(), hang)
			}
			if err := d.Do(t.Context(), hang); !errors.Is(err, dependency.ErrOpen) {
				t.Errorf("timeouts of %v: want it open, have %v", attempt, err)
			}
		}
	})
}

func TestACancelledCallerIsNoFailure(t *testing.T) {
	d := add(t, dependency.Policy{Failures: 1})
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		_ = d.Do(ctx, func(context.Context) error { cancel(); return syscall.ECONNRESET })
	}
	if h := d.Health(); h.Breaker != dependency.Closed || h.Failures != 0 {
		t.Errorf("have %+v", h)
	}
}

func TestTheBulkheadBoundsCallsAtOnceAndTheWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := add(t, dependency.Policy{Concurrent: 2, Attempt: 10 * time.Second})
		var now, most atomic.Int32
		fn := func(context.Context) error {
			most.Store(max(most.Load(), now.Add(1)))
			<-time.After(3 * time.Second)
			now.Add(-1)
			return nil
		}
		errs := make(chan error, 5)
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() { errs <- d.Do(t.Context(), fn) })
		}
		<-time.After(2500 * time.Millisecond) // two hold the places, two have been refused
		if h := d.Health(); h.InFlight != 2 || h.Refused != 2 || len(errs) != 2 {
			t.Errorf("want 2 in flight and 2 refused, have %+v", h)
		}
		calls.Go(func() { errs <- d.Do(t.Context(), fn) }) // gets a place in time
		calls.Wait()
		close(errs)
		busy := 0
		for err := range errs {
			if errors.Is(err, dependency.ErrBusy) && fault.Of(err) == fault.KindDependency {
				busy++
			} else if err != nil {
				t.Error(err)
			}
		}
		if busy != 2 || most.Load() != 2 || d.Health().InFlight != 0 || d.Health().State != dependency.Up {
			t.Errorf("want 2 refused, 2 at once, none left and nobody blamed, have %d, %d, %+v", busy, most.Load(), d.Health())
		}
	})
}

func TestTheRateHoldsAndWhoWouldWaitTooLongIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := add(t, dependency.Policy{Rate: 10, Burst: 5})
		began, passed := time.Now(), 0
		for time.Since(began) < 10*time.Second {
			if d.Do(t.Context(), ok) == nil {
				passed++
			}
		}
		if passed < 100 || passed > 106 {
			t.Errorf("want 10 a second and a burst of 5, have %d in 10 s", passed)
		}
		slow := add(t, dependency.Policy{Rate: 0.1, Burst: 1})
		_ = slow.Do(t.Context(), ok)
		began = time.Now()
		if err := slow.Do(t.Context(), ok); !errors.Is(err, dependency.ErrRate) || time.Since(began) != 0 {
			t.Errorf("want a refusal at once, have %v after %v", err, time.Since(began))
		}
	})
}

func TestAPanicGivesThePlaceBack(t *testing.T) {
	d := add(t, dependency.Policy{Concurrent: 1})
	for range 3 {
		err := fault.Recover("", func() error { return d.Do(t.Context(), func(context.Context) error { panic(errBoom) }) })
		if fault.Of(err) != fault.KindPanic {
			t.Fatalf("want the panic to pass, have %v", err)
		}
	}
	if h := d.Health(); h.InFlight != 0 || h.Failures != 0 {
		t.Errorf("have %+v", h)
	}
}

// When the breaker opens between two tries the caller hears of both.
func TestARetryThatIsRefusedTellsTheFailureToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := add(t, dependency.Policy{Failures: 1}).Do(t.Context(), func(context.Context) error { return dependency.Safe(errDown) })
		if !errors.Is(err, errBoom) || !errors.Is(err, dependency.ErrOpen) || !strings.HasPrefix(err.Error(), "dependency: db: tried once: boom; then its breaker") {
			t.Errorf("have %v", err)
		}
	})
}

// A lost answer is a timeout: the dependency may have done it, so that it is tried again only where that is safe.
func TestALostAnswerIsAFailureAfterTheCall(t *testing.T) {
	for name, c := range map[string]struct {
		answer error
		calls  int
		want   error // in the tree; nil: the call succeeds at the second try
	}{
		"done, and who knows":       {nil, 1, dependency.ErrLost},
		"an answer":                 {sql.ErrNoRows, 1, dependency.ErrLost},
		"an answer, safe to repeat": {dependency.Safe(sql.ErrNoRows), 2, sql.ErrNoRows},
		"a failure of its own":      {dependency.Failure(errBoom), 1, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			lost := 0
			d, err := dependency.New(dependency.Options{Fault: func(context.Context, string) error {
				if lost++; lost == 1 {
					return fmt.Errorf("%w: ordered", dependency.ErrLost)
				}
				return nil
			}}).Add("bank", dependency.Policy{Pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			err = d.Do(t.Context(), func(context.Context) error { calls++; return c.answer })
			if !errors.Is(err, c.want) || calls != c.calls {
				t.Errorf("want %v after %d calls, have %v after %d", c.want, c.calls, err, calls)
			}
			if c.want == dependency.ErrLost && (fault.Of(err) != fault.KindDependency || !errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("want a dependency's timeout, have %v", err)
			}
			if h := d.Health(); h.Failures != 1 {
				t.Errorf("want one failure, have %+v", h)
			}
		})
	}
}

func TestAFaultTakesThePlaceOfATryAndIsTriedAgain(t *testing.T) {
	broken, ordered := errors.New("injected"), 2
	var points []string
	r := dependency.New(dependency.Options{Fault: func(_ context.Context, point string) error {
		points = append(points, point)
		if ordered--; ordered >= 0 {
			return broken
		}
		return nil
	}})
	d, err := r.Add("orders", dependency.Policy{Tries: 3, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	call := func(context.Context) error { calls++; return nil }
	if err := d.Do(t.Context(), call); err != nil || calls != 1 || len(points) != 3 || points[0] != "client.orders" {
		t.Errorf("want the third try to come through, have %v after %d calls, points %v", err, calls, points)
	}
	ordered = 3
	if err := d.Do(t.Context(), call); !errors.Is(err, broken) || fault.Of(err) != fault.KindDependency || calls != 1 {
		t.Errorf("want the injected error as the dependency's, have %v after %d calls", err, calls)
	}
	if h := d.Health(); h.Failures != 5 {
		t.Errorf("want five failures, have %+v", h)
	}
}
