package dependency

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"example.com/base-app/pkg/fault"
)

// Do calls fn under the policy: once, and again after a failure that fn has marked as Safe to repeat. It returns nil
// if fn does. Otherwise fn's error decides:
//
//   - It is a failure of the dependency if it is marked by Failure, if it is an error of the network, or if Attempt is
//     over. The breaker counts it. If there is no further try, Do returns a fault of kind dependency that wraps it.
//   - Any other error is an answer, such as sql.ErrNoRows. Do returns it as it is: the dependency did its part.
//
// The error of a refused call is of kind dependency and wraps ErrOpen, ErrBusy or ErrRate. When ctx is cancelled the
// error wraps context.Canceled, has no kind, and does not count against the dependency.
//
// Do blocks until fn returns, even when the time is over: fn must return when its context ends.
func (d *Dependency) Do(ctx context.Context, fn func(context.Context) error) error {
	call, err := d.Begin(ctx)
	if err != nil {
		return err
	}
	defer call.End()
	for {
		tryCtx, err := call.Try()
		if err != nil {
			return call.Failed(err)
		}
		switch struck := call.Fault(tryCtx); {
		case struck == nil:
			err = fn(tryCtx)
		case errors.Is(struck, ErrLost):
			err = lose(fn(tryCtx), struck)
		default:
			err = struck
		}
		safe, failed := judge(err)
		if err == nil || !failed && tryCtx.Err() == nil {
			call.Done(nil)
			return err
		}
		err = call.Done(err)
		pause, again := call.Next(0)
		if !safe || !again || call.Wait(pause) != nil {
			return call.Failed(err)
		}
	}
}

// lose returns the error in place of an answer that is dropped. A failure is no answer, and is returned as it is.
func lose(answer, struck error) error {
	switch safe, failed := judge(answer); {
	case failed:
		return answer
	case safe:
		return Safe(struck)
	}
	return struck
}

// Refuses returns the error of a call while the breaker is open, and counts that call. It returns nil while tries pass.
// It is for clients that would do work before they Begin.
func (d *Dependency) Refuses(ctx context.Context) error {
	if !d.isOpen() {
		return nil
	}
	d.calls.Add(1)
	return d.refuse(ctx, ErrOpen)
}

// Call is one call under a dependency's policy, step by step. It is for clients of protocols whose answers go on after
// the try, as web.Client's bodies do. Others use Do. One goroutine at a time calls its methods, in this order:
//
//	Begin ─► Try ─► Fault ─► [Answered] ─► Done or Drop ─► [Next ─► Wait ─► Try …] ─► End
type Call struct {
	d      *Dependency
	caller context.Context
	ctx    context.Context // ends when Total is over
	cancel context.CancelFunc
	pauses backoff.ExponentialBackOff
	tries  int
	failed error // the last failure

	// The try in flight; verdict is nil if there is none.
	verdict   func(error)
	began     time.Time
	tryCtx    context.Context
	tryCancel context.CancelCauseFunc
	timer     *time.Timer
}

// Begin starts a call, and with it the time of Policy.Total. It does not wait; its error wraps ErrOpen. Each Call must
// End.
func (d *Dependency) Begin(ctx context.Context) (*Call, error) {
	if err := d.Refuses(ctx); err != nil {
		return nil, err
	}
	d.calls.Add(1)
	c := &Call{d: d, caller: ctx}
	c.ctx, c.cancel = context.WithTimeoutCause(ctx, d.policy.Total, d.over)
	return c, nil
}

// Fault returns the injected error for a try that was let through, mostly nil. If there is one, the caller must not call
// the dependency, and may repeat the try. But if the error wraps ErrLost, the caller calls the dependency and puts the
// error in the answer's place.
func (c *Call) Fault(ctx context.Context) error {
	if c.d.fault == nil {
		return nil
	}
	err := Failure(c.d.fault(ctx, PointOf(c.d.name)))
	if errors.Is(err, ErrLost) {
		return err
	}
	return Safe(err)
}

// PointOf returns the name of a dependency's fault point.
func PointOf(name string) string { return "client." + name }

// Name returns the dependency's name.
func (c *Call) Name() string { return c.d.name }

// Try waits until a try is let through and returns its context. The context ends when Attempt is over, unless Answered
// was called before, when the call's time is over, and with the caller's context. An error says why the try is refused;
// pass it to Failed.
func (c *Call) Try() (context.Context, error) {
	verdict, err := c.d.enter(c.ctx)
	if err != nil {
		return nil, err
	}
	c.d.tries.Add(1)
	c.tries++
	c.verdict, c.began = verdict, time.Now()
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.tryCtx, c.tryCancel = ctx, cancel
	c.timer = time.AfterFunc(c.d.policy.Attempt, func() { cancel(c.d.late) })
	return ctx, nil
}

