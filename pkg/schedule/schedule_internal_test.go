package schedule

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"example.com/base-app/pkg/fault"
)

// Clocks are set, and machines sleep. Virtual time knows neither.
func TestAClockThatJumpsLeavesOneRunAndNoLongWait(t *testing.T) {
	quick := func(context.Context, *slog.Logger) error { return nil }
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for what, c := range map[string]struct {
		looks []time.Duration // after noon
		runs  []int           // begun by each look
		next  time.Duration   // after noon, in the end
	}{
		"it goes on":                  {[]time.Duration{0, time.Minute, time.Hour, time.Hour + time.Minute}, []int{0, 0, 1, 0}, 2 * time.Hour},
		"the machine slept for a day": {[]time.Duration{0, 24*time.Hour + time.Minute, 24*time.Hour + 2*time.Minute}, []int{0, 1, 0}, 25 * time.Hour},
		"set back by a second":        {[]time.Duration{0, time.Hour, time.Hour - time.Second, time.Hour}, []int{0, 1, 0, 0}, 2 * time.Hour},
		"set back by an hour":         {[]time.Duration{0, time.Hour, time.Minute, time.Hour}, []int{0, 1, 0, 1}, 2 * time.Hour},
		"it was a year ahead":         {[]time.Duration{0, 365 * 24 * time.Hour, time.Minute}, []int{0, 1, 0}, time.Hour},
	} {
		s := New(Options{})
		if err := s.Add(Job{Name: "x", Spec: "@hourly", Do: quick}); err != nil {
			t.Fatal(err)
		}
		j := s.jobs[0]
		j.next = noon.Add(time.Hour)
		for i, at := range c.looks {
			begun, _ := s.due(noon.Add(at))
			s.enter(j, Waiting)
			if len(begun) != c.runs[i] {
				t.Errorf("%s: look %d: want %d runs, have %d", what, i, c.runs[i], len(begun))
			}
		}
		if have := j.next.Sub(noon); have != c.next {
			t.Errorf("%s: want the next %v after noon, have %v", what, c.next, have)
		}
	}
}

func FuzzSpec(f *testing.F) {
	for _, spec := range []string{"30 2 * * 1-5", "*/5 0-3/2,7 ? jan-mar sun", "@daily", "@every 1h30m", "@every 9999999h", "TZ=", "0 0 29 2 *", ", , , , ,", "1-/2 * * * *", "18446744073709551615 * * * *"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		when, err := parseSpec(spec)
		if err != nil {
			if fault.Of(err) != fault.KindConfig || fault.Hint(err) == "" {
				t.Errorf("want what to write instead, have %v", err)
			}
			return
		}
		now := time.Date(2026, 12, 31, 23, 59, 59, 999, time.UTC)
		if next := when.Next(now); !next.After(now) || next.Location() != time.UTC {
			t.Errorf("%q: want a later time in UTC, have %v", spec, next)
		}
	})
}

func TestATailIsBoundedInMemoryAndOnTheWire(t *testing.T) {
	said := &tail{}
	log := slog.New(said.handler())
	for range 2000 {
		log.Info("x", "pwd", 1) // which gets longer when it is hidden
	}
	if said.size > maxBody || len(said.lines) > maxBody/20 {
		t.Errorf("want at most %d bytes kept, have %d in %d lines", maxBody, said.size, len(said.lines))
	}
	if n := len(said.text()); n > maxBody || n < maxBody*9/10 {
		t.Errorf("want nearly %d bytes shown, have %d", maxBody, n)
	}
}
