package logging_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/logging"
)

func TestRepeatedLinesAreCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out := open(t, logging.Options{Format: "console"})
		log := l.Logger().With("worker", "relay")
		for i := range 1000 {
			log.Warn("disk slow", "n", 1, "error", errors.New("x"), slog.Group("g", "k", 1.5))
			if i < 10 {
				log.Info("unique", "i", i)
			}
		}
		if n := strings.Count(out.String(), "disk slow"); n != 10 {
			t.Errorf("want 10 of them, have %d", n)
		}
		time.Sleep(9 * time.Second)
		if strings.Contains(out.String(), "left out") {
			t.Error("told before the window ended")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		lines := out.lines()
		want := `TIME relay [WARN] repeated lines left out line="disk slow" count=990`
		if have := hide(lines[len(lines)-1]); len(lines) != 21 || have != want {
			t.Errorf("want 21 lines and %s\nhave %d and %s", want, len(lines), have)
		}
		if have := l.Stats().Suppressed; have != 990 {
			t.Errorf("counted %d", have)
		}
		log.Warn("disk slow", "n", 1, "error", errors.New("x"), slog.Group("g", "k", 1.5))
		if n := len(out.lines()); n != 22 {
			t.Error("a new window did not begin")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(out.lines()); n != 22 {
			t.Errorf("told although nothing was left out: %q", out.String())
		}
	})
}

func TestErrorsAndDifferentLinesAreNeverLeftOut(t *testing.T) {
	at := time.Now()
	for what, record := range map[string]func(*slog.Logger, int){
		"errors":     func(l *slog.Logger, _ int) { l.Error("m") },
		"messages":   func(l *slog.Logger, i int) { l.Info(fmt.Sprint("m", i)) },
		"keys":       func(l *slog.Logger, i int) { l.Info("m", fmt.Sprint("k", i), 1) },
		"strings":    func(l *slog.Logger, i int) { l.Info("m", "k", fmt.Sprint(i)) },
		"ints":       func(l *slog.Logger, i int) { l.Info("m", "k", i) },
		"uints":      func(l *slog.Logger, i int) { l.Info("m", "k", uint64(i)) },
		"floats":     func(l *slog.Logger, i int) { l.Info("m", "k", float64(i)) },
		"durations":  func(l *slog.Logger, i int) { l.Info("m", "k", time.Duration(i)) },
		"times":      func(l *slog.Logger, i int) { l.Info("m", "k", at.Add(time.Duration(i))) },
		"structs":    func(l *slog.Logger, i int) { l.Info("m", "k", struct{ n int }{i}) },
		"groups":     func(l *slog.Logger, i int) { l.WithGroup("g").Info("m", "k", i) },
		"attributes": func(l *slog.Logger, i int) { l.With("k", i).Info("m") },
		"workers":    func(l *slog.Logger, i int) { l.Info("m", "worker", fmt.Sprint(i)) },
		"levels":     func(l *slog.Logger, i int) { l.Log(t.Context(), slog.Level(-i), "m") },
		"bools":      func(l *slog.Logger, i int) { l.Info("m", "k", i%2 == 0, "l", i%4 < 2, "m", i%8 < 4, "n", i%16 < 8) },
	} {
		l, out := open(t, logging.Options{})
		l.SetLevel(-1000)
		n := 100
		for i := range n {
			record(l.Logger(), i)
		}
		if have := len(out.lines()); have != n {
			t.Errorf("%s: want %d lines, have %d", what, n, have)
		}
	}
}

func TestCloseTellsWhatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out := open(t, logging.Options{Format: "console"})
		for range 12 {
			l.Logger().Info("m")
		}
		l.Close(t.Context())
		if have := out.String(); !strings.HasSuffix(have, "line=m count=2\n") {
			t.Errorf("have %s", have)
		}
	})
}

func TestManyDifferentLinesDontHideThatOneRepeats(t *testing.T) {
	l, out := open(t, logging.Options{})
	for i := range 20_000 {
		l.Logger().Info("unique", "i", i)
		l.Logger().Info("again")
	}
	// With 1024 slots, the odds that a unique line takes the slot between two repeats are 1 in 1024 for each.
	if n := strings.Count(out.String(), "again"); n > 50 {
		t.Errorf("%d repeats passed", n)
	}
	if n := strings.Count(out.String(), "unique"); n != 20_000 {
		t.Errorf("want all different lines, have %d", n)
	}
}

func TestNoRepeatIsLostInTheCountUnderLoad(t *testing.T) {
	l, out := open(t, logging.Options{Format: "console"})
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				l.Logger().Info("again")
			}
		})
	}
	wg.Wait()
	l.Close(t.Context())
	passed := strings.Count(out.String(), "] again\n")
	if left := int(l.Stats().Suppressed); passed+left != workers*each || passed < 10 {
		t.Errorf("%d passed and %d left out", passed, left)
	}
}
