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
// when fn does. Everything else is judged by what fn returned:
//
//   - a failure of the dependency (marked by Failure, an error of the network, or Attempt is over): counted by the
//     breaker, and if there is no further try returned as a fault of kind dependency, with the cause in its tree;
//   - any other error is an answer, such as sql.ErrNoRows: returned as it is, and the dependency did its part.
//
// Refused calls are faults of kind dependency with ErrOpen, ErrBusy or ErrRate in their tree. When ctx is cancelled
// the error has context.Canceled in its tree and is of no kind, and nobody is blamed.
//
// Do blocks until fn returns, also when the time is over: the context that fn gets must end what fn waits for.
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

// lose returns what takes the place of an answer that is thrown away. A failure is none, and stays.
func lose(answer, struck error) error {
	switch safe, failed := judge(answer); {
	case failed:
		return answer
	case safe:
		return Safe(struck)
	}
	return struck
}

// Refuses returns the error of a call while the breaker is open, and counts that call; nil while tries pass. It is
// for clients that would have work to do before they could Begin.
func (d *Dependency) Refuses(ctx context.Context) error {
	if !d.isOpen() {
		return nil
	}
	d.calls.Add(1)
	return d.refuse(ctx, ErrOpen)
}

// Call is one call under a dependency's policy, in its steps: for clients of protocols whose answers go on after a try
// (web.Client's do, as a body). Others use Do. Its methods are called by one goroutine at a time, in this order:
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

	// Of the try that is in flight; verdict is nil if none is.
	verdict   func(error)
	began     time.Time
	tryCtx    context.Context
	tryCancel context.CancelCauseFunc
	timer     *time.Timer
}

// Begin starts a call, and with it the time of Policy.Total. The error, a fault with ErrOpen in its tree, comes at
// once. A Call that was begun must End.
func (d *Dependency) Begin(ctx context.Context) (*Call, error) {
	if err := d.Refuses(ctx); err != nil {
		return nil, err
	}
	d.calls.Add(1)
	c := &Call{d: d, caller: ctx}
	c.ctx, c.cancel = context.WithTimeoutCause(ctx, d.policy.Total, d.over)
	return c, nil
}

// Fault returns the error that somebody has ordered for a try that is let through, nil as a rule. The dependency is not to
// be called then, so that the try may be repeated; unless ErrLost is in the error's tree: then it is to be called, and the
// error takes the answer's place.
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

// Try waits until a try is let through, and returns its context, which ends when Attempt is over, unless Answered
// came first, when the call's time is over, or with the caller's. The error says why it may not be, and Failed makes of
// it what the caller should see.
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

// Answered tells that the dependency answers: from now on only Total bounds the try.
func (c *Call) Answered() { c.timer.Stop() }

// Done ends the try and gives its place back. A failure is what the dependency is to blame for, nil if nothing; Done
// returns it with the reason why the try's context ended, if it has.
func (c *Call) Done(failure error) error {
	if failure != nil {
		failure = c.explain(failure)
	}
	if failure != nil && c.caller.Err() == context.Canceled {
		c.end(errNoVerdict, context.Canceled)
		return failure
	}
	c.d.note(failure)
	if failure != nil {
		c.failed = failure
		c.d.failures.Add(1)
		c.end(errFailure, failure)
		return failure
	}
	c.end(nil, nil)
	return nil
}

// Drop ends the try, if one is in flight, without a verdict about the dependency.
func (c *Call) Drop() {
	if c.verdict != nil {
		c.end(errNoVerdict, context.Canceled)
	}
}

func (c *Call) end(verdict, told error) {
	c.timer.Stop()
	c.tryCancel(nil)
	<-c.d.places
	c.verdict(verdict)
	c.verdict = nil
	if c.d.observer != nil {
		c.d.observer.Try(c.caller, c.d.name, time.Since(c.began), told)
	}
	c.d.tell()
}

// explain returns err, or what ended the try's context if err is only that context's echo.
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

// Next tells whether there may be another try, and the pause before it: at least after (a Retry-After, 0 if nobody
// said) and then some, so that not all who were told the same come back together. There may not if no try is left, or
// if the call's or the caller's time would be over by then.
func (c *Call) Next(after time.Duration) (pause time.Duration, ok bool) {
	if c.tries >= c.d.policy.Tries || c.ctx.Err() != nil {
		return 0, false
	}
	pause = after + c.nextPause()
	until, _ := c.ctx.Deadline()
	return pause, time.Until(until) > pause
}

// Wait makes the pause. The error is what ended it early.
func (c *Call) Wait(pause time.Duration) error { return sleep(c.ctx, pause) }

// nextPause returns anything from 0 to a bound that grows with each try ("full jitter": M. Brooker, "Exponential
// Backoff And Jitter", AWS Architecture Blog, 2015). The library takes the middle of that range.
func (c *Call) nextPause() time.Duration {
	if c.pauses.InitialInterval == 0 {
		p := c.d.policy
		c.pauses = backoff.ExponentialBackOff{InitialInterval: p.Pause / 2, RandomizationFactor: 1, Multiplier: 2, MaxInterval: p.MaxPause / 2}
		c.pauses.Reset()
	}
	return c.pauses.NextBackOff()
}

// Failed returns what the caller should see when err, from Try or Done, is the end: a fault of kind dependency that
// says how often it was tried, or the end of the caller's own context.
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

// timeout says which of the policy's times was over. It is what Go's own timeouts are.
type timeout struct{ text string }

func (t *timeout) Error() string   { return t.text }
func (t *timeout) Timeout() bool   { return true }
func (t *timeout) Temporary() bool { return true }
func (t *timeout) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}
