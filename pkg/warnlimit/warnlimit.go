// Package warnlimit keeps a failure that repeats from filling the log. Whatever can't be reached may be away for days, and
// is tried every few seconds.
//
//	failures   x x x x x x x x x x x x        x
//	lines      ▲       ▲       ▲      ▲
//	           begin   more=3  more=3 over, 12 failures
//
// A Limiter decides when; its owner writes the lines. It has no goroutine and no timer: nothing is logged unless the
// failure happens again or is over.
package warnlimit

import (
	"context"
	"sync"
	"time"
)

// Every is the usual time between two lines about the same thing.
const Every = time.Minute

// Limiter reports the failures of one thing: the first at once, then at most one in a minute. Its fields are set before it
// is used. Its methods may be called from any goroutine; a nil Limiter reports nothing.
type Limiter struct {
	// Warn reports a failure. More is how many others there were since the last report.
	Warn func(ctx context.Context, err error, more int)
	// Over reports that it works again, after so many failures. It is called only if Warn was called. Nil: not reported.
	Over func(ctx context.Context, failures int)
	// Once reports no second failure before it works again.
	Once bool

	mu       sync.Mutex
	at       time.Time // of the last Warn
	more     int       // failures since then
	failures int       // since it worked
	reported bool      // that it fails
}

// Failed records a failure, and reports it if it is time.
func (l *Limiter) Failed(ctx context.Context, err error) {
	if l == nil {
		return
	}
	if more, due := l.failed(time.Now()); due {
		l.Warn(ctx, err, more)
	}
}

func (l *Limiter) failed(now time.Time) (more int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures++
	if l.Once && l.reported || !l.at.IsZero() && now.Sub(l.at) < Every {
		l.more++
		return 0, false
	}
	more = l.more
	l.at, l.more, l.reported = now, 0, true
	return more, true
}

// Recovered records that it works, and reports that if its failure was reported.
func (l *Limiter) Recovered(ctx context.Context) {
	if l == nil {
		return
	}
	if failures, due := l.recovered(); due && l.Over != nil {
		l.Over(ctx, failures)
	}
}

func (l *Limiter) recovered() (failures int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	failures, due = l.failures, l.reported
	l.failures, l.reported = 0, false
	return failures, due
}
