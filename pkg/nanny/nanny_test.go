package nanny_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	stack.ShowLabels()
	goleak.VerifyTestMain(m)
}

// ward is a nanny in a bubble of virtual time, with what it reported and why it wanted the process to end.
type ward struct {
	*nanny.Nanny
	ctx      context.Context
	end      context.CancelFunc
	failed   chan error
	reported chan *fault.Error
}

func inBubble(t *testing.T, f func(*testing.T, *ward)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &ward{ctx: ctx, end: cancel, failed: make(chan error, 10), reported: make(chan *fault.Error, 10)}
		w.Nanny = nanny.New(ctx, nanny.Options{
			Log:      slog.New(slog.DiscardHandler),
			Deadline: time.Minute,
			Report: func(_ context.Context, e *fault.Error) {
				select {
				case w.reported <- e:
				default:
				}
			},
			Fail: func(err error) { w.failed <- err },
		})
		defer func() {
			cancel()
			if left := w.Wait(context.Background()); len(left) > 0 {
				for _, s := range left {
					if s.State != nanny.StateStuck {
						t.Errorf("still alive at the end: %+v", s)
					}
				}
			}
		}()
		f(t, w)
	})
}

func (w *ward) state(name string) nanny.Status {
	for _, s := range w.Workers() {
		if s.Name == name {
			return s
		}
	}
	return nanny.Status{}
}

func (w *ward) start(t *testing.T, name string, fn nanny.Func, opts ...nanny.Option) {
	t.Helper()
	if err := w.Go(name, fn, opts...); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func untilTold(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestTheEndOfAWorkerIsKnownAtOnce(t *testing.T) {
	boom := errors.New("boom")
	hopeless := fault.New(fault.KindPermanent, "hopeless")
	for _, c := range []struct {
		name string
		fn   nanny.Func
		kind fault.Kind
		text string
		told bool // to the error tracker
	}{
		{"returns nil", func(context.Context) error { return nil }, fault.KindEnded, "worker: victim: returned although nobody asked it to", true},
		{"returns an error", func(context.Context) error { return boom }, fault.KindUnhandled, "worker: victim: boom", true},
		{"panics", func(context.Context) error { panic(boom) }, fault.KindPanic, "panic: victim: boom", true},
		{"ends its goroutine", func(context.Context) error { runtime.Goexit(); return nil }, fault.KindUnhandled, "runtime.Goexit", true},
		{"loses a dependency", func(context.Context) error { return fault.Dependency("db", boom) }, fault.KindDependency, "dependency: db: boom", false},
		{"returns a sentinel", func(context.Context) error { return hopeless }, fault.KindPermanent, "hopeless", true},
		{"returns that it was asked to stop", func(context.Context) error { return fmt.Errorf("inner: %w", nanny.ErrClosing) }, fault.KindEnded, "worker: victim: inner", true},
		{"returns somebody's cancellation", func(context.Context) error { return context.Canceled }, fault.KindUnhandled, "context canceled", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *ward) {
				began := time.Now()
				w.start(t, "victim", c.fn)
				have := <-w.failed
				if took := time.Since(began); took > 0 {
					t.Errorf("want it known at once, it took %v", took)
				}
				if fault.Of(have) != c.kind || !strings.Contains(have.Error(), c.text) {
					t.Errorf("want kind %s and %q, have kind %s and %q", c.kind, c.text, fault.Of(have), have)
				}
				if told := len(w.reported) == 1; told != c.told {
					t.Errorf("want reported %v, have %v", c.told, told)
				}
				if e, ok := errors.AsType[*fault.Error](have); !ok || c.told && e.Claim() {
					t.Errorf("want what ends the process claimed, have %v", have)
				}
				if c.kind == fault.KindPanic && !strings.Contains(string(fault.Stack(have)), "nanny_test.go") {
					t.Errorf("want the stack of the panic, have:\n%s", fault.Stack(have))
				}
				if s := w.state("victim"); s.State != nanny.StateDead || !strings.Contains(s.Error, c.text) {
					t.Errorf("want it dead of %q, have %+v", c.text, s)
				}
				if err := w.Err(); err == nil || !strings.Contains(err.Error(), "victim is dead") {
					t.Errorf("want Err to name the dead worker, have %v", err)
				}
			})
		})
	}
}

