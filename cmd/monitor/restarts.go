package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxPause is the longest pause before a restart: when a dependency is back, the program is soon up again.
const maxPause = 10 * time.Second

// budget is how many restarts are allowed in a time: 5/60s.
type budget struct {
	n      int
	window time.Duration
}

func (b *budget) UnmarshalText(text []byte) error {
	count, window, ok := strings.Cut(string(text), "/")
	n, err := strconv.ParseUint(count, 10, 31)
	d, err2 := time.ParseDuration(window)
	if !ok || err != nil || err2 != nil || d <= 0 {
		return fmt.Errorf("%q is no budget: write restarts/time, like 5/60s", text)
	}
	*b = budget{int(n), d}
	return nil
}

func (b budget) String() string { return fmt.Sprintf("%d/%v", b.n, b.window) }

// restarts decides whether and when the program starts again. It reads no clock.
type restarts struct {
	budget
	pauses *backoff.ExponentialBackOff // nil: none
	inARow int
	recent []time.Time // within the window
}

func newRestarts(b budget, first time.Duration) *restarts {
	r := &restarts{budget: b}
	if first > 0 {
		r.pauses = backoff.NewExponentialBackOff()
		r.pauses.InitialInterval, r.pauses.MaxInterval, r.pauses.Multiplier = first, max(first, maxPause), 2
	}
	return r
}

// next returns how long to wait before the next start, and false if the budget is spent. A program that lived for a
// whole window is healthy: budget and pauses begin anew. An ordered restart costs a pause, so that a flood of orders is
// no busy loop, but nothing of the budget: a person gave the order and looks on.
func (r *restarts) next(started, now time.Time, ordered bool) (pause time.Duration, ok bool) {
	if now.Sub(started) >= r.window {
		r.recent, r.inARow = r.recent[:0], 0
		if r.pauses != nil {
			r.pauses.Reset()
		}
	}
	for len(r.recent) > 0 && now.Sub(r.recent[0]) >= r.window {
		r.recent = r.recent[1:]
	}
	if !ordered {
		if len(r.recent) >= r.n {
			return 0, false
		}
		r.recent = append(r.recent, now)
	}
	r.inARow++
	if r.inARow == 1 || r.pauses == nil {
		return 0, true
	}
	return r.pauses.NextBackOff(), true
}
