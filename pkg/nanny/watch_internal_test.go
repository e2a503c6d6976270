package nanny

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
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
