package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

var errNoTime = errors.New("the time to end was over")

// failure is an error of Deliver that says what is to follow.
type failure struct {
	err   error
	final bool
	after time.Duration
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Final returns err as one that another try can't help: the receiver refuses the batch.
func Final(err error) error { return &failure{err: err, final: true} }

// RetryAfter returns err as that of a receiver that wants no other try before d has passed.
func RetryAfter(err error, d time.Duration) error { return &failure{err: err, after: d} }

// IsFinal returns whether err is, or wraps, one of Final.
func IsFinal(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.final
}

// runner is the goroutine of an Outbox.
type runner[T any] struct {
	*Outbox[T]
	batch   []T       // in Deliver's hands
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
		closing := r.closing() // before the try: one that began in time is followed by a last one
		if closing && r.left() == 0 {
			return
		}
		err := r.step(closing)
		if err == nil {
			continue
		}
		r.fail(err)
		if r.o.Connect != nil {
			_ = r.unlink()
			if r.late {
				r.giveUpAll()
				return
			}
		} else if closing {
			r.record(Lost)
		}
		r.sleep(err)
	}
}

func (b *Outbox[T]) closing() bool {
	select {
	case <-b.last:
		return true
	default:
		return false
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
	select {
	case <-r.link.Gone:
		return r.unlink()
	default:
	}
	if len(r.batch) == 0 {
		r.batch = r.pop()
	}
	if len(r.batch) == 0 {
		return r.wait()
	}
	return r.deliver()
}

// connect makes the link.
func (r *runner[T]) connect() error {
	if r.life.Err() != nil {
		return errNoTime
	}
	err := r.guard(func() (err error) {
		r.link, err = r.o.Connect(r.life)
		return err
	})
	if err == nil && r.link.Proven {
		r.succeed()
	}
	return err
}

// unlink ends the link, and returns why it was gone.
func (r *runner[T]) unlink() error {
	if r.link.Close == nil {
		return nil
	}
	end := r.link.Close
	r.link = Link{}
	return r.guard(end)
}

// deliver makes one try.
func (r *runner[T]) deliver() error {
	ctx, cancel := r.life, context.CancelFunc(func() {})
	if r.o.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.o.Timeout)
	}
	defer cancel()
	if ctx.Err() != nil {
		return errNoTime
	}
	err := r.guard(func() error { return r.o.Deliver(ctx, r.batch) })
	switch {
	case err == nil:
		r.record(Delivered)
		r.succeed()
	case IsFinal(err): // the receiver is there, and has spoken: no pause
		r.fail(err)
		r.record(Refused)
		return nil
	}
	return err
}

// guard makes an error of a panic. The same batch would panic again: it is final.
func (r *runner[T]) guard(do func() error) (err error) {
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
	r.hand = 0
	switch n := uint64(len(batch)); o {
	case Delivered:
		r.stats.Delivered += n
	case Refused:
		r.stats.Refused += n
	case Lost:
		r.stats.Dropped += n
		r.lost += len(batch)
	}
	r.mu.Unlock()
	if r.o.Outcome == nil {
		return
	}
	for _, item := range batch {
		r.o.Outcome(item, o)
	}
}

// giveUpAll gives up whatever is left.
func (r *runner[T]) giveUpAll() {
	for ; r.left() > 0; r.batch = r.pop() {
		r.record(Lost)
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

// works records that a success counted.
func (r *runner[T]) works() {
	r.failing, r.holds = false, time.Time{}
	r.pause.Reset()
	r.o.Warnings.Recovered(r.life)
}

// wait returns when there may be something to do. Its error says why the link is gone.
func (r *runner[T]) wait() error {
	var holds <-chan time.Time
	if !r.holds.IsZero() {
		timer := time.NewTimer(time.Until(r.holds))
		defer timer.Stop()
		holds = timer.C
	}
	select {
	case <-r.wake:
	case <-holds:
	case <-r.last:
	case <-r.link.Gone:
		return r.unlink()
	}
	return nil
}

// sleep is the pause after a failure. It ends early when the Outbox is closed.
func (r *runner[T]) sleep(err error) {
	d := r.pause.NextBackOff()
	if f, ok := errors.AsType[*failure](err); ok {
		d = max(d, min(f.after, r.o.LongestAsked))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.last:
	}
}
