package demo_test

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is one, as the collector was told.
type span struct{ service, name, id, parent string }

// spans is a collector of traces, by OTLP over HTTP.
type spans struct {
	url string

	mu   sync.Mutex
	list map[string][]span // by trace
}

func collect(t *testing.T) *spans {
	t.Helper()
	s := &spans{list: map[string][]span{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.take(r); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *spans) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var told collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(text, &told); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range told.ResourceSpans {
		service := ""
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			for _, one := range scope.Spans {
				trace := hex.EncodeToString(one.TraceId)
				s.list[trace] = append(s.list[trace], span{service, one.Name, hex.EncodeToString(one.SpanId), hex.EncodeToString(one.ParentSpanId)})
			}
		}
	}
	return nil
}

// path returns the spans of a trace that has no branches, from the root on: "service: name > …".
func (s *spans) path(trace string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	children := map[string][]span{}
	for _, one := range s.list[trace] {
		children[one.parent] = append(children[one.parent], one)
	}
	var names []string
	for at := ""; len(children[at]) == 1; at = children[at][0].id {
		names = append(names, children[at][0].service+": "+children[at][0].name)
	}
	return strings.Join(names, " > ")
}

func TestOneRequestIsOneTraceOfSixSpansAndEachLineHasItsID(t *testing.T) {
	dir := build(t)
	db, traces := newDatabase(t), collect(t)
	db.start(t)
	otel := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.url, "OTEL_METRICS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=50", "METRICS_ADDR=127.0.0.1:0"}
	service2 := start(t, dir, "service2", append(otel, "APP_DATABASE_URL="+db.url)...)
	service1 := start(t, dir, "service1", append(otel, "APP_SERVICE2_URL="+service2.url)...)
	eventually(t, "service2 is ready", func() bool { return service2.get(t, "/readyz") == 200 })

	if a := service1.ask(t, "GET", "/", "", "X-Request-ID: traced"); a.status != 200 {
		t.Fatalf("have %+v", a)
	}
	ids := map[string]bool{}
	lines := append(service1.of(t, "traced"), service2.of(t, "traced")...)
	for _, l := range lines {
		ids[l.TraceID] = true
	}
	id := lines[0].TraceID
	if len(lines) != 4 || len(ids) != 1 || len(id) != 32 {
		t.Fatalf("want four lines with one trace's id, have %v", lines)
	}
	const want = "service1: GET /{$} > service1: service2 > service1: GET > service2: GET /{$} > service2: users-db > service2: SELECT users"
	eventually(t, "the trace is "+want, func() bool { return traces.path(id) == want })

	// The metrics of both lead to it: each latency names the trace of a request that took so long.
	for s, series := range map[*service][]string{
		service1: {`request_latency_seconds_bucket{endpoint="/{$}",service="service1",`, `client_request_latency_bucket{destination="service2",origin="service1",`},
		service2: {`request_latency_seconds_bucket{endpoint="/{$}",service="service2",`, `dependency_try_duration_seconds_bucket{dependency="users-db",outcome="done",`},
	} {
		text := s.metrics(t)
		for _, one := range series {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(one) + `.* # \{.*trace_id="` + id + `".*\}`).MatchString(text) {
				t.Errorf("%s: want %s…} with the trace's id %s, have\n%s", s.name, one, id, text)
			}
		}
	}

	// The caller's trace goes on.
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	service1.ask(t, "GET", "/honeypot/", "", "X-Request-ID: continued", "Traceparent: 00-"+theirs+"-b7ad6b7169203331-01")
	for _, l := range service1.of(t, "continued") {
		if l.TraceID != theirs {
			t.Errorf("want the caller's trace in each line, have %s", l.text)
		}
	}
}
