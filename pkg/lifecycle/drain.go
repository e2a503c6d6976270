package lifecycle

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/base-app/pkg/fault"
)

// Leaving returns the context that ends when a signal asks the process to stop, Options.Delay before the latch closes,
// or with the latch at the latest. Between the two, readiness is false, so that whoever sends work here stops, and
// everything else goes on.
func (l *Life) Leaving() context.Context { return l.leaving }

// departure is the time between the first signal and the latch. Only the goroutine that listens to the signals uses it.
type departure struct {
	cause error
	over  <-chan time.Time // nil before the first signal, and without a delay
}

// ask handles TERM and INT. The first closes the latch, at once or after the delay; a second one during the delay ends
// the delay; one after the latch has closed forces the end.
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
		go l.opts.Log.Info("asked to stop: not ready any more, and still at work", // the log may block
			"cause", cause, "delay", delay.String())
	case d.over != nil:
		l.Stop(d.cause)
	default:
		l.Stop(cause)
	}
}

// delay returns Options.Delay's answer, but at most half of the grace: stopping needs time, too.
func (l *Life) delay() time.Duration {
	if l.opts.Delay == nil {
		return 0
	}
	return min(l.opts.Delay(), l.opts.Grace/2)
}

// spent returns how much of the grace the delay has used: the supervisors above count from the signal.
func (l *Life) spent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		return 0
	}
	return time.Since(l.asked)
}
