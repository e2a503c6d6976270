package logging_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/logging"
)

// Of 1,000 lines that differ only in their attributes the first 100 pass, and then each hundredth.
func TestASampleIsWrittenAndTheRestIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out := open(t, logging.Options{Format: "console", Sample: 100})
		begin := func(n int) {
			for i := range n {
				l.Logger().Info("request", "n", i)
			}
		}
		begin(1000)
		if have := len(out.lines()); have != 109 {
			t.Errorf("want 100 and then each hundredth of 1,000, have %d", have)
		}
		if !strings.Contains(out.String(), "n=199\n") || strings.Contains(out.String(), "n=198\n") {
			t.Error("want the 200th line and not the one before")
		}
		time.Sleep(time.Minute - time.Second)
		if strings.Contains(out.String(), "left out") {
			t.Error("told before the minute ended")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		lines := out.lines()
		if want, have := `TIME main [INFO] lines left out by LOG_SAMPLE line=request count=891`, hide(lines[len(lines)-1]); have != want {
			t.Errorf("want %s\nhave %s", want, have)
		}
		begin(101)
		if have := len(out.lines()); have != len(lines)+100 {
			t.Errorf("want a new minute to begin with 100 lines, have %d", have-len(lines))
		}
		if want, have := uint64(891+1), l.Stats().Sampled; have != want {
			t.Errorf("want %d counted, have %d", want, have)
		}
		l.ReportLeftOut()
		if have := out.String(); !strings.HasSuffix(have, "LOG_SAMPLE line=request count=1\n") {
			t.Error("want the rest told at the end")
		}
	})
}

func TestNoSampleIsTakenOf(t *testing.T) {
	for what, c := range map[string]struct {
		sample int
		record func(*slog.Logger, int)
	}{
		"warnings":              {2, func(l *slog.Logger, i int) { l.Warn("m", "n", i) }},
		"levels above":          {2, func(l *slog.Logger, i int) { l.Log(t.Context(), slog.LevelWarn+1, "m", "n", i) }},
		"errors":                {2, func(l *slog.Logger, i int) { l.Error("m", "n", i) }},
		"different messages":    {2, func(l *slog.Logger, i int) { l.Info(fmt.Sprint("m", i)) }},
		"different levels":      {2, func(l *slog.Logger, i int) { l.Log(t.Context(), slog.Level(-i), "m") }},
		"anything if it is off": {0, func(l *slog.Logger, i int) { l.Info("m", "n", i) }},
	} {
		l, out := open(t, logging.Options{Sample: c.sample})
		l.SetLevel(-1000)
		const n = 100
		for i := range n {
			c.record(l.Logger(), i)
		}
		if have := len(out.lines()); have != n {
			t.Errorf("%s: want %d lines, have %d", what, n, have)
		}
	}
}

// Who asks for both gets both: the sample is taken first.
func TestRepeatsInASampleAreStillLeftOut(t *testing.T) {
	l, out := open(t, logging.Options{Sample: 50})
	for range 200 {
		l.Logger().Info("again")
	}
	if have := len(out.lines()); have != 10 {
		t.Errorf("want 10 lines, have %d", have)
	}
	if s := l.Stats(); s.Sampled != 200-53 || s.Suppressed != 53-10 {
		t.Errorf("want 147 left out by the sample and 43 as repeats, have %d and %d", s.Sampled, s.Suppressed)
	}
}
