package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
)

var errAsked = &fault.Error{Kind: fault.KindStopped, Err: errors.New("signal SIGTERM")}

func TestWhatGoesWrongWhileClosingChangesNoCodeButZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := virtual(Options{Log: slog.New(slog.DiscardHandler)})
		l.Flaw(errBoom)
		l.Stop(fault.Dependency("db", errBoom))
		if e := l.Run(obey); e.Code != 69 || e.Clean || e.Unclean != errBoom.Error() {
			t.Errorf("want 69 and what went wrong, have %+v", e)
		}
	})
}

func TestHooksRunLastFirstAfterTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := virtual(Options{Log: slog.New(slog.DiscardHandler)})
		var order []string
		for _, name := range []string{"queue", "zmq", "web"} {
			l.OnStop(name, time.Second, func(context.Context) error { order = append(order, name); return errBoom })
		}
		l.Stop(errAsked)
		e := l.Run(func(context.Context) error { order = append(order, "body"); return nil })
		if have, want := strings.Join(order, " "), "body web zmq queue"; have != want {
			t.Errorf("want %s, have %s", want, have)
		}
		if e.Code != 70 || e.Clean || e.Unclean != "hook web: "+errBoom.Error() {
			t.Errorf("want 70 with the first hook that failed, have %+v", e)
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
		l.Stop(errAsked)
		e := l.Run(func(context.Context) error { return nil })
		if took := time.Since(began); first != 2*time.Second || took != 10*time.Second || e.Clean || e.Code != 70 {
			t.Errorf("want quick after 2 s and an unclean end after 10 s, have %v, %v, %+v", first, took, e)
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
