package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// transport applies the policy, as an http.RoundTripper: one round trip is one call, of one or more tries.
type transport struct {
	dep   *dependency.Dependency
	base  *http.Transport
	next  http.RoundTripper // base, wrapped
	agent string
	limit int64
}

// CloseIdleConnections is called by http.Client's.
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip is http.RoundTripper's.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	out, err := t.outgoing(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	ctx, cancel := hop(req)
	call, err := t.dep.Begin(ctx)
	if err != nil {
		cancel()
		closeBody(req)
		return nil, err
	}
	answered := false
	defer func() { // also when a try panics, so that its place is free again
		if !answered {
			call.End()
			cancel()
			closeBody(req)
		}
	}()
	resp, err := t.tries(call, out)
	if err != nil {
		return nil, err
	}
	answered = true
	resp.Body = newAnswer(resp, call, cancel, t.limit)
	return resp, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// hop returns the context of a call. A call that follows a redirect has the time that the first call has left.
func hop(req *http.Request) (context.Context, context.CancelFunc) {
	if before := req.Response; before != nil && before.Request != nil {
		if until, ok := before.Request.Context().Deadline(); ok {
			return context.WithDeadline(req.Context(), until)
		}
	}
	return req.Context(), func() {}
}

// tries returns the last try's response, whatever its status, or a dependency's error. With a response the try is still
// in flight: its body has not been read.
func (t *transport) tries(call *dependency.Call, req *http.Request) (*http.Response, error) {
	replayable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	safe := replayable && idempotent(req)
	for first := true; ; first = false {
		ctx, err := call.Try()
		if err != nil {
			return nil, call.Failed(err)
		}
		try, sent, err := again(ctx, req, first)
		if err != nil {
			return nil, fmt.Errorf("the request's body: %w", err)
		}
		struck := call.Fault(ctx)
		resp, err := t.send(try, struck)
		call.Answered()
		if err == nil && resp.ContentLength > t.limit && req.Method != http.MethodHead {
			_ = resp.Body.Close()
			return nil, fault.Dependency(t.dep.Name(), tooLong(t.limit))
		}
		if ours := sent.failure(); err != nil && ours != nil {
			return nil, fmt.Errorf("the request's body: %w", ours)
		}
		pause, left := time.Duration(0), false
		if err != nil {
			if safe || replayable && nothingSent(err, struck) {
				pause, left = call.Next(0)
			}
			err = call.Done(err)
		} else {
			if safe && passing(resp.StatusCode) {
				pause, left = call.Next(RetryAfter(resp.Header, time.Now()))
			}
			if !left {
				return resp, nil
			}
			err = &StatusError{resp.StatusCode}
			discard(resp.Body)
			_ = call.Done(blame(resp.StatusCode))
		}
		if !left || call.Wait(pause) != nil {
			return nil, call.Failed(err)
		}
	}
}

// send does one try. An injected fault replaces the try, or its answer.
func (t *transport) send(try *http.Request, struck error) (*http.Response, error) {
	switch {
	case struck == nil:
		return t.next.RoundTrip(try)
	case errors.Is(struck, dependency.ErrLost):
		resp, err := t.next.RoundTrip(try)
		if err != nil {
			return nil, err
		}
		discard(resp.Body)
		return nil, struck
	}
	if try.Body != nil { // a round tripper closes it, whatever happens
		_ = try.Body.Close()
	}
	return nil, struck
}

// again returns a copy of req for one try, with a body of its own.
func again(ctx context.Context, req *http.Request, first bool) (*http.Request, *source, error) {
	try := req.WithContext(ctx)
	if req.Body == nil || req.Body == http.NoBody {
		return try, nil, nil
	}
	body := req.Body
	if !first {
		var err error
		if body, err = req.GetBody(); err != nil {
			return nil, nil, err
		}
	}
	sent := &source{ReadCloser: body}
	try.Body = sent
	return try, sent, nil
}

// source is a request's body that remembers its error: such an error is not the dependency's failure.
type source struct {
	io.ReadCloser
	err atomic.Pointer[error]
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
		s.err.Store(&err)
	}
	return n, err
}

func (s *source) failure() error {
	if s == nil || s.err.Load() == nil {
		return nil
	}
	return *s.err.Load()
}

// idempotent returns whether doing req twice has the same effect as doing it once: RFC 9110, section 9.2.2, and
// draft-ietf-httpapi-idempotency-key-header.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

// nothingSent returns whether the request was certainly not sent: there was no connection, or an injected fault in its
// place. Then even a request that is not idempotent can be repeated.
func nothingSent(err, struck error) bool {
	if struck != nil && !errors.Is(struck, dependency.ErrLost) {
		return true
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// passing returns whether another try may do better after this status.
func passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// blame returns the failure that the breaker counts for a status, nil if none. A dependency that answers 408 or 429
// works.
func blame(status int) error {
	if status < 500 {
		return nil
	}
	return &StatusError{status}
}
