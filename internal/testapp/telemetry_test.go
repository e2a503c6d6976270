package main

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/event"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanBook is a collector that notes each span as "name" under its id.
type spanBook struct {
	mu     sync.Mutex
	name   map[string]string // by span id
	parent map[string]string
	trace  map[string]string
}

func (b *spanBook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in tracepb.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err != nil || proto.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, resource := range in.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				id := hex.EncodeToString(s.SpanId)
				b.name[id], b.parent[id], b.trace[id] = s.Name, hex.EncodeToString(s.ParentSpanId), hex.EncodeToString(s.TraceId)
			}
		}
	}
}

// path returns the names from the first span of a trace to the one called last.
func (b *spanBook) path(trace, last string) (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, name := range b.name {
		if name == last && b.trace[id] == trace {
			for ; b.name[id] != ""; id = b.parent[id] {
				names = append(names, b.name[id])
			}
			slices.Reverse(names)
			return names
		}
	}
	return nil
}

var (
	requestLine = regexp.MustCompile(`"msg":"request".*"request_id":"([^"]*)","trace_id":"([0-9a-f]{32})","span_id":"[0-9a-f]{16}".*"path":"/events"`)
	failedLine  = regexp.MustCompile(`"msg":"event failed, it comes again".*"request_id":"([^"]*)","trace_id":"([0-9a-f]{32})","span_id":"[0-9a-f]{16}"`)
)

// One trace leads from the request to the handler, in the next life of the process, too, and the lines of both carry its id.
func TestOneTraceLeadsFromTheRequestToTheHandlerOfTheNextLife(t *testing.T) {
	book := &spanBook{name: map[string]string{}, parent: map[string]string{}, trace: map[string]string{}}
	collector := httptest.NewServer(book)
	defer collector.Close()
	dir := t.TempDir()
	r := newRecorder(t, dir, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_METRICS_EXPORTER=none", "LOG_LEVEL=info", "LOG_FORMAT=json", "OTEL_BSP_SCHEDULE_DELAY=50")
	r.path = program(t, "faulty")
	r.start()
	r.ready()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Post("http://"+r.addr+"/events", "application/json", strings.NewReader(`{"id":"e1"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	await(t, "the event to fail", func() bool { return failedLine.MatchString(r.log()) })
	request, first := requestLine.FindStringSubmatch(r.log()), failedLine.FindStringSubmatch(r.log())
	if request == nil || request[1] != first[1] || request[2] != first[2] {
		t.Fatalf("want the same ids in the lines of the request and of the handling, have %q and %q", request, first)
	}
	want := []string{"POST /events", "publish events", "deliver event", "send app-relay", "send app-worker", "handle event"}
	trace := first[2]
	await(t, "the trace", func() bool { return slices.Equal(book.path(trace, "handle event"), want) })
	r.kill()

	book.mu.Lock() // what follows is the next life's
	for id, name := range book.name {
		if name == "handle event" {
			delete(book.name, id)
		}
	}
	book.mu.Unlock()
	r.start()
	await(t, "the event to fail again", func() bool { return failedLine.MatchString(r.log()) })
	if again := failedLine.FindStringSubmatch(r.log()); again[2] != trace || again[1] != first[1] {
		t.Errorf("want trace %s and request %s after the crash, have %q", trace, first[1], again)
	}
	await(t, "the trace after the crash", func() bool { return slices.Equal(book.path(trace, "handle event"), want) })
	r.stop()
}

// runFaulty runs the app with a handler that always fails.
func runFaulty(rt *base.Runtime, _ *config) error {
	return runWith(rt, func(context.Context, event.Event) error { return errors.New("out of order") })
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}
