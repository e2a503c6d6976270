package dependency

import (
	"errors"
	"math"
	"time"
)

// The defaults of Policy.
const (
	// A healthy dependency answers in milliseconds; one that collects garbage, fails over or starts cold in one or two
	// seconds. Who takes longer will not answer.
	DefaultAttempt = 5 * time.Second
	// Three tries of the longest kind, nearly; and half of the 30 s that a handler has, so that the handler hears of the
	// dependency's error and not of its own timeout.
	DefaultTotal = 15 * time.Second
	// The second try cures a lost connection, the third a restart of one replica behind a balancer. More tries only
	// multiply the load of someone who has too much.
	DefaultTries = 3
	// A round trip and a new connection, over a continent: shorter, and the second try meets what met the first.
	DefaultPause = 200 * time.Millisecond
	// A caller who waits longer than this for one pause is better told that the call failed.
	DefaultMaxPause = 3 * time.Second
	// At 50 ms a call that is 640 calls a second. The rest of the app goes on when all of them hang.
	DefaultConcurrent = 32
	// A place that is not free after a second, of calls that take milliseconds, is held by something that hangs.
	DefaultWait = time.Second
	// One or two failures are an accident, five in a row, by as many callers, are an outage.
	DefaultFailures = 5
	// As long as a replica needs to be replaced, and short enough that nobody notices how late we come back.
	DefaultCooldown = 5 * time.Second
)

// What opens a breaker although some calls get through: half of the calls of the last minute failed, and there were
// enough of them (20) to be no accident.
const (
	halfBroken   = 0.5
	enoughCalls  = 20
	shortWindow  = time.Minute
	windowSlices = 10 // in which the window moves on: an old failure is forgotten up to a tenth late
)

// Policy is what every call to one dependency obeys. A zero field means its default; negative ones are an error.
type Policy struct {
	Attempt  time.Duration // for one try; over HTTP until the answer begins. Too small fails what only was slow, and repeats it
	Total    time.Duration // for the call: tries, pauses, and over HTTP the answer's body. Too large holds callers and places
	Tries    int           // how many there are at most; 1: no second one
	Pause    time.Duration // the longest pause before the second try, doubled for each further one; the pause is anything from 0 to it
	MaxPause time.Duration // where that doubling ends

	Concurrent int           // tries at once. Too small makes callers wait for nothing, too large lets a slow dependency hold all of them
	Wait       time.Duration // how long a try waits for a place and for the rate before it is refused
	Rate       float64       // tries a second on average, as the dependency's owner allows them; 0: no limit
	Burst      int           // tries at once within the rate; default: those of one second, at least 1

	Failures int           // how many in a row open the breaker
	Cooldown time.Duration // how long it stays open before one try may see whether the dependency is back

	Required bool // the app is not ready while the dependency is down. Only if it is of no use at all without it
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

// window is the time within which failures count together: long enough that callers who come one after another, each
// waiting for its timeout, open the breaker.
func (p Policy) window() time.Duration {
	return max(shortWindow, 2*time.Duration(p.Failures)*p.Attempt)
}
