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

// The rest of a body that the caller doesn't read is read to its end, so that the connection can be used again, if the
// rest is short and comes at once. Reading more would cost as much as a new connection.
const (
	maxDrain  = 64 << 10
	drainTime = 50 * time.Millisecond
)

// answer is a response's body. Its end, or Close, ends the call and decides whether the call failed: by its status, or
// because the body was cut short or came too late.
type answer struct {
	body    io.ReadCloser
	call    *dependency.Call
	cancel  context.CancelFunc
	limit   int64
	left    int64 // of the limit, plus one byte: if that is read, too, the answer is too long
	failure error // by the status; nil if that was no failure

	ctx     context.Context // the try's
	reading atomic.Bool
	once    sync.Once
	over    atomic.Bool
	unwatch func() bool // ctx, so that an end in order costs no goroutine
}

func newAnswer(resp *http.Response, call *dependency.Call, cancel context.CancelFunc, limit int64) *answer {
	a := &answer{body: resp.Body, call: call, cancel: cancel, limit: limit, left: limit + 1,
		failure: blame(resp.StatusCode), ctx: resp.Request.Context()}
	// If the caller forgets to close the body, the end of the call's time frees the place. A Read that is under way does
	// that itself, since it knows the reason.
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

// Read returns the body's bytes. An error other than io.EOF is the dependency's, or the caller's context has ended.
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

// Close ends the call. It reads the rest of the body for at most 50 ms, to keep the connection.
func (a *answer) Close() error {
	if a.over.Load() {
		return a.body.Close()
	}
	discard(a.body)
	a.end(a.failure)
	return nil
}

// end ends the call as a success if failure is nil, else as a failure, which it returns as the policy sees it.
func (a *answer) end(failure error) error {
	a.unwatch()
	a.once.Do(func() {
		failure = a.call.Done(failure)
		a.finish()
	})
	return failure
}

// drop ends the call without a verdict: the dependency answered, and what went wrong after that is ours.
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

// discard closes body, after it has read the rest if that is short and quick.
func discard(body io.ReadCloser) {
	timer := time.AfterFunc(drainTime, func() { _ = body.Close() })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}