func TestAOneShotWorkerMayEndAndItsNameIsFreeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		for range 2 {
			w.start(t, "sample", func(context.Context) error { return nil }, nanny.OneShot())
			if s := w.state("sample"); s.State != nanny.StateDone {
				t.Fatalf("want done, have %+v", s)
			}
		}
		w.start(t, "sample", func(context.Context) error { return errors.New("no") }, nanny.OneShot())
		if err := <-w.failed; !strings.Contains(err.Error(), "no") {
			t.Errorf("want a one-shot that fails to end the process, have %v", err)
		}
	})
}

func TestNamesAreUniqueAndPrintable(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		w.start(t, "reader", untilTold)
		if err := w.Go("reader", untilTold); err == nil {
			t.Error("want an error for a name given twice")
		}
		for _, name := range []string{"", "two words", "line\nbreak", `quo"te`} {
			if err := w.Go(name, untilTold); err == nil {
				t.Errorf("want an error for the name %q", name)
			}
		}
	})
}

func TestAWorkerIsRestartedWithinItsBudget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		runs := 0
		w.start(t, "flaky", func(context.Context) error { runs++; return fmt.Errorf("failure %d", runs) }, nanny.Restart(3, time.Minute))
		err := <-w.failed
		if runs != 4 {
			t.Errorf("want the first run and 3 restarts, have %d runs", runs)
		}
		if want := "worker flaky: 3 restarts within 1m0s did not help: worker: flaky: failure 4"; err.Error() != want {
			t.Errorf("want %q, have %q", want, err)
		}
		if s := w.state("flaky"); s.Restarts != 3 {
			t.Errorf("want 3 restarts counted, have %+v", s)
		}
	})
}

func TestFailuresThatAreFarApartNeverSpendTheBudget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		w.start(t, "rare", func(ctx context.Context) error {
			untilDone(ctx, 25*time.Second)
			return errors.New("again")
		}, nanny.Restart(3, time.Minute))
		time.Sleep(time.Hour)
		if s := w.state("rare"); s.Restarts < 100 || len(w.failed) > 0 {
			t.Errorf("want more than 100 restarts and no end, have %+v, %d ends", s, len(w.failed))
		}
	})
}

func TestTheStateTellsHowManyDeathsAWorkerWouldOutlive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		die := make(chan error)
		mortal := func(ctx context.Context) error {
			select {
			case err := <-die:
				return err
			case <-ctx.Done():
				return nil
			}
		}
		w.start(t, "mortal", mortal, nanny.Restart(3, 10*time.Minute), nanny.Deadline(time.Hour))
		w.start(t, "single", func(ctx context.Context) error { <-ctx.Done(); return nil }, nanny.Deadline(time.Hour))
		if s := w.state("single"); s.Spare != 0 || s.Deadline != time.Hour {
			t.Errorf("want no restart and its deadline of an hour, have %+v", s)
		}
		for want := 2; want >= 1; want-- {
			die <- errors.New("dead")
			time.Sleep(time.Second)
			if s := w.state("mortal"); s.Spare != want {
				t.Errorf("want %d left after a death, have %+v", want, s)
			}
		}
		time.Sleep(10 * time.Minute)
		if s := w.state("mortal"); s.Spare != 3 {
			t.Errorf("want all 3 again once the window has passed, have %+v", s)
		}
	})
}

