package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
)

// passed is what a call passes on from the request that caused it. The last three are defined by W3C Trace Context and
// W3C Baggage.
type passed struct{ requestID, traceParent, traceState, baggage string }

type passedKey struct{}

// Propagate returns a context in which a Client's calls pass these three on. It is for work that did not come as an HTTP
// request; an event's envelope has all three. Empty and malformed ones are left out. The context of a request that this
// package serves knows them already.
func Propagate(ctx context.Context, requestID, traceParent, baggage string) context.Context {
	return context.WithValue(ctx, passedKey{}, passed{requestID: requestID, traceParent: traceParent, baggage: baggage})
}

func passedOf(ctx context.Context) passed {
	if p, ok := ctx.Value(passedKey{}).(passed); ok {
		return p
	}
	p := passed{requestID: RequestID(ctx)}
	if x := exchangeOf(ctx); x != nil && x.inner != nil {
		h := x.inner.Header
		p.traceParent = h.Get("Traceparent")
		p.traceState, p.baggage = strings.Join(h["Tracestate"], ","), strings.Join(h["Baggage"], ",")
	}
	return p
}

// apply sets the headers whose values are valid, unless the request has its own.
func (p passed) apply(h http.Header) {
	set := func(name, value string, good bool) {
		if _, own := h[name]; !own && good && value != "" {
			h[name] = []string{value}
		}
	}
	set("X-Request-Id", p.requestID, validID(p.requestID))
	if _, own := h["Traceparent"]; !own && event.ValidTraceParent(p.traceParent) {
		h["Traceparent"] = []string{p.traceParent}
		set("Tracestate", p.traceState, event.ValidBaggage(p.traceState)) // bounded and printable, too
	}
	set("Baggage", p.baggage, event.ValidBaggage(p.baggage))
}

// outgoing returns req as it is sent: with the headers that are passed on and a User-Agent. After a redirect to another
// host it has no headers that could be secrets.
func (t *transport) outgoing(req *http.Request) (*http.Request, error) {
	if err := sendable(req); err != nil {
		return nil, err
	}
	out := *req
	out.Header = req.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if Abroad(req) {
		if req.Body != nil && req.Body != http.NoBody {
			return nil, errors.New("a redirect would take the request's body to another host")
		}
		for name := range out.Header {
			if !slices.Contains(harmless, name) {
				delete(out.Header, name)
			}
		}
	} else {
		passedOf(req.Context()).apply(out.Header)
	}
	if _, own := out.Header["User-Agent"]; !own && t.agent != "" {
		out.Header["User-Agent"] = []string{t.agent}
	}
	return &out, nil
}

// harmless are the headers that another host may see.
var harmless = []string{"Accept", "Accept-Encoding", "Accept-Language", "Range", "User-Agent"}

// Abroad returns whether req follows a redirect to another host than the one that was called, or away from TLS. Such a
// request may carry no secret, and nothing of the request that caused the call.
func Abroad(req *http.Request) bool {
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL.Host != req.URL.Host || first.URL.Scheme == "https" && req.URL.Scheme != "https"
}

// sendable returns an error for a request that net/http would refuse to send. It is checked before the policy: a
// newline in a header is not the dependency's failure, and must not open the breaker.
func sendable(req *http.Request) error {
	if req.URL == nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return errors.New("the URL is not http://host or https://host")
	}
	for name, values := range req.Header {
		notOfAToken := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
		if name == "" || strings.ContainsFunc(name, notOfAToken) {
			return errors.New("a header's name is not one")
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return errors.New("the header " + name + " has a control character")
			}
		}
	}
	return nil
}

// RetryAfter returns how long the header h of an answer asks us to wait (RFC 9110, section 10.2.3), in seconds or as a
// date. A date is compared with the answer's own Date if it has one, since clocks differ. Without a valid Retry-After
// the result is 0.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > math.MaxInt32 {
			seconds = math.MaxInt32 // out of any call's time
		}
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, until.Sub(now))
}
