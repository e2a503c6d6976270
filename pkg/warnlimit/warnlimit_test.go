package warnlimit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/warnlimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	l := warnlimit.Limiter{
		Warn: func(_ context.Context, err error, more int) { fmt.Println("can't be reached:", err, "more:", more) },
		Over: func(_ context.Context, failures int) { fmt.Println("works again, failures:", failures) },
	}
	ctx := context.Background()
	for range 3 {
		l.Failed(ctx, errors.New("refused"))
	}
	l.Recovered(ctx)
	l.Recovered(ctx)
	// Output:
	// can't be reached: refused more: 0
	// works again, failures: 3
}

// recorder is a Limiter whose reports are kept.
func recorder(once bool) (*warnlimit.Limiter, func(*testing.T, ...string)) {
	var have []string
	l := &warnlimit.Limiter{Once: once,
		Warn: func(_ context.Context, err error, more int) { have = append(have, fmt.Sprint(err, " ", more)) },
		Over: func(_ context.Context, failures int) { have = append(have, fmt.Sprint("over ", failures)) }}
	return l, func(t *testing.T, want ...string) {
		t.Helper()
		if !slices.Equal(have, want) {
			t.Errorf("want %q, have %q", want, have)
		}
		have = nil
	}
}

func TestAFailureThatRepeatsIsReportedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, check := recorder(false)
		for range 150 {
			l.Failed(t.Context(), errors.New("no"))
			time.Sleep(time.Second)
		}
		l.Recovered(t.Context())
		check(t, "no 0", "no 59", "no 59", "over 150")
	})
}

func TestWithOnceNothingIsReportedUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, check := recorder(true)
		for range 150 {
			l.Failed(t.Context(), errors.New("no"))
			time.Sleep(time.Second)
		}
		l.Recovered(t.Context())
		check(t, "no 0", "over 150")
		l.Failed(t.Context(), errors.New("again"))
		check(t, "again 149")
	})
}

// What comes and goes is reported once a minute, too, and no end without its beginning.
func TestWhatComesAndGoesIsReportedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, check := recorder(true)
		for range 4 {
			l.Failed(t.Context(), errors.New("no"))
			l.Recovered(t.Context())
			time.Sleep(20 * time.Second)
		}
		check(t, "no 0", "over 1", "no 2", "over 1")
	})
}

func TestANilLimiterReportsNothing(t *testing.T) {
	var l *warnlimit.Limiter
	l.Failed(t.Context(), errors.New("no"))
	l.Recovered(t.Context())
}
