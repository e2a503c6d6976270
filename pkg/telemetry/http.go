package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
)

// OpenTelemetry's own instrumentation of HTTP (otelhttp) is not used: its metrics have the Host header, which is the
// client's choice, as a label, and it doesn't see the route that our mux chose.
// Source of the names: https://opentelemetry.io/docs/specs/semconv/http/

var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// answered has all that the labels of an answer are made from.
type answered struct {
	method, route, protocol string
	status                  int
	tls                     bool
}

// answerLabels are the labels of all answers that are alike, made once.
type answerLabels struct {
	duration, latency []metric.RecordOption
	count             []metric.AddOption
}

// serverLabels keeps the labels that were made. Its size is bounded by the routes of the mux, the methods and protocols of HTTP,
// and the status codes.
type serverLabels struct {
	mu     sync.RWMutex
	known  map[answered]*answerLabels
	active sync.Map // beginning → []metric.AddOption
}

type beginning struct {
	method string
	tls    bool
}

// Server is the stage for web.Options.Trace: it measures requests, continues the caller's trace, and gives the request's
// log lines the ids of its span. Nil while there is nothing to measure.
func (t *Telemetry) Server() func(http.Handler) http.Handler {
	if t == nil {
		return nil
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.serve(next, w, r) })
	}
}

func (t *Telemetry) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	method := knownMethod(r.Method)
	ctx, span := t.startServer(r, method)
	active := t.server.begun(beginning{method, r.TLS != nil})
	t.active.Add(ctx, 1, active...)
	whole := false
	defer func() {
		took := time.Since(began).Seconds()
		a := web.AnswerOf(ctx)
		if a.Status == 0 && whole {
			a.Status = http.StatusOK
		}
		t.active.Add(ctx, -1, active...)
		l := t.server.of(answered{method, a.Route, protocol(r), a.Status, r.TLS != nil}, t.app)
		t.serverDuration.Record(ctx, took, l.duration...)
		t.requestLatency.Record(ctx, took, l.latency...)
		t.requests.Add(ctx, 1, l.count...)
		endServer(span, method, a)
	}()
	if span != nil {
		r = r.WithContext(ctx)
	}
	next.ServeHTTP(w, r)
	whole = true
}

// startServer begins the request's span, nil if traces are off. The caller's trace is continued.
func (t *Telemetry) startServer(r *http.Request, method string) (context.Context, trace.Span) {
	ctx := r.Context()
	if t.tracer == nil {
		return ctx, nil
	}
	ctx = propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, spanMethod(method), trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", method), attribute.String("url.path", r.URL.Path),
			attribute.String("url.scheme", scheme(r.TLS != nil)), attribute.String("network.protocol.version", protocol(r)),
			attribute.String("user_agent.original", r.UserAgent()), attribute.String("request_id", web.RequestID(ctx)))
	}
	return withIDs(ctx, span), span
}

// withIDs gives the log lines of ctx the ids of the span.
func withIDs(ctx context.Context, span trace.Span) context.Context {
	sc := span.SpanContext()
	return logging.With(ctx, slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
}

func endServer(span trace.Span, method string, a web.Answer) {
	if span == nil {
		return
	}
	if span.IsRecording() {
		if _, path, ok := strings.Cut(a.Route, " "); ok || a.Route != "" {
			if !ok {
				path = a.Route
			}
			span.SetName(spanMethod(method) + " " + path)
			span.SetAttributes(attribute.String("http.route", path))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", a.Status), attribute.Int64("http.response.body.size", a.Bytes))
		if kind := errorType(a.Status); kind != "" {
			span.SetAttributes(attribute.String("error.type", kind))
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}

// errorType names the server's fault, empty if there is none: the status, or that the answer was cut.
func errorType(status int) string {
	switch {
	case status == 0:
		return "cut"
	case status >= 500:
		return strconv.Itoa(status)
	}
	return ""
}

func (s *serverLabels) begun(b beginning) []metric.AddOption {
	if found, ok := s.active.Load(b); ok {
		return found.([]metric.AddOption)
	}
	fresh := []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
		attribute.String("http.request.method", b.method), attribute.String("url.scheme", scheme(b.tls))))}
	s.active.Store(b, fresh)
	return fresh
}

func (s *serverLabels) of(a answered, app string) *answerLabels {
	s.mu.RLock()
	l := s.known[a]
	s.mu.RUnlock()
	if l != nil {
		return l
	}
	route := a.route
	if _, path, ok := strings.Cut(route, " "); ok {
		route = path
	}
	list := []attribute.KeyValue{attribute.String("http.request.method", a.method), attribute.String("url.scheme", scheme(a.tls)),
		attribute.String("network.protocol.version", a.protocol)}
	if route != "" {
		list = append(list, attribute.String("http.route", route))
	}
	if a.status != 0 {
		list = append(list, attribute.Int("http.response.status_code", a.status))
	}
	if kind := errorType(a.status); kind != "" {
		list = append(list, attribute.String("error.type", kind))
	}
	if route == "" {
		route = other
	}
	service, endpoint := attribute.String("service", app), attribute.String("endpoint", route)
	l = &answerLabels{
		duration: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(list...))},
		latency:  []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(service, endpoint))},
		count: []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(service, endpoint,
			attribute.String("method", a.method), attribute.Int("status", a.status)))},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[answered]*answerLabels{}
	}
	s.known[a] = l
	return l
}

