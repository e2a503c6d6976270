package lifecycle

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// leaver runs a Life with a delay and a grace in virtual time. The log tells when what happened.
func leaver(delay, grace time.Duration, body func(context.Context) error) (*Life, *Signals, <-chan Exit, *journal) {
	log := &journal{}
	s := &Signals{c: make(chan os.Signal, signalQueue)}
	l := virtual(Options{Log: log.logger(), Grace: grace, Signals: s, Delay: func() time.Duration { return delay }})
	ended := make(chan Exit, 1)
	go func() { ended <- l.Run(body) }()
	synctest.Wait()
	return l, s, ended, log
}

func TestBetweenTheSignalAndTheLatchEverythingGoesOn(t *testing.T) {
	const delay = 2 * time.Second
	for _, c := range []struct {
		name  string
		after func(*Life, *Signals) // a second after the signal
		takes time.Duration
		cause string
		code  int
	}{
		{"undisturbed", func(*Life, *Signals) {}, delay, "signal SIGTERM", 0},
		{"another signal cuts it", func(_ *Life, s *Signals) { s.c <- syscall.SIGINT }, time.Second, "signal SIGTERM", 0},
		{"a failure cuts it", func(l *Life, _ *Signals) { l.Stop(errBoom) }, time.Second, "boom", 1},
		{"a dump doesn't", func(_ *Life, s *Signals) { s.c <- syscall.SIGUSR1 }, delay, "signal SIGTERM", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, s, ended, log := leaver(delay, DefaultGrace, obey)
				began := time.Now()
				s.c <- syscall.SIGTERM
				synctest.Wait()
				if l.Leaving().Err() == nil || l.Closing() {
					t.Errorf("want it leaving and not closing, have %v, %v", l.Leaving().Err(), l.Closing())
				}
				time.Sleep(time.Second)
				c.after(l, s)
				e := <-ended
				if took := time.Since(began); took != c.takes || e.Cause != c.cause || e.Code != c.code || !e.Clean {
					t.Errorf("want %v, %q, %d, have %v, %+v", c.takes, c.cause, c.code, took, e)
				}
				if !strings.Contains(log.String(), "still at work") {
					t.Errorf("it is not told: %s", log)
				}
			})
		})
	}
}

func TestAfterTheDelayTheNextSignalForcesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		_, s, ended, _ := leaver(time.Second, DefaultGrace, func(context.Context) error { <-release; return nil })
		began := time.Now()
		for range 3 { // asks, cuts the delay, forces
			s.c <- syscall.SIGTERM
			synctest.Wait()
		}
		if e := <-ended; e.Clean || e.Code != 70 || time.Since(began) > time.Second {
			t.Errorf("have %+v after %v", e, time.Since(began))
		}
		close(release)
	})
}

func TestTheDelayIsPartOfTheGrace(t *testing.T) {
	for delay, latch := range map[time.Duration]time.Duration{
		2 * time.Second:  2 * time.Second,
		20 * time.Second: 5 * time.Second, // half of the grace is for stopping
		0:                0,
	} {
		synctest.Test(t, func(t *testing.T) {
			const grace = 10 * time.Second
			release := make(chan struct{})
			l, s, ended, log := leaver(delay, grace, func(context.Context) error { <-release; return nil })
			began := time.Now()
			s.c <- syscall.SIGTERM
			<-l.Context().Done()
			if took := time.Since(began); took != latch {
				t.Errorf("%v: the latch closed after %v, want %v", delay, took, latch)
			}
			if e := <-ended; e.Clean || time.Since(began) != grace+forceAfter {
				t.Errorf("%v: have %+v after %v, want it forced after %v", delay, e, time.Since(began), grace+forceAfter)
			}
			if !strings.Contains(log.String(), "the shutdown takes longer than 10s") {
				t.Errorf("%v: no dump: %s", delay, log)
			}
			close(release)
		})
	}
}

func TestLeavingEndsWithTheLatch(t *testing.T) {
	l := New(Options{})
	l.Stop(nil)
	select {
	case <-l.Leaving().Done():
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}
