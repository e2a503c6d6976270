package lifecycle

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/base-app/pkg/fault"
)

// Leaving returns the context that ends when the process is asked to stop by a signal, Options.Delay before the latch
// closes; at the latest it ends with the latch. Whoever sends work here is to be told between the two: readiness says
// no, and everything goes on.
func (l *Life) Leaving() context.Context { return l.leaving }

// departure is the time between the first signal and the latch. It belongs to the goroutine that listens to the signals.
type departure struct {
	cause error
	over  <-chan time.Time // nil: there is none
}

// ask is told of TERM and INT. The first closes the latch, at once or after the delay; one during the delay ends the
// delay; one after it forces the end.
func (l *Life) ask(sig os.Signal, d *departure, second chan<- os.Signal) {
	cause := &fault.Error{Kind: fault.KindStopped, Err: fmt.Errorf("signal %s", name(sig))}
	switch delay := l.delay(); {
	case l.Closing():
		select {
		case second <- sig:
		default:
		}
	case d.over == nil && delay > 0:
		l.mu.Lock()
		l.asked = time.Now()
		l.mu.Unlock()
		l.leave()
		d.cause, d.over = cause, time.After(delay)
		go l.opts.Log.Info("asked to stop: not ready any more, and still at work", "cause", cause, "delay", delay.String()) // the log may block
	case d.over != nil:
		l.Stop(d.cause)
	default:
		l.Stop(cause)
	}
}

// delay is what Options.Delay says, but at most half of the grace: there must be time left to stop in.
func (l *Life) delay() time.Duration {
	if l.opts.Delay == nil {
		return 0
	}
	return min(l.opts.Delay(), l.opts.Grace/2)
}

// spent is how much of the grace the delay has taken: the supervisors above count from the signal.
func (l *Life) spent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		return 0
	}
	return time.Since(l.asked)
}
