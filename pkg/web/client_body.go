package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// The rest of a body that nobody reads is read to its end, so that its connection can be used again, if it is short
// and as good as there: a new connection costs about as much.
const (
	maxDrain  = 64 << 10
	drainTime = 50 * time.Millisecond
)

// answer is a response's body. When it has ended or is closed its call is over, with a verdict: a status that was a
// failure, or a body that was cut short or came too late.
type answer struct {
	body    io.ReadCloser
	call    *dependency.Call
	cancel  context.CancelFunc
	limit   int64
	left    int64 // of the limit, and one byte that tells that there is more
	failure error // by the status

	ctx     context.Context // the try's
	reading atomic.Bool
	once    sync.Once
	over    atomic.Bool
	unwatch func() bool // ctx, so that an end in order costs no goroutine
}

func newAnswer(resp *http.Response, call *dependency.Call, cancel context.CancelFunc, limit int64) *answer {
	a := &answer{body: resp.Body, call: call, cancel: cancel, limit: limit, left: limit + 1, failure: blame(resp.StatusCode), ctx: resp.Request.Context()}
	// Who forgets to close the body loses it when the time is over, so that the place is free again. A Read that is
	// under way sees to it itself, since it knows why.
	a.unwatch = context.AfterFunc(a.ctx, func() {
		if !a.reading.Load() {
			a.expire()
		}
	})
	if resp.Body == http.NoBody {
		a.end(a.failure)
	}
	return a
}

// Read returns the body's bytes. An error, other than io.EOF, is a dependency's or the end of the caller's context.
func (a *answer) Read(b []byte) (int, error) {
	if a.left <= 0 {
		return 0, fault.Dependency(a.call.Name(), tooLong(a.limit))
	}
	a.reading.Store(true)
	n, err := a.body.Read(b[:min(int64(len(b)), a.left)])
	a.left -= int64(n)
	switch {
	case a.left <= 0:
		a.drop()
		n, err = n-1, fault.Dependency(a.call.Name(), tooLong(a.limit))
	case err == io.EOF:
		a.end(a.failure)
	case err != nil && err != http.ErrBodyReadAfterClose:
		err = a.call.Failed(a.end(err))
	}
	a.reading.Store(false)
	if a.ctx.Err() != nil {
		a.drop()
	}
	return n, err
}

func tooLong(limit int64) error { return fmt.Errorf("the answer is longer than %d bytes", limit) }

// Close ends the call. It takes at most 50 ms, to save the connection.
func (a *answer) Close() error {
	if a.over.Load() {
		return a.body.Close()
	}
	discard(a.body)
	a.end(a.failure)
	return nil
}

// end ends the call with a verdict, and returns what the failure was.
func (a *answer) end(failure error) error {
	a.unwatch()
	a.once.Do(func() {
		failure = a.call.Done(failure)
		a.finish()
	})
	return failure
}

// drop ends the call without one: the dependency answered, and what followed is ours.
func (a *answer) drop() {
	a.unwatch()
	a.expire()
}

func (a *answer) expire() {
	a.once.Do(func() {
		a.call.Drop()
		a.finish()
	})
}

func (a *answer) finish() {
	a.over.Store(true)
	a.call.End()
	a.cancel()
}

// discard reads what is left of body, if it is little and quick, and closes it.
func discard(body io.ReadCloser) {
	timer := time.AfterFunc(drainTime, func() { _ = body.Close() })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}
