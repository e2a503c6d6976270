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

func TestAStartWaitsForABorrowerOfTheFolder(t *testing.T) {
	for _, c := range []struct {
		name  string
		held  time.Duration // by the borrower
		least time.Duration // that the start takes
		most  time.Duration
		kind  fault.Kind // of its error; 0: none
		word  string     // in it
	}{
		{"it is given back", 3 * time.Second, 3 * time.Second, 3*time.Second + 2*retryPause, 0, ""},
		{"it is kept", time.Hour, borrowTime, borrowTime + 2*retryPause, fault.KindDependency, "(app backup) has been using the data folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				before, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				before.Close()
				lent, err := BorrowFolder(dir, "app backup")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := BorrowFolder(dir, "app backup restore"); fault.Of(err) != fault.KindConfig {
					t.Errorf("want one borrower, have %v", err)
				}
				defer time.AfterFunc(c.held, func() { lent.Close() }).Stop()
				var log journal
				began := time.Now()
				f, err := OpenFolder(t.Context(), dir, log.logger())
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("want %v to %v, have %v", c.least, c.most, took)
				}
				if n := strings.Count(log.String(), "waiting for a command to end"); n != 1 || !strings.Contains(log.String(), `command="app backup"`) {
					t.Errorf("want the wait told once, have %s", log.String())
				}
				if c.kind != 0 {
					if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.word) {
						t.Errorf("want %s, have %v", c.word, err)
					}
					lent.Close()
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if e, vanished, _ := f.Previous(); !vanished || e.Run != before.Run {
					t.Errorf("want to hear how the run before the borrower ended, have %+v, %v", e, vanished)
				}
			})
		})
	}
}

func TestAWaitForABorrowerEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	lent, err := BorrowFolder(dir, "app backup")
	if err != nil {
		t.Fatal(err)
	}
	defer lent.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	if _, err := OpenFolder(ctx, dir, slog.New(slog.DiscardHandler)); !errors.Is(err, errBoom) {
		t.Errorf("want the cause, have %v", err)
	}
}

// A borrower has the lock for a moment before it says so.
func TestWhoHasOnlyJustLockedTheFolderIsNotMistakenForTheLastRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		last, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer time.AfterFunc(retryPause/2, func() { // the lock is the same, what it says is new
			mine := last.prev
			mine.Borrower = &borrower{1, "app backup"}
			if err := last.writeHolder(mine); err != nil {
				t.Error(err)
			}
		}).Stop()
		defer time.AfterFunc(time.Second, func() { last.Close() }).Stop()
		f, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("want it waited for, have %v", err)
		}
		f.Close()
	})
}
