package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/base-app/pkg/event"
)

// Handler does something with one event. Its body is one valid JSON object. What a handler returns decides what becomes of
// the event:
//
//	nil                          it is processed
//	fault.Permanent(err)         trying again can't help: it is a dead letter at once
//	any other error, or a panic  it comes again after a pause; after its last try it is a dead letter
//	fault.Dependency(name, err)  so too; it says that what the handler needs has failed, not the app: no error tracker hears of it
//
// Return soon when ctx ends: the handler's time is over, or the app shuts down. A handler that is not back a second after
// its time is over is stuck, and the process ends. Many events are handled at the same time. An event can come twice,
// after a crash for example, so let doing it twice be harmless.
type Handler func(ctx context.Context, e event.Event) error

// RelayFunc looks at an event before it goes to its handler, in the one worker that passes all of them: what takes long
// belongs into a handler. It may change e: its type (to route it), its attributes and body (to enrich it). A body that it sets
// must be one JSON object. If it returns an error, no handler sees the event, and the error means what a handler's
// does. It has the time of HANDLER_TIMEOUT.
type RelayFunc func(ctx context.Context, e *event.Event) error

// Option is how a handler wants to be called.
type Option func(*route) error

// Timeout is how long the handler may take for one event, 1ms to 1h; without it HANDLER_TIMEOUT. The handler gets workers of
// its own.
func Timeout(d time.Duration) Option {
	return func(r *route) error {
		r.timeout, r.own = d, true
		if d < time.Millisecond || d > time.Hour {
			return fmt.Errorf("Timeout(%v): want 1ms to 1h", d)
		}
		return nil
	}
}

// Parallel is how many events of its type the handler may have at the same time, 1 to 1024; without it WORKERS, together
// with the other handlers. The handler gets as many workers of its own. They hold up no other type until all events
// that are on their way (16 for each worker of the app) wait for them.
func Parallel(n int) Option {
	return func(r *route) error {
		r.parallel, r.own = n, true
		if n < 1 || n > 1024 {
			return fmt.Errorf("Parallel(%d): want 1 to 1024", n)
		}
		return nil
	}
}

// Tries is how often an event is tried before it is a dead letter, 1 to 1000; without it QUEUE_MAX_DELIVERIES.
func Tries(n int) Option {
	return func(r *route) error {
		r.tries = n
		if n < 1 || n > 1000 {
			return fmt.Errorf("Tries(%d): want 1 to 1000", n)
		}
		return nil
	}
}

// Pauses is how long an event waits before it is tried again: up to first after the first failure, up to twice as long after
// each further one, longest at most. Without it 1s and 1m: a dependency that hiccups is back by then, and no event is
// forgotten for hours.
func Pauses(first, longest time.Duration) Option {
	return func(r *route) error {
		r.pauses = pauses{first, longest}
		if first < time.Millisecond || longest < first || longest > 24*time.Hour {
			return fmt.Errorf("Pauses(%v, %v): want at least 1ms, the second not shorter, and at most 24h", first, longest)
		}
		return nil
	}
}

var errNilHandler = errors.New("the handler is nil")

// pauses are the pauses of an event that failed.
type pauses struct{ first, longest time.Duration }

var defaultPauses = pauses{time.Second, time.Minute}

// after returns how long an event waits after a delivery, with full jitter, so that events that failed together don't come
// back together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
func (p pauses) after(delivery uint32) time.Duration {
	most := p.first
	for range max(delivery, 1) - 1 {
		if most = 2 * most; most >= p.longest {
			most = p.longest
			break
		}
	}
	return rand.N(most) + time.Millisecond
}
