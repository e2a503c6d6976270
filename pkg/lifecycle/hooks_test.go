package lifecycle

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHooksRunLastFirstAfterTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := virtual(Options{Log: slog.New(slog.DiscardHandler)})
		var order []string
		for _, name := range []string{"queue", "zmq", "web"} {
			l.OnStop(name, time.Second, func(context.Context) error { order = append(order, name); return errBoom })
		}
		e := l.Run(func(context.Context) error { order = append(order, "body"); return nil })
		if have, want := strings.Join(order, " "), "body web zmq queue"; have != want {
			t.Errorf("want %s, have %s", want, have)
		}
		if e.Code != 0 {
			t.Errorf("want failed hooks to leave the code alone, have %+v", e)
		}
	})
}

func TestASlowHookDoesNotHoldUpTheOthersAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		l := virtual(Options{Log: j.logger()})
		var first time.Duration
		began := time.Now()
		l.OnStop("quick", time.Second, func(context.Context) error { first = time.Since(began); return nil })
		l.OnStop("slow", 2*time.Second, func(context.Context) error { time.Sleep(10 * time.Second); return nil })
		e := l.Run(func(context.Context) error { return nil })
		if took := time.Since(began); first != 2*time.Second || took != 10*time.Second || !e.Clean {
			t.Errorf("want quick after 2 s and a clean end after 10 s, have %v, %v, %+v", first, took, e)
		}
		if !strings.Contains(j.String(), `hook=slow budget=2s`) {
			t.Errorf("want the slow hook named, have:\n%s", j)
		}
	})
}

// The end of a hook's context isn't seen before the end of the hook, however long it takes to tell all who wait for it.
func TestAHookThatIsInTimeIsNotCalledSlow(t *testing.T) {
	j := &journal{}
	l := virtual(Options{Log: j.logger()})
	l.OnStop("quick", time.Hour, func(ctx context.Context) error {
		for range 10_000 {
			context.AfterFunc(ctx, func() {})
		}
		return nil
	})
	l.Run(func(context.Context) error { return nil })
	if strings.Contains(j.String(), "longer than its budget") {
		t.Errorf("want the hook not called slow, have:\n%s", j)
	}
}
