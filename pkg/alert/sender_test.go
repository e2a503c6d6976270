package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/outbox"
)

// The outbox's pauses.
const firstPause, longestPause = time.Second, time.Minute

// chat is a service in virtual time: what it took, and how it answers.
type chat struct {
	*sender
	log *testlog.Log

	mu     sync.Mutex
	texts  []string
	answer func() error
}

// be changes how it answers, when everybody waits.
func (d *chat) be(answer func() error) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func newChat(size, burst int) *chat {
	d := &chat{log: &testlog.Log{}, answer: func() error { return nil }}
	d.sender = newSender("chat", size, burst, time.Minute, func(s string) string { return s })
	d.sender.log = d.log.Logger(slog.LevelInfo)
	return d
}

func (d *chat) post(key string, s State, text string) {
	d.offer(item{key: key, state: s, send: func(_ context.Context, left uint64) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if err := d.answer(); err != nil {
			return err
		}
		d.texts = append(d.texts, fmt.Sprint(text, " ", left))
		return nil
	}})
}

func (d *chat) check(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.texts, want) {
		t.Errorf("want %q, have %q", want, d.texts)
	}
	d.texts = nil
}

// Of a storm the first pass, and at the end of the window the last one with the number of those between.
func TestTheLastOfAStormIsToldWhenItsWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(10, 2)
		d.open()
		for i := range 10 {
			d.post("a", Note, fmt.Sprint(i))
		}
		d.post("b", Note, "another")
		d.check(t, "0 0", "1 0", "another 0")
		time.Sleep(time.Minute - time.Nanosecond)
		d.check(t)
		time.Sleep(time.Nanosecond)
		d.check(t, "9 7")
		d.post("a", Note, "x")
		d.post("a", Note, "y")
		d.check(t, "x 0") // the one before counts
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.check(t, "y 0")
		if d.stat().Sent != 6 || d.stat().Suppressed != 7 || d.stat().Dropped != 0 {
			t.Errorf("want 6 sent and 7 left out, have %d, %d, %d", d.stat().Sent, d.stat().Suppressed, d.stat().Dropped)
		}
	})
}

// What flaps is told by its last state, and not at all if that was told before.
func TestWhatFlapsIsToldByItsLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(10, 2)
		d.open()
		for range 3 {
			d.post("a", Open, "down")
			d.post("a", Over, "up")
		}
		d.post("a", Open, "down at last")
		d.check(t, "down 0", "up 0")
		time.Sleep(time.Minute)
		d.check(t, "down at last 4")
		d.post("a", Open, "still down")
		d.check(t) // no news
		time.Sleep(time.Minute)
		d.post("a", Over, "up again")
		d.post("a", Open, "down again")
		d.post("a", Over, "and up")
		d.post("a", Open, "and down")
		d.check(t, "up again 1", "down again 0")
		time.Sleep(time.Minute)
		d.check(t) // it is down, as was told
		_ = d.Close(t.Context())
	})
}

// A service that is away is asked again after growing pauses, or when it wants to; the oldest gives way.
func TestAServiceThatIsAwayIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(3, 1)
		tries, began := 0, time.Now()
		var at []time.Duration
		d.be(func() error { tries++; at = append(at, time.Since(began)); return errors.New("away") })
		d.open()
		for i := range 6 {
			d.post(fmt.Sprint(i), Note, fmt.Sprint(i))
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if tries < 50 || tries > 150 {
			t.Errorf("want about a try a minute, have %d", tries)
		}
		for i := range at[1:] {
			if p := at[i+1] - at[i]; p < firstPause/2 || p > longestPause*3/2 {
				t.Errorf("want pauses between the first and the longest, have %v", p)
			}
		}
		if n := strings.Count(d.log.String(), "\n"); n > 61 {
			t.Errorf("want a line a minute at most, have %d", n)
		}
		d.be(func() error { return outbox.RetryAfter(errors.New("later"), time.Hour) })
		time.Sleep(longestPause * 2)
		d.be(func() error { return nil })
		time.Sleep(askedPause - longestPause*2)
		d.check(t)
		time.Sleep(longestPause * 2)
		d.check(t, "0 0", "3 0", "4 0", "5 0")
		if d.stat().Dropped != 2 {
			t.Errorf("want the two that were too many counted, have %d", d.stat().Dropped)
		}
		_ = d.Close(t.Context())
	})
}

// What a service does not want is given up at once; what is left at the end is tried once.
func TestWhatIsRefusedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(5, 1)
		d.be(func() error { return outbox.Final(errors.New("no")) })
		d.open()
		d.post("a", Note, "a")
		d.check(t)
		if d.stat().Dropped != 1 {
			t.Errorf("want it dropped, have %d", d.stat().Dropped)
		}
		tries := 0
		d.be(func() error { tries++; return errors.New("away") })
		for _, key := range []string{"b", "c", "d"} {
			d.post(key, Note, key)
		}
		synctest.Wait()
		before := tries
		_ = d.Close(t.Context())
		if tries != before+3 || d.stat().Dropped != 4 || d.box.Stats().Waiting != 0 {
			t.Errorf("want each tried once more, have %d tries, %d dropped", tries-before, d.stat().Dropped)
		}
		d.post("e", Note, "too late")
		if d.stat().Dropped != 5 {
			t.Errorf("want what comes too late counted, have %d", d.stat().Dropped)
		}
	})
}

// Close ends with its context though the service hangs, and what is left is counted.
func TestCloseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(5, 1)
		hang := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
		d.open()
		for range 3 {
			d.offer(item{send: hang})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := d.Close(ctx); err == nil || time.Since(began) != time.Second {
			t.Errorf("want an error after a second, have %v after %v", err, time.Since(began))
		}
		<-d.box.Done()
		if d.stat().Dropped != 3 {
			t.Errorf("want all three counted, have %d", d.stat().Dropped)
		}
	})
}

func TestWhatIsNeverOpenedEndsAtOnce(t *testing.T) {
	d := newChat(5, 1)
	d.post("a", Note, "a")
	if err := d.Close(t.Context()); err != nil || d.stat().Dropped != 1 {
		t.Errorf("want it dropped and counted, have %v, %d", err, d.stat().Dropped)
	}
	d.open() // too late
	<-d.box.Done()
}

// A panic in the encoding of an alert is no end of the process.
func TestAPanicWhileSendingIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(5, 1)
		d.open()
		d.offer(item{send: func(context.Context, uint64) error { panic("out of order") }})
		_ = d.Close(t.Context())
		if d.stat().Dropped != 1 || !strings.Contains(d.log.String(), "out of order") {
			t.Errorf("want it counted and told, have %d, %s", d.stat().Dropped, d.log)
		}
	})
}

// The keys are bounded; those whose window is over give way, problems that are open don't.
func TestTheKeysAreBounded(t *testing.T) {
	l, now := newLimits(1, time.Minute), time.Now()
	admit := func(key string, s State) bool {
		pass, _ := l.admit(item{key: key, state: s}, now)
		return pass != nil
	}
	admit("problem", Open)
	for i := range 2 * maxKeys {
		if pass := admit(fmt.Sprint(i), Note); pass != (i < maxKeys-1) {
			t.Fatalf("key %d: want %d keys at most, have it pass: %v", i, maxKeys, pass)
		}
	}
	now = now.Add(time.Minute)
	if !admit("new", Note) || len(l.keys) > 2 || admit("problem", Open) {
		t.Errorf("want room for new keys and the open problem kept, have %d keys", len(l.keys))
	}
}
