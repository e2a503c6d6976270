package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
)

// maxID is the longest request id that is accepted from a client: a W3C trace id or a UUID has under 40 characters, and
// each log line repeats the id.
const maxID = 128

// site is what the stages of one server share.
type site struct {
	Options
	draining *atomic.Bool
	limits   *limits // nil: no limit
	load     *load
	pages    func() *pages
	feedback *feedback // nil: no form
}

// chain puts the stages around the handler. Their order is the package comment's: the log sees what recover answers,
// and all of them know the id. A new stage (time) goes between log and secure.
func chain(o Options, draining *atomic.Bool) http.Handler {
	s := &site{Options: o, draining: draining, limits: newLimits(o.Rate, o.Burst), pages: sync.OnceValue(newPages)}
	s.load = &load{maxRequests: or(o.MaxRequests, DefaultMaxRequests), maxBytes: or(o.MaxBodyBytes, DefaultMaxBodyBytes),
		bodies: map[*body]struct{}{}}
	s.feedback = newFeedback(o.Feedback, s)
	if s.Level == nil {
		s.Level = standardLevel
	}
	h := route(o.Handler, s)
	h = shed(h, s)
	h = limited(h, s)
	h = secure(h)
	h = recovered(h, s)
	h = logged(h, s)
	if s.Trace != nil {
		h = s.Trace(h)
	}
	return identified(h, s)
}

// RequestID returns the id of the request that ctx belongs to, empty if to none.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id
	}
	return ""
}

func identified(next http.Handler, s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, site: s, began: time.Now(), id: requestID(r.Header), client: clientOf(r, s.TrustedProxies)}
		w.Header().Set("X-Request-Id", x.id)
		ctx := context.WithValue(r.Context(), exchangeKey{}, x)
		if s.WithAttrs != nil {
			ctx = s.WithAttrs(ctx, slog.String("request_id", x.id))
		}
		next.ServeHTTP(x, r.WithContext(ctx))
		if x.status == 0 { // the handler wrote nothing: net/http answers 200 for it
			x.hangUp()
		}
	})
}

// requestID returns the caller's id if it can do no harm in a log, a header or a file name, and a new one otherwise.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Trace-Id", "X-Request-Id"} {
		if id := h.Get(name); validID(id) {
			return id
		}
	}
	return newID()
}

func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// logged writes one line per request, and at debug one before it with the body. The query is left out, since people put
// tokens there.
func logged(next http.Handler, s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		whole, body := false, s.keepBody(r)
		defer func() {
			body.log(r, s.Log)
			status := x.status
			if status == 0 && whole {
				status = http.StatusOK // what net/http answers for a handler that wrote nothing
			}
			at := s.Level(r, status)
			if !whole {
				at = max(at, slog.LevelWarn)
			}
			if !s.Log.Enabled(r.Context(), at) {
				return
			}
			var room [10]slog.Attr
			attrs := append(room[:0],
				slog.String("method", r.Method),
				slog.String("path", r.URL.Path),
				slog.String("route", x.route),
				slog.Int("status", status),
				slog.Float64("duration_ms", float64(time.Since(x.began).Microseconds())/1000),
				slog.Int64("bytes", x.bytes),
				slog.String("remote", x.remote(r)),
				slog.String("content_type", r.Header.Get("Content-Type")))
			if x.report != "" {
				attrs = append(attrs, slog.String("report_id", x.report))
			}
			if !whole {
				attrs = append(attrs, slog.Bool("cut", true))
			}
			s.Log.LogAttrs(r.Context(), at, "request", attrs...)
		}()
		next.ServeHTTP(w, r)
		whole = true
	})
}

func standardLevel(r *http.Request, status int) slog.Level {
	probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
	switch {
	case probe && (status < 500 || status == http.StatusServiceUnavailable):
		return slog.LevelDebug
	case status >= 500:
		return slog.LevelWarn // a cause of ours has a line of its own, at its own level
	}
	return slog.LevelInfo
}

