package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"example.com/base-app/pkg/event"
)

// collector is an OTLP server over HTTP that takes nothing but what the specification allows:
// https://opentelemetry.io/docs/specs/otlp/#otlphttp.
type collector struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	spans   []*v1.Span
	service string
	metrics map[string]int         // name → points
	headers map[string]http.Header // by path
}

func collect(t *testing.T) *collector {
	c := &collector{t: t, metrics: map[string]int{}, headers: map[string]http.Header{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := c.read(r)
	if err != nil {
		c.t.Errorf("collector: %s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	body, _ := proto.Marshal(answer)
	_, _ = w.Write(body)
}

func (c *collector) read(r *http.Request) (proto.Message, error) {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("%s with %s", r.Method, r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers[r.URL.Path] = r.Header
	switch r.URL.Path {
	case "/v1/traces":
		return &tracepb.ExportTraceServiceResponse{}, c.readTraces(body)
	case "/v1/metrics":
		return &metricspb.ExportMetricsServiceResponse{}, c.readMetrics(body)
	}
	return nil, errors.New("no such path")
}

func (c *collector) readTraces(body []byte) error {
	var in tracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &in); err != nil {
		return err
	}
	if len(in.ProtoReflect().GetUnknown()) > 0 || len(in.ResourceSpans) == 0 {
		return errors.New("unknown fields, or no resource")
	}
	for _, r := range in.ResourceSpans {
		for _, a := range r.Resource.Attributes {
			if a.Key == "service.name" {
				c.service = a.Value.GetStringValue()
			}
		}
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				if len(span.TraceId) != 16 || len(span.SpanId) != 8 || span.Name == "" || span.StartTimeUnixNano == 0 || span.EndTimeUnixNano < span.StartTimeUnixNano {
					return fmt.Errorf("not a span: %v", span)
				}
				c.spans = append(c.spans, span)
			}
		}
	}
	return nil
}

func (c *collector) readMetrics(body []byte) error {
	var in metricspb.ExportMetricsServiceRequest
	if err := proto.Unmarshal(body, &in); err != nil {
		return err
	}
	for _, r := range in.ResourceMetrics {
		for _, s := range r.ScopeMetrics {
			for _, m := range s.Metrics {
				n := len(m.GetGauge().GetDataPoints()) + len(m.GetSum().GetDataPoints()) + len(m.GetHistogram().GetDataPoints())
				if m.Name == "" || n == 0 {
					return fmt.Errorf("not a metric: %v", m)
				}
				c.metrics[m.Name] += n
			}
		}
	}
	return nil
}

// chain returns the names of the spans from the first to the last, each the parent of the next, all of one trace.
func (c *collector) chain(t *testing.T) (names []string, trace string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	parent := ""
	for range c.spans {
		found := false
		for _, s := range c.spans {
			if hex.EncodeToString(s.ParentSpanId) == parent {
				if found {
					t.Errorf("two spans are children of %q: %s among them", parent, s.Name)
					continue
				}
				found = true
				names, trace = append(names, s.Name), hex.EncodeToString(s.TraceId)
			}
		}
		if !found {
			t.Errorf("no span is a child of %q; have %v", parent, names)
			return names, trace
		}
		for _, s := range c.spans {
			if s.Name == names[len(names)-1] {
				parent = hex.EncodeToString(s.SpanId)
			}
			if hex.EncodeToString(s.TraceId) != trace {
				t.Errorf("%s is of another trace", s.Name)
			}
		}
	}
	return names, trace
}

func TestACollectorGetsOneTraceFromTheRequestToTheHandler(t *testing.T) {
	c := collect(t)
	tel, _ := open(t, Options{OTel: OTel{Endpoint: c.URL, ServiceName: "other-name", Headers: "Api-Key=a%20b"}})
	var wire event.Event // what the queue keeps
	base := serve(t, tel, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		events, end := tel.Publish(r.Context(), []event.Event{{ID: "e1", RequestID: "r1", Baggage: "tenant=7"}})
		end("e1", nil)
		wire = events[0]
	}))
	get(t, base+"/", "")
	other, _ := open(t, Options{OTel: OTel{Endpoint: c.URL, ServiceName: "other-name"}}) // the process after a crash
	handleOnce(t, other, wire)
	flush(t, tel)
	flush(t, other)
	names, trace := c.chain(t)
	if want := "GET /{$}, publish events, deliver event, send a, handle event"; strings.Join(names, ", ") != want || !strings.Contains(wire.TraceParent, trace) {
		t.Errorf("want %s\nhave %s", want, strings.Join(names, ", "))
	}
	if c.service != "other-name" || c.headers["/v1/traces"].Get("Api-Key") != "" {
		t.Errorf("want the other's name and no header of the first's, have %s and %v", c.service, c.headers)
	}
	for _, name := range []string{"request_count", "http.server.request.duration", "build_info", "go.goroutine.count"} {
		if c.metrics[name] == 0 {
			t.Errorf("want %s among the metrics, have %v", name, c.metrics)
		}
	}

	handleOnce(t, other, wire) // closed: nothing is sent, and nothing breaks
}

