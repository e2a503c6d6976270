package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// DefaultMaxResponse is how long an answer may be unless ClientOptions say otherwise: eight times what our own server
// takes, and small enough that all of a dependency's calls at once stay below the memory of a small container.
const DefaultMaxResponse = 8 << 20

// The bounds of a connection. The policy bounds the whole call; these make clear which part of it was slow.
const (
	// A lost SYN is sent again after 1 s. So one loss does no harm, and a host that is away is known before the try ends.
	dialTimeout = 3 * time.Second
	// Two round trips, and the certificates of a slow machine.
	tlsTimeout = 5 * time.Second
	// A server that doesn't know "Expect: 100-continue" stays silent; then the body is sent without its permission.
	continueTimeout = time.Second
	// Most servers and balancers keep an idle connection for 60 s or more. We close it first: otherwise a request may meet
	// a connection that the server is closing.
	idleTimeout = 50 * time.Second
	// An HTTP/2 connection carries all calls. After pingAfter of silence it is pinged, and closed if no answer comes
	// within pingTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// Room for long cookies, eight times what we take ourselves; net/http's own limit is 10 MiB.
	maxResponseHeader = 256 << 10
)

// ClientOptions configure a Client. The zero value is ready for use.
type ClientOptions struct {
	UserAgent   string // name/version, for requests that have none; empty: Go's own
	MaxResponse int64  // the longest answer, in bytes, unpacked. DefaultMaxResponse if zero

	// Wrap is put around the transport of each single try, for traces and metrics of HTTP. It must add nothing to a
	// request that is Abroad. Nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Client calls one dependency over HTTP, under its policy: limits on time, tries, calls at once and calls a second, and
// a breaker. It is made once, and its methods may be called from any goroutine.
//
// A try fails by an error of the connection, and by the answers 408, 429, 502, 503 and 504. Their Retry-After is obeyed
// if the call has the time. A failed try is repeated where that is safe:
//   - the method is GET, HEAD, OPTIONS, TRACE, PUT or DELETE, or the request has an Idempotency-Key, or there was no
//     connection;
//   - and the body, if there is one, can be read again (Request.GetBody, which http.NewRequest sets for bytes and strings).
//
// The breaker counts the connection's errors and all 5xx.
//
// Each request carries the id, traceparent, tracestate and baggage of the request that caused it, which its context
// knows (see Propagate). A redirect to another host loses all headers that could be secrets, and is refused if there is
// a body.
type Client struct {
	dep  *dependency.Dependency
	http http.Client
}

// NewClient returns a Client for d. It connects with the first call, through the proxy that the environment names
// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), and keeps as many idle connections as there may be calls at once.
func NewClient(d *dependency.Dependency, o ClientOptions) *Client {
	base := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  d.Policy().Attempt,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           d.Policy().Concurrent,
		MaxIdleConnsPerHost:    d.Policy().Concurrent,
		MaxResponseHeaderBytes: maxResponseHeader,
		ForceAttemptHTTP2:      true, // over TLS; a DialContext of our own would switch it off
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	t := &transport{dep: d, base: base, next: base, agent: o.UserAgent, limit: o.MaxResponse}
	if t.limit <= 0 {
		t.limit = DefaultMaxResponse
	}
	if o.Wrap != nil {
		t.next = o.Wrap(base)
	}
	return &Client{dep: d, http: http.Client{Transport: t}}
}

// Do sends req and returns the answer, whose Body must be closed; until then, or until Policy.Total is over, the call
// holds its place. It blocks until the answer's header is there, at most for Policy.Total.
//
// The error of a failed call is of kind dependency and carries the dependency's name. It wraps a StatusError for an
// answer of 408, 429 or 5xx, whatever the method, and dependency.ErrOpen, ErrBusy or ErrRate if the call was refused.
// Reading the body can fail the same way. When the request's context is cancelled the error wraps context.Canceled and
// has no kind. No error has the URL in its text: the URL could hold a secret.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if err := c.dep.Refuses(req.Context()); err != nil { // a refusal is cheap: net/http has copied nothing yet
		closeBody(req)
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if !failed(resp.StatusCode) {
		return resp, nil
	}
	err = &StatusError{resp.StatusCode}
	if a, ok := resp.Body.(*answer); ok {
		err = a.call.Failed(err)
	}
	_ = resp.Body.Close()
	return nil, err
}

func (c *Client) explain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if fault.Of(err) != fault.KindUnhandled || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("call %s: %w", c.dep.Name(), err)
}

// HTTP returns an http.Client for libraries that want one. Their calls obey the same policy. It returns the last answer
// whatever its status, for the library to judge, and its errors have the URL in their text, as net/http's do.
func (c *Client) HTTP() *http.Client {
	h := c.http
	return &h
}

// Close closes the idle connections. Calls in flight go on, and later calls connect again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer that is a failure by its status.
type StatusError struct{ Status int }

// Error returns the status in digits and words.
func (e *StatusError) Error() string {
	return fmt.Sprintf("answered %d %s", e.Status, http.StatusText(e.Status))
}

// failed returns whether a status means that the dependency could not do its part now.
func failed(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}
