package outbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

var errNoTime = errors.New("the time to end was over")

// failure is an error of Deliver that decides what follows.
type failure struct {
	error
	final bool
	after time.Duration
}

func (f *failure) Unwrap() error { return f.error }

// Final returns err as one that another try can't help: the receiver refuses the batch.
func Final(err error) error { return &failure{error: err, final: true} }

// RetryAfter returns err as that of a receiver that wants no other try before d has passed.
func RetryAfter(err error, d time.Duration) error { return &failure{error: err, after: d} }

// runner is the goroutine of an Outbox.
type runner[T any] struct {
	*Outbox[T]
	batch   []T       // that Deliver has
	link    Link      // without a Close: there is none
	late    bool      // the link was made after the end had begun
	failing bool      // since the last success that counted
	holds   time.Time // when the last success counts; zero: there is none
	pause   backoff.ExponentialBackOff
}

func (b *Outbox[T]) run() {
	defer close(b.done)
	defer b.cancel()
	r := runner[T]{Outbox: b, pause: backoff.ExponentialBackOff{
		InitialInterval: b.o.First, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: b.o.Longest}}
	r.pause.Reset()
	defer r.unlink()
	for {
		closing := false // before the try: one that began in time is followed by a last one
		select {
		case <-b.last:
			closing = true
		default:
		}
		if closing && b.remaining() == 0 {
			return
		}
		err := r.step(closing)
		if err == nil {
			continue
		}
		r.fail(err)
		if b.o.Connect != nil {
			_ = r.unlink()
			if closing = r.late; closing { // whoever can't be reached is not tried for each item
				r.batch = append(r.batch, r.pop(math.MaxInt)...)
			}
		}
		if closing {
			r.record(Lost)
		}
		pause := r.pause.NextBackOff()
		if f, ok := errors.AsType[*failure](err); ok {
			pause = max(pause, min(f.after, askedMost))
		}
		r.wait(pause, nil)
	}
}

// step does the next thing: connects, waits or delivers.
func (r *runner[T]) step(closing bool) error {
	if !r.holds.IsZero() && !time.Now().Before(r.holds) {
		r.works()
	}
	if r.o.Connect != nil && r.link.Close == nil {
		r.late = closing
		return r.connect()
	}
	if len(r.batch) == 0 {
		r.batch = r.pop(r.o.Batch)
	}
	select {
	case <-r.link.Gone:
		return r.unlink()
	default:
	}
	if len(r.batch) > 0 {
		return r.deliver()
	}
	var holds time.Duration
	if !r.holds.IsZero() {
		holds = max(1, time.Until(r.holds))
	}
	r.wait(holds, r.wake)
	return nil
}

// pop removes up to n items from the queue.
func (r *runner[T]) pop(n int) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut(0, min(n, len(r.queue)))
}

// connect makes the link.
func (r *runner[T]) connect() error {
	err := r.try(func() (err error) {
		r.link, err = r.o.Connect(r.life)
		return err
	})
	if err == nil && r.link.Proven {
		r.succeed()
	}
	return err
}

// unlink ends the link, and returns why it was gone.
func (r *runner[T]) unlink() (why error) {
	if end := r.link.Close; end != nil {
		r.link = Link{}
		why = end()
	}
	return why
}

// deliver makes one try.
func (r *runner[T]) deliver() error {
	ctx := r.life
	if r.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.o.Timeout)
		defer cancel()
	}
	err := r.try(func() error { return r.o.Deliver(ctx, r.batch) })
	if f, ok := errors.AsType[*failure](err); ok && f.final { // the receiver is there: no pause
		r.fail(err)
		r.record(Refused)
		return nil
	}
	if err == nil {
		r.record(Delivered)
		r.succeed()
	}
	return err
}

// try calls do while there is time. A panic is a final error: the same batch would panic again.
func (r *runner[T]) try(do func() error) (err error) {
	if r.life.Err() != nil {
		return errNoTime
	}
	defer func() {
		if v := recover(); v != nil {
			err = Final(fmt.Errorf("panic: %s: %v", r.o.Name, v))
		}
	}()
	return do()
}

// record counts what became of the batch, and reports it.
func (r *runner[T]) record(o Outcome) {
	batch := r.batch
	r.batch = nil
	r.mu.Lock()
	r.counts[o] += uint64(len(batch))
	r.left -= len(batch)
	if o == Lost {
		r.lost += len(batch)
	}
	r.mu.Unlock()
	for _, item := range batch {
		if r.o.Outcome != nil {
			r.o.Outcome(item, o)
		}
	}
}

func (r *runner[T]) fail(err error) {
	r.failing, r.holds = true, time.Time{}
	r.o.Warnings.Failed(r.life, err)
}

// succeed counts a success, or waits whether it holds.
func (r *runner[T]) succeed() {
	switch {
	case !r.failing:
	case r.o.Holds == 0:
		r.works()
	case r.holds.IsZero():
		r.holds = time.Now().Add(r.o.Holds)
	}
}

// works ends the failure.
func (r *runner[T]) works() {
	r.failing, r.holds = false, time.Time{}
	r.pause.Reset()
	r.o.Warnings.Recovered(r.life)
}

// wait returns when d is over (0: there is no end), something was posted, the link is gone, or the end has begun.
func (r *runner[T]) wait(d time.Duration, posted <-chan struct{}) {
	var over <-chan time.Time
	if d > 0 {
		over = time.After(d)
	}
	select {
	case <-over:
	case <-posted:
	case <-r.link.Gone:
	case <-r.last:
	}
}