// recovered turns a panic into a 500. If the answer has begun the connection is cut: half an answer must not look
// like a whole one.
func recovered(next http.Handler, s *site) http.Handler {
	guard := fault.Guard{Log: s.Log, Report: s.Report}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fault.Recover("", func() error { next.ServeHTTP(w, r); return nil })
		if err == nil {
			return
		}
		if errors.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler) // this is how a handler cuts its connection, and no fault
		}
		x := exchangeOf(r.Context())
		subject := subjectOf(x.route)
		if e, ok := errors.AsType[*fault.Error](err); ok && e.Subject == "" {
			e.Subject = subject
		}
		ctx := r.Context()
		if s.WithAttrs != nil {
			ctx = s.WithAttrs(ctx, slog.String("report_id", x.reportID()))
		}
		guard.Handle(ctx, subject, err)
		if x.status != 0 {
			panic(http.ErrAbortHandler)
		}
		WriteProblem(w, r, http.StatusInternalServerError, failedDetail)
	})
}

// secure sets headers that are right for an interface of data. A page that needs scripts or caching overrides them.
// Sources: OWASP's HTTP headers and REST security cheat sheets.
func secure(next http.Handler) http.Handler {
	// All answers share the values, which saves each 6 allocations. An answer replaces a value and never writes into it.
	fixed := []struct {
		name  string
		value []string
	}{
		{"Cache-Control", []string{"no-store"}},
		{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
		{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
		{"Referrer-Policy", []string{"no-referrer"}},
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"X-Frame-Options", []string{"DENY"}},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, f := range fixed {
			h[f.name] = f.value
		}
		next.ServeHTTP(w, r)
	})
}

// route is the last stage: it sees the request as the mux does, with the pattern that matched.
func route(next http.Handler, s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		x.inner = r
		defer func() { x.route = r.Pattern }()
		if s.feedback != nil && r.URL.Path == feedbackPath {
			s.feedback.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// routeOf returns the route of a request that the mux has not seen yet; empty if nothing is served there.
func (s *site) routeOf(r *http.Request) string {
	if s.feedback != nil && r.URL.Path == feedbackPath {
		return feedbackPath
	}
	if mux, ok := s.Handler.(interface {
		Handler(*http.Request) (http.Handler, string)
	}); ok {
		_, pattern := mux.Handler(r)
		return pattern
	}
	return ""
}

// exchange is one request and its answer, as the stages share them. It is the ResponseWriter that handlers get.
type exchange struct {
	http.ResponseWriter
	site     *site
	began    time.Time
	id       string
	client   netip.Addr    // whose rate the request counts in
	inner    *http.Request // as the mux sees it, set by the last stage
	route    string        // the mux's pattern, empty if nothing matched; known when the mux is done
	status   int           // as sent, zero until then
	bytes    int64         // of the body
	report   string        // the id of this request's failure report, empty while there is none
	replaced bool          // a problem was sent in place of the mux's own text, which is dropped
}

// reportID returns the id under which a failure of this request is reported.
func (x *exchange) reportID() string {
	if x.report == "" {
		x.report = newReportID()
	}
	return x.report
}

// remote returns the client's address for the log: the peer's, or the one that trusted proxies name.
func (x *exchange) remote(r *http.Request) string {
	if len(x.site.TrustedProxies) == 0 {
		return r.RemoteAddr
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || peer.Addr().Unmap().WithZone("") == x.client {
		return r.RemoteAddr
	}
	return x.client.String()
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// WriteHeader keeps the status for the log. The plain 404 or 405 of a mux that found no pattern becomes a problem.
func (x *exchange) WriteHeader(status int) {
	if x.replaced {
		return
	}
	if x.status == 0 && x.unrouted(status) {
		detail := "nothing is served under this path"
		if allow := x.Header().Get("Allow"); allow != "" {
			detail = "this path answers only to " + allow
		}
		WriteProblem(x, x.inner, status, detail)
		x.replaced = true
		return
	}
	if x.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.status = status
		x.hangUp()
	}
	x.ResponseWriter.WriteHeader(status)
}

// hangUp makes this the last answer of its connection if the server drains.
func (x *exchange) hangUp() {
	if x.site.draining.Load() {
		x.Header().Set("Connection", "close")
	}
}

func (x *exchange) unrouted(status int) bool {
	return (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) &&
		x.inner != nil && x.inner.Pattern == "" && strings.HasPrefix(x.Header().Get("Content-Type"), "text/plain")
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.replaced {
		return len(b), nil
	}
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// Flush sends what is buffered, for handlers that stream.
func (x *exchange) Flush() {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(x.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }
