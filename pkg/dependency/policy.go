package dependency

import (
	"errors"
	"math"
	"time"
)

// The defaults of Policy.
const (
	// A healthy dependency answers in milliseconds; one that collects garbage, fails over or starts cold, in one or two
	// seconds. One that takes longer will not answer.
	DefaultAttempt = 5 * time.Second
	// Nearly three tries of the longest kind. It is half of the 30 s that a handler has, so that the handler gets the
	// dependency's error and not its own timeout.
	DefaultTotal = 15 * time.Second
	// The second try cures a lost connection, the third a restart of one replica behind a balancer. More tries only
	// multiply the load of a dependency that has too much already.
	DefaultTries = 3
	// A round trip and a new connection, over a continent. If it is shorter, the second try meets the same trouble.
	DefaultPause = 200 * time.Millisecond
	// For a caller who would wait longer than this for one pause, an error is better.
	DefaultMaxPause = 3 * time.Second
	// At 50 ms a call that is 640 calls a second. When all of them hang, the rest of the app still goes on.
	DefaultConcurrent = 32
	// Calls take milliseconds: if no place is free after a second, the calls that hold them hang.
	DefaultWait = time.Second
	// One or two failures are an accident, five in a row, by as many callers, are an outage.
	DefaultFailures = 5
	// A replica is replaced within this time, and it is short enough that the app is soon back after the dependency.
	DefaultCooldown = 5 * time.Second
)

// These open a breaker although some calls succeed: half of the calls of the last minute failed, and there were at least
// 20, too many for an accident.
const (
	halfBroken   = 0.5
	enoughCalls  = 20
	shortWindow  = time.Minute
	windowSlices = 10 // the steps in which the window moves: an old failure is forgotten up to a tenth late
)

// Policy is what every call to one dependency obeys. A zero field means its default; negative ones are an error.
type Policy struct {
	Attempt  time.Duration // for one try; over HTTP until the answer begins. Too small fails and repeats calls that are only slow
	Total    time.Duration // for the call: tries, pauses, and over HTTP the answer's body. Too large holds callers and places
	Tries    int           // at most; 1: no second one
	Pause    time.Duration // the longest pause before the second try, doubled for each further one; the pause is random, from 0 to it
	MaxPause time.Duration // the end of that doubling

	Concurrent int           // tries at once. Too small makes callers wait needlessly; too large lets a slow dependency hold all of them
	Wait       time.Duration // how long a try waits for a place and for the rate before it is refused
	Rate       float64       // tries a second on average, as the dependency's owner allows them; 0: no limit
	Burst      int           // tries at once within the rate; default: those of one second, at least 1

	Failures int           // how many in a row open the breaker
	Cooldown time.Duration // how long the breaker stays open, before one try finds out whether the dependency is back

	Required bool // the app is not ready while the dependency is down; only for an app that is of no use without it
}

func (p Policy) filled() (Policy, error) {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&p.Attempt, DefaultAttempt}, {&p.Total, DefaultTotal}, {&p.Pause, DefaultPause}, {&p.MaxPause, DefaultMaxPause},
		{&p.Wait, DefaultWait}, {&p.Cooldown, DefaultCooldown}} {
		if err := fill(d.value, d.standard); err != nil {
			return p, err
		}
	}
	if !(p.Rate >= 0 && p.Rate <= math.MaxInt32) {
		return p, errors.New("the policy's rate is not a number from 0 to two billions")
	}
	for _, n := range []struct {
		value    *int
		standard int
	}{{&p.Tries, DefaultTries}, {&p.Concurrent, DefaultConcurrent}, {&p.Failures, DefaultFailures}, {&p.Burst, max(1, int(p.Rate))}} {
		if err := fill(n.value, n.standard); err != nil {
			return p, err
		}
	}
	p.Attempt = min(p.Attempt, p.Total)
	p.MaxPause = max(p.MaxPause, p.Pause)
	return p, nil
}

func fill[T time.Duration | int](value *T, standard T) error {
	if *value < 0 {
		return errors.New("the policy has a negative value")
	}
	if *value == 0 {
		*value = standard
	}
	return nil
}

// window is the time within which failures count together. It is so long that calls one after another, each of which
// waits for its timeout, open the breaker.
func (p Policy) window() time.Duration {
	return max(shortWindow, 2*time.Duration(p.Failures)*p.Attempt)
}