func untilDone(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

func TestAStuckWorkerIsNamedWithItsOwnStack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		free := make(chan struct{})
		defer close(free)
		began := time.Now()
		w.start(t, "hanger", func(ctx context.Context) error {
			for range 10 { // progress first
				untilDone(ctx, time.Second)
				nanny.Beat(ctx)
			}
			hangHere(free)
			return nil
		}, nanny.Deadline(5*time.Second))
		err := <-w.failed
		if took := time.Since(began); took < 15*time.Second || took > 15*time.Second+5*time.Second/8*2 {
			t.Errorf("want it known 5 s after the last beat at 10 s and at most two rounds later, it took %v", took)
		}
		if fault.Of(err) != fault.KindStuck || !strings.Contains(err.Error(), "hanger") {
			t.Errorf("want hanger stuck, have %v", err)
		}
		if s := string(fault.Stack(err)); !strings.Contains(s, "nanny_test.hangHere") {
			t.Errorf("want the worker's own stack, have:\n%s", s)
		}
		w.end()
		left := w.Wait(context.Background())
		if len(left) != 1 || left[0].Name != "hanger" || left[0].State != nanny.StateStuck {
			t.Errorf("want Wait not to wait for the stuck worker and to name it, have %+v", left)
		}
	})
}

func hangHere(c <-chan struct{}) { <-c }

// The watcher's round of a moment ago was made for longer deadlines.
func TestAShortDeadlineIsKeptFromTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		synctest.Wait()
		free, began := make(chan struct{}), time.Now()
		defer close(free)
		w.start(t, "hanger", func(context.Context) error { hangHere(free); return nil }, nanny.Deadline(80*time.Millisecond))
		<-w.failed
		if took := time.Since(began); took < 80*time.Millisecond || took > 100*time.Millisecond {
			t.Errorf("want it known after 80 to 100 ms, have %v", took)
		}
	})
}

func TestAWorkerThatWaitsForWorkIsNeverStuck(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		place := "recv inproc://x"
		w.start(t, "idle", func(ctx context.Context) error {
			self := worker.FromContext(ctx)
			self.Park(&place)
			defer self.Unpark()
			return untilTold(ctx)
		}, nanny.Deadline(time.Second))
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.state("idle"); s.State != nanny.StateParked || s.Waits != place || len(w.failed) > 0 {
			t.Errorf("want it parked in %q, have %+v", place, s)
		}
		if err := w.Err(); err != nil {
			t.Errorf("want a healthy nanny, have %v", err)
		}
	})
}

func TestNobodyIsJudgedWhileShuttingDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		w.start(t, "slow", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Hour)
			return errors.New("late")
		}, nanny.Deadline(time.Second))
		w.end()
		brief, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		left := w.Wait(brief)
		if len(left) != 1 || left[0].Name != "slow" {
			t.Errorf("want slow still alive after a minute, have %+v", left)
		}
		if err := w.Go("new", untilTold); !errors.Is(err, nanny.ErrClosing) {
			t.Errorf("want ErrClosing, have %v", err)
		}
		w.Wait(context.Background())
		if s := w.state("slow"); s.State != nanny.StateStopped || len(w.failed)+len(w.reported) > 0 {
			t.Errorf("want it stopped and nothing reported, have %+v", s)
		}
	})
}

func TestTheNannyWatchesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := w.state("nanny"); s.State != nanny.StateParked || s.Beats < 50 {
			t.Errorf("want the watcher among the workers, with a beat a round, have %+v", s)
		}
	})
}

func Example() {
	ctx, cancel := context.WithCancelCause(context.Background())
	n := nanny.New(ctx, nanny.Options{Log: slog.New(slog.DiscardHandler), Fail: cancel})
	_ = n.Go("reader", func(ctx context.Context) error { <-ctx.Done(); return nil })
	_ = n.Go("processor", func(context.Context) error { return errors.New("out of ideas") })
	<-ctx.Done()
	n.Wait(context.Background())
	fmt.Println(context.Cause(ctx))
	for _, s := range n.Workers() {
		fmt.Println(s.Name, s.State)
	}
	// Output:
	// worker: processor: out of ideas
	// nanny stopped
	// processor dead
	// reader stopped
}
