package nanny_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
)

// A sound worker that waits in its own way is tried once, and then left alone.
func TestAWorkerThatReportsNothingIsTriedOnceAndUnwatched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		runs := 0
		w.start(t, "quiet", func(ctx context.Context) error { runs++; <-ctx.Done(); return nil })
		time.Sleep(time.Minute + 10*time.Second)
		synctest.Wait()
		if s := w.state("quiet"); runs != 2 || s.State != nanny.StateUnwatched || s.Restarts != 1 {
			t.Errorf("want it started again, once, and unwatched, have %d runs and %+v", runs, s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.state("quiet"); runs != 2 || s.State != nanny.StateUnwatched || w.Err() != nil || len(w.failed) > 0 {
			t.Errorf("want it left alone, have %d runs, %+v, %v", runs, s, w.Err())
		}
	})
}

func TestAWorkerThatHangsFromItsStartIsStuck(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		free := make(chan struct{})
		defer close(free)
		began := time.Now()
		w.start(t, "deaf", func(context.Context) error { <-free; return nil })
		err := <-w.failed
		if took := time.Since(began); fault.Of(err) != fault.KindStuck || took < time.Minute+time.Second || took > time.Minute+4*time.Second {
			t.Errorf("want it stuck a second after its deadline, have %v after %v", err, took)
		}
		if hint := fault.Hint(err); !strings.Contains(hint, "nanny.Sleep") || !strings.Contains(hint, "nanny.Park") {
			t.Errorf("want Sleep and Park named, have %q", hint)
		}
	})
}

func TestWhoHasReportedProgressIsJudged(t *testing.T) {
	for name, fn := range map[string]nanny.Func{
		"at once":                func(ctx context.Context) error { nanny.Beat(ctx); <-ctx.Done(); return nil },
		"after it was unwatched": nil,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *ward) {
				run := 0
				if fn == nil {
					fn = func(ctx context.Context) error {
						if run++; run == 2 {
							time.Sleep(10 * time.Minute)
							nanny.Beat(ctx)
						}
						<-ctx.Done()
						return nil
					}
				}
				w.start(t, "victim", fn)
				if err := <-w.failed; fault.Of(err) != fault.KindStuck {
					t.Errorf("want it stuck, have %v", err)
				}
			})
		})
	}
}

func TestWhatGoesWrongWhenItIsTriedIsAFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		w.start(t, "victim", func(ctx context.Context) error { <-ctx.Done(); return errors.New("the shelf is open") })
		if err := <-w.failed; !strings.Contains(err.Error(), "the shelf is open") {
			t.Errorf("want its error, have %v", err)
		}
	})
}

func TestSleepAndParkAreNoHang(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		waits := make(chan string, 1)
		w.start(t, "sleeper", func(ctx context.Context) error {
			nanny.Beat(ctx)
			if err := nanny.Sleep(ctx, time.Hour); err != nil {
				return err
			}
			end := nanny.Park(ctx, "the tide")
			select {
			case <-time.After(time.Hour):
				waits <- w.state("sleeper").Waits
			case <-ctx.Done():
			}
			end()
			return nanny.Sleep(ctx, time.Hour)
		})
		if have := <-waits; have != "the tide" {
			t.Errorf("want it shown what it waits for, have %q", have)
		}
		synctest.Wait()
		if s := w.state("sleeper"); s.State != nanny.StateParked || len(w.failed) > 0 {
			t.Errorf("want it parked and well, have %+v", s)
		}
		began := time.Now()
		w.end()
		w.Wait(context.Background())
		if took := time.Since(began); took > 0 {
			t.Errorf("want it gone at once, it took %v", took)
		}
	})
}

func TestEvery(t *testing.T) {
	inBubble(t, func(t *testing.T, w *ward) {
		var at []time.Duration
		began, running := time.Now(), false
		var log strings.Builder
		w.start(t, "poller", nanny.Every(time.Minute, slog.New(slog.NewTextHandler(&log, nil)), func(ctx context.Context) error {
			if running {
				t.Error("two at the same time")
			}
			running = true
			defer func() { running = false }()
			at = append(at, time.Since(began))
			switch len(at) {
			case 2:
				return errors.New("no tea")
			case 3: // longer than the interval
				nanny.Beat(ctx)
				return nanny.Sleep(ctx, 150*time.Second)
			case 5:
				panic("the kettle burst")
			}
			return nil
		}))
		err := <-w.failed
		if want := "[0s 1m0s 2m0s 4m30s 5m0s]"; fmt.Sprint(at) != want || fault.Of(err) != fault.KindPanic {
			t.Errorf("want calls at %s and then the panic, have %v, %v", want, at, err)
		}
		if n := strings.Count(log.String(), "failed, it runs again"); n != 1 || !strings.Contains(log.String(), "no tea") {
			t.Errorf("want the error logged, have %s", log.String())
		}
	})
}

// A poller with a pause: the commonest worker of all.
func ExampleEvery() {
	ctx, cancel := context.WithCancel(context.Background())
	n := nanny.New(ctx, nanny.Options{Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	looks := 0
	_ = n.Go("poller", nanny.Every(time.Millisecond, slog.Default(), func(context.Context) error {
		if looks++; looks == 3 {
			cancel()
		}
		return nil
	}))
	n.Wait(context.Background())
	fmt.Println("looked", looks, "times")
	// Output: looked 3 times
}