// knownMethod is the request's method if RFC 9110 or RFC 5789 knows it.
func knownMethod(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT":
		return m
	}
	return other
}

// spanMethod is the method as a span's name has it.
func spanMethod(m string) string {
	if m == other {
		return "HTTP"
	}
	return m
}

func protocol(r *http.Request) string {
	switch {
	case r.ProtoMajor == 1 && r.ProtoMinor == 0:
		return "1.0"
	case r.ProtoMajor == 1:
		return "1.1"
	}
	return "2"
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// clientLabels bounds the hosts that become labels.
type clientLabels struct{ hosts few }

// Client is put around the transport of calls to the dependency called name: it measures each try, and sends the trace
// along, though to no other host that a redirect leads to. Nil while there is nothing to measure.
func (t *Telemetry) Client(name string) func(http.RoundTripper) http.RoundTripper {
	if t == nil {
		return nil
	}
	latency := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(
		attribute.String("origin", t.app), attribute.String("destination", name)))}
	return func(next http.RoundTripper) http.RoundTripper { return tripper{t, next, latency} }
}

type tripper struct {
	t       *Telemetry
	next    http.RoundTripper
	latency []metric.RecordOption
}

// RoundTrip makes one try. The time is that to the header of the answer.
func (c tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	began, ctx, method := time.Now(), r.Context(), knownMethod(r.Method)
	host, port := c.t.client.split(r.URL)
	list := []attribute.KeyValue{attribute.String("http.request.method", method),
		attribute.String("server.address", host), attribute.Int("server.port", port)}
	var span trace.Span
	if c.t.tracer != nil {
		ctx, span = c.t.tracer.Start(ctx, spanMethod(method), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(list...))
		defer span.End()
		r = r.Clone(ctx)
		if r.Header == nil {
			r.Header = http.Header{}
		}
		if !web.Abroad(r) {
			propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
		}
	}
	answer, err := c.next.RoundTrip(r)
	var result []attribute.KeyValue
	switch {
	case err != nil:
		result = append(result, attribute.String("error.type", "failed"))
	case answer.StatusCode >= 400:
		result = append(result, attribute.Int("http.response.status_code", answer.StatusCode),
			attribute.String("error.type", strconv.Itoa(answer.StatusCode)))
	default:
		result = append(result, attribute.Int("http.response.status_code", answer.StatusCode))
	}
	took := time.Since(began).Seconds()
	c.t.clientDuration.Record(ctx, took, metric.WithAttributeSet(attribute.NewSet(append(list, result...)...)))
	c.t.clientLatency.Record(ctx, took, c.latency...)
	if span != nil {
		span.SetAttributes(result...)
		if err != nil || answer.StatusCode >= 400 {
			span.SetStatus(codes.Error, "")
		}
	}
	return answer, err
}

// split returns host and port of a call. Hosts are few, or become _OTHER, and their ports with them.
func (c *clientLabels) split(u *url.URL) (host string, port int) {
	port, _ = strconv.Atoi(u.Port())
	if port == 0 {
		port = 80
		if u.Scheme == "https" {
			port = 443
		}
	}
	if c.hosts.admit(u.Host) == other {
		return other, 0
	}
	return u.Hostname(), port
}