func TestACollectorIsToldTheHeaders(t *testing.T) {
	c := collect(t)
	tel, _ := open(t, Options{OTel: OTel{Endpoint: c.URL, Headers: "Api-Key=a%20b"}})
	exercise(t, tel)
	flush(t, tel)
	for _, path := range []string{"/v1/traces", "/v1/metrics"} {
		if have := c.headers[path].Get("Api-Key"); have != "a b" {
			t.Errorf("%s: have %q", path, have)
		}
	}
}

func handleOnce(t *testing.T, tel *Telemetry, e event.Event) {
	t.Helper()
	tel.Deliver(t.Context(), &e)
	changed, sent := tel.Send(t.Context(), &e, "inproc://a")
	sent(nil)
	if wire := e.Append(nil); !changed {
		t.Error("want the envelope changed")
	} else if _, err := event.Decode(wire); err != nil {
		t.Error(err)
	}
	ctx, end := tel.Handle(t.Context(), &e)
	if ctx == t.Context() {
		t.Error("want the handler's own context")
	}
	end(Processed, nil)
}

func TestTheCallersTraceAndChoiceAreFollowed(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for flags, want := range map[string]int{"01": 2, "00": 0} {
		c := collect(t)
		tel, _ := open(t, Options{OTel: OTel{Endpoint: c.URL}})
		called := ""
		partner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called = r.Header.Get("Traceparent") }))
		base := serve(t, tel, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, partner.URL, nil)
			answer, err := tel.Client("partner")(&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
			if err != nil {
				t.Error(err)
				return
			}
			_ = answer.Body.Close()
			if out.Header.Get("Traceparent") != "" {
				t.Error("want the caller's request as it was")
			}
		}))
		get(t, base+"/", "00-"+id+"-00f067aa0ba902b7-"+flags)
		flush(t, tel)
		partner.Close()
		if len(c.spans) != want {
			t.Errorf("flags %s: want %d spans, have %d", flags, want, len(c.spans))
		}
		if !strings.Contains(called, id) || !strings.HasSuffix(called, flags) || strings.Contains(called, "00f067aa0ba902b7") {
			t.Errorf("flags %s: want the trace passed on under a span of ours, have %s", flags, called)
		}
	}
}

