package nanny

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
)

// A host that was frozen or overloaded shows in the watcher's own rounds coming late. That time is not held
// against the workers, which were frozen with it.
func TestTimeThatTheWatcherDidNotObserveIsNotHeldAgainstWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := New(ctx, Options{Log: slog.New(slog.DiscardHandler), Deadline: time.Minute})
		defer n.Wait(context.Background())
		defer cancel()
		if err := n.Go("busy", func(ctx context.Context) error { <-ctx.Done(); return nil }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		every := n.watch.interval()
		if list := n.watch.overdue(observed(time.Hour, every)); len(list) > 0 {
			t.Errorf("want nobody blamed for an hour that the host slept, have %s", list[0].name)
		}
		frozen := 0
		for ; len(n.watch.overdue(observed(time.Hour, every))) == 0; frozen++ {
			if frozen > 1000 {
				t.Fatal("want a worker that never beats to be found in the end")
			}
		}
		if want := int(time.Minute/every)/2 - 2; frozen < want {
			t.Errorf("want at least %d late rounds before a busy worker is stuck, have %d", want, frozen)
		}
	})
}

// A watcher that hangs, in a lock for example, is itself a stuck worker.
func TestAWatcherThatMakesNoRoundsEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		n := &Nanny{ctx: ctx, opts: Options{Fail: func(err error) { failed <- err }}}
		n.watch = &watcher{nanny: n}
		began := time.Now()
		go n.watch.watchOver(ctx)
		go func() { // some rounds, then none
			for range 10 {
				time.Sleep(longestRound / 2)
				n.watch.count.Add(1)
			}
		}()
		err := <-failed
		if took := time.Since(began); fault.Of(err) != fault.KindStuck || took < 9*time.Second || took > 11*time.Second {
			t.Errorf("want the nanny found stuck some 5 s after its last round at 5 s, have %v after %v", err, took)
		}
		if n.Err() == nil {
			t.Error("want it unhealthy")
		}
	})
}

// The log may be what hangs: the end must come all the same.
func TestALogThatBlocksDoesNotHoldUpTheEnd(t *testing.T) {
	for name, fn := range map[string]func(context.Context, chan struct{}){
		"a worker that fails": func(context.Context, chan struct{}) {},
		"a worker that hangs": func(_ context.Context, free chan struct{}) { <-free },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				failed, free := make(chan error, 3), make(chan struct{})
				n := New(ctx, Options{Log: slog.New(blocked{slog.DiscardHandler, free}), Deadline: time.Second, Fail: func(err error) { failed <- err }})
				began := time.Now()
				if err := n.Go("victim", func(ctx context.Context) error { fn(ctx, free); return nil }, Deadline(time.Second)); err != nil {
					t.Fatal(err)
				}
				<-failed
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("want the end within the deadline and half a second, have %v", took)
				}
				cancel()
				close(free)
				n.Wait(context.Background())
			})
		})
	}
}

// blocked is a log handler that hangs, without a lock, for which virtual time would stand still.
type blocked struct {
	slog.Handler
	free <-chan struct{}
}

func (b blocked) Enabled(context.Context, slog.Level) bool  { return true }
func (b blocked) Handle(context.Context, slog.Record) error { <-b.free; return nil }