// Answered is called when the answer begins: from then on only Total bounds the try.
func (c *Call) Answered() { c.timer.Stop() }

// Done ends the try and frees its place. Failure is the dependency's failure, nil if it did its part. Done returns it,
// with the reason if the try's context has ended.
func (c *Call) Done(failure error) error {
	if failure != nil {
		failure = c.explain(failure)
	}
	if failure != nil && c.caller.Err() == context.Canceled {
		c.end(errNoVerdict, context.Canceled)
		return failure
	}
	c.d.finished(failure)
	if failure != nil {
		c.failed = failure
		c.d.failures.Add(1)
		c.end(errFailure, failure)
		return failure
	}
	c.end(nil, nil)
	return nil
}

// Drop ends the try, if one is in flight. It counts neither as a success nor as a failure.
func (c *Call) Drop() {
	if c.verdict != nil {
		c.end(errNoVerdict, context.Canceled)
	}
}

func (c *Call) end(verdict, observed error) {
	c.timer.Stop()
	c.tryCancel(nil)
	<-c.d.places
	c.verdict(verdict)
	c.verdict = nil
	if c.d.observer != nil {
		c.d.observer.Try(c.caller, c.d.name, time.Since(c.began), observed)
	}
	c.d.logChanges()
}

// explain returns err, or the cause of the end of the try's context if err only says that the context has ended.
func (c *Call) explain(err error) error {
	cause := context.Cause(c.tryCtx)
	if _, ours := errors.AsType[*timeout](cause); !ours || errors.Is(err, cause) {
		return err
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// Next returns whether there may be another try, and the pause before it. The pause is at least after (a Retry-After, or
// 0) and a random time more, so that callers with the same Retry-After don't come back together. There is no other try
// if Tries are used up, or if the call's or the caller's time would be over by then.
func (c *Call) Next(after time.Duration) (pause time.Duration, ok bool) {
	if c.tries >= c.d.policy.Tries || c.ctx.Err() != nil {
		return 0, false
	}
	pause = after + c.nextPause()
	until, _ := c.ctx.Deadline()
	return pause, time.Until(until) > pause
}

// Wait waits for the pause. An error is the reason why it ended early.
func (c *Call) Wait(pause time.Duration) error { return sleep(c.ctx, pause) }

// nextPause returns a random time from 0 to a bound that grows with each try ("full jitter": M. Brooker, "Exponential
// Backoff And Jitter", AWS Architecture Blog, 2015). The library's interval is the middle of that range.
func (c *Call) nextPause() time.Duration {
	if c.pauses.InitialInterval == 0 {
		p := c.d.policy
		c.pauses = backoff.ExponentialBackOff{InitialInterval: p.Pause / 2, RandomizationFactor: 1, Multiplier: 2, MaxInterval: p.MaxPause / 2}
		c.pauses.Reset()
	}
	return c.pauses.NextBackOff()
}

// Failed returns the call's error when err, from Try or Done, is the last: a fault of kind dependency that says how many
// tries there were, or the end of the caller's own context.
func (c *Call) Failed(err error) error {
	if c.caller.Err() == context.Canceled {
		return fmt.Errorf("call %s: %w", c.d.name, context.Canceled)
	}
	if c.tryCtx != nil {
		err = c.explain(err)
	}
	refusal, ours := errors.AsType[*fault.Error](err)
	ours = ours && (errors.Is(err, ErrOpen) || errors.Is(err, ErrBusy) || errors.Is(err, ErrRate)) && refusal.Subject == c.d.name
	switch {
	case ours && c.failed == nil:
		return err
	case ours:
		return fault.Dependency(c.d.name, fmt.Errorf("tried %s: %w; then %w", times(c.tries), c.failed, refusal.Err))
	case c.tries > 1:
		return fault.Dependency(c.d.name, fmt.Errorf("tried %s: %w", times(c.tries), err))
	}
	return fault.Dependency(c.d.name, err)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// End ends the call. A try that is still in flight is dropped.
func (c *Call) End() {
	c.Drop()
	c.cancel()
}

// timeout is the error when one of the policy's times is over. It has the methods of Go's own timeouts.
type timeout struct{ text string }

func (t *timeout) Error() string   { return t.text }
func (t *timeout) Timeout() bool   { return true }
func (t *timeout) Temporary() bool { return true }
func (t *timeout) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}