// A batch is published within one trace, and the traces that its events came from are found from there.
func TestThePublicationOfABatchLinksTheTracesOfItsEvents(t *testing.T) {
	parent := func(trace int) string { return fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", trace) }
	many := make([]event.Event, 2*maxLinks)
	for i := range many {
		many[i].TraceParent = parent(i + 1)
	}
	for name, c := range map[string]struct {
		events []event.Event
		want   int
	}{
		"none":    {[]event.Event{{}, {}}, 0},
		"two":     {[]event.Event{{TraceParent: parent(1)}, {}, {TraceParent: parent(2)}, {TraceParent: parent(1)}}, 2},
		"invalid": {[]event.Event{{TraceParent: "nonsense"}, {TraceParent: parent(0)}, {TraceParent: parent(3)}}, 1},
		"many":    {many, maxLinks},
	} {
		col := collect(t)
		tel, _ := open(t, Options{OTel: OTel{Endpoint: col.URL}})
		ctx, request := tel.Tracers().Tracer("test").Start(t.Context(), "POST /events")
		own := event.Event{TraceParent: traceParent(request.SpanContext())} // the parent's trace: no link is needed
		events, end := tel.Publish(ctx, append([]event.Event{own}, c.events...))
		end("", nil)
		request.End()
		flush(t, tel)
		names, id := col.chain(t)
		if len(names) != 2 || names[1] != "publish events" {
			t.Fatalf("%s: have %q", name, names)
		}
		for _, e := range events {
			if !strings.Contains(e.TraceParent, id) {
				t.Errorf("%s: want the batch's trace carried on, have %q", name, e.TraceParent)
			}
		}
		for _, s := range col.spans {
			if s.Name != "publish events" {
				continue
			}
			if len(s.Links) != c.want {
				t.Errorf("%s: want %d links, have %d", name, c.want, len(s.Links))
			}
			for i, l := range s.Links {
				if have := hex.EncodeToString(l.TraceId); hex.EncodeToString(l.SpanId) != "00f067aa0ba902b7" || c.want > 1 && have != fmt.Sprintf("%032x", i+1) {
					t.Errorf("%s: have link %d to %s", name, i, have)
				}
			}
		}
	}
}

// What goes wrong is often told with an address, and whole answers are quoted: neither leaves with a trace.
func TestASpansErrorIsShortAndHasNoSecrets(t *testing.T) {
	c := collect(t)
	tel, _ := open(t, Options{OTel: OTel{Endpoint: c.URL, MetricsExporter: "none"}})
	long := fmt.Errorf("post https://partner.example/hooks/s3cret?token=s3cret: password=s3cret: %s", strings.Repeat("no ", maxStatus))
	events, published := tel.Publish(t.Context(), []event.Event{{ID: "e"}})
	published("e", long)
	_, sent := tel.Send(t.Context(), &events[0], "inproc://a")
	sent(long)
	_, handled := tel.Handle(t.Context(), &events[0])
	handled(Dead, long)
	_, done := tel.Job(t.Context(), "report", "run")
	done("failed", long)
	flush(t, tel)
	if len(c.spans) != 4 {
		t.Fatalf("want four spans, have %d", len(c.spans))
	}
	for _, s := range c.spans {
		if have := s.Status.GetMessage(); strings.Contains(s.String(), "s3cret") || !strings.Contains(have, "https://partner.example") || len(have) > maxStatus+len("…") {
			t.Errorf("%s: want it short and scrubbed, have %d bytes: %s", s.Name, len(have), have)
		}
	}
}

// Some vendors' endpoints have the token in their path.
func TestTheLogDoesNotTellTheEndpointsPath(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer refuses.Close()
	tel, log := open(t, Options{OTel: OTel{TracesEndpoint: refuses.URL + "/s3cret/v1/traces", MetricsEndpoint: refuses.URL + "/s3cret/v1/metrics"}})
	exercise(t, tel)
	flush(t, tel)
	for _, exporter := range []string{"otlp_traces", "otlp_metrics"} {
		if !strings.Contains(log.String(), "exporter="+exporter) {
			t.Errorf("want a line about %s", exporter)
		}
	}
	if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), refuses.URL) {
		t.Errorf("want the host and no path, have\n%s", log)
	}
}

func TestSamplersKeepWhatTheyShould(t *testing.T) {
	for name, want := range map[string]int{"always_off": 0, "traceidratio": 0, "": 100, "parentbased_always_on": 100} {
		c := collect(t)
		o := OTel{Endpoint: c.URL, TracesSampler: name}
		if strings.HasSuffix(name, "ratio") {
			o.TracesSamplerArg = "0"
		}
		tel, _ := open(t, Options{OTel: o})
		for range 100 {
			events, end := tel.Publish(t.Context(), []event.Event{{ID: "e"}})
			end("e", nil)
			if want == 0 {
				if changed, _ := tel.Send(t.Context(), &events[0], "inproc://x"); changed {
					t.Error("want no hop of a trace that was not chosen")
				}
			}
		}
		flush(t, tel)
		if len(c.spans) != want {
			t.Errorf("%s: want %d spans, have %d", name, want, len(c.spans))
		}
	}
}

func TestSpansBeyondTheQueueAreDroppedAndCounted(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	tel, _ := open(t, Options{OTel: OTel{Endpoint: s.URL, MetricsExporter: "none", MaxQueueSize: 100}})
	for range 1000 {
		_, end := tel.Publish(t.Context(), []event.Event{{ID: "e"}})
		end("e", nil)
	}
	if have := tel.core.Losses[0].Dropped.Load(); have != 900 {
		t.Errorf("want 900 dropped, have %d", have)
	}
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tel.Close(brief); err == nil {
		t.Error("want to be told that the rest was not sent")
	}
}

func TestAnExemplarLeadsFromTheHistogramToTheTrace(t *testing.T) {
	c := collect(t)
	tel, _ := open(t, Options{Prometheus: true, OTel: OTel{Endpoint: c.URL}})
	exercise(t, tel)
	text := scrape(t, tel, "application/openmetrics-text; version=1.0.0")
	flush(t, tel)
	for _, name := range []string{"http_server_request_duration_seconds_bucket", "event_handle_duration_seconds_bucket"} {
		m := regexp.MustCompile(name + `\{.*# \{.*trace_id="([0-9a-f]{32})".*\}`).FindStringSubmatch(text)
		found := m != nil && slices.ContainsFunc(c.spans, func(s *v1.Span) bool { return fmt.Sprintf("%x", s.TraceId) == m[1] })
		if !found {
			t.Errorf("want an exemplar of %s that is one of the traces, have %v in\n%s", name, m, text)
		}
	}
}
