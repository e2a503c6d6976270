package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"example.com/base-app/internal/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a step may take that should be immediate: the machine may be busy.
const patience = 10 * time.Second

// open returns a Telemetry with a log, which is closed when the test ends.
func open(t testing.TB, o Options) (*Telemetry, *testlog.Log) {
	t.Helper()
	log := &testlog.Log{}
	o.App, o.Device, o.Version, o.Commit, o.Go, o.Deployment = "shop", "box-1", "1.2.3", "abc", "go1", "blue"
	o.Log = log.Logger(slog.LevelInfo)
	tel, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(tel) })
	return tel, log
}

func closeNow(tel *Telemetry) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = tel.Close(now)
	if tel != nil {
		tel.ending.Wait()
	}
}

func flush(t *testing.T, tel *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tel.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

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

// influxServer takes what InfluxDB's write API takes, and answers what it is told to.
type influxServer struct {
	*httptest.Server
	t      *testing.T
	answer func(n int, w http.ResponseWriter) bool // answers the nth request and says so; nil: 204

	mu     sync.Mutex
	asked  int
	points map[string]int // measurement → lines
	fields map[string]map[string]float64
	tags   map[string]string // of build_info
}

func influxDB(t *testing.T, answer func(n int, w http.ResponseWriter) bool) *influxServer {
	s := &influxServer{t: t, answer: answer, points: map[string]int{}, fields: map[string]map[string]float64{}, tags: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *influxServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	q := r.URL.Query()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v2/write" || q.Get("bucket") != "b ü" || q.Get("org") != "o&o" ||
		q.Get("precision") != "ns" || r.Header.Get("Authorization") != "Token t0ken" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		s.t.Errorf("influx: %s %s %v %v", r.Method, r.URL, r.Header, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.answer != nil {
		if s.answer(s.asked, w) {
			return
		}
	}
	if err := s.read(body); err != nil {
		s.t.Errorf("influx: %v", err)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *influxServer) read(body []byte) error {
	d := lineprotocol.NewDecoderWithBytes(body)
	for d.Next() {
		name, err := d.Measurement()
		if err != nil {
			return err
		}
		last := ""
		for {
			key, value, err := d.NextTag()
			if err != nil {
				return err
			}
			if key == nil {
				break
			}
			if string(key) <= last || len(value) == 0 {
				return fmt.Errorf("%s: the tag %s stands behind %s", name, key, last)
			}
			if last = string(key); string(name) == "build_info" {
				s.tags[last] = string(value)
			}
		}
		s.points[string(name)]++
		fields := map[string]float64{}
		for {
			key, value, err := d.NextField()
			if err != nil {
				return err
			}
			if key == nil {
				break
			}
			fields[string(key)] = value.FloatV()
		}
		s.fields[string(name)] = fields
		if at, err := d.Time(lineprotocol.Nanosecond, time.Time{}); err != nil || time.Since(at) > time.Hour || time.Since(at) < 0 {
			return fmt.Errorf("%s: time %v, %v", name, at, err)
		}
	}
	return nil
}

// dogstatsd is a server that knows the protocol's grammar.
type dogstatsd struct {
	net.PacketConn
	t     *testing.T
	mu    sync.Mutex
	lines []string
	done  chan struct{}
}

var datagramLine = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.]*:-?[0-9]+(\.[0-9]+)?\|[cg]\|#[a-zA-Z0-9_]+:[^,|#\n]+(,[a-zA-Z0-9_]+:[^,|#\n]+)*$`)

func listenStatsD(t *testing.T) *dogstatsd {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dogstatsd{PacketConn: c, t: t, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 64<<10)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n > maxDatagram {
				t.Errorf("a datagram of %d bytes", n)
			}
			s.mu.Lock()
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				if !datagramLine.MatchString(line) {
					t.Errorf("not a line of dogstatsd: %q", line)
				}
				s.lines = append(s.lines, line)
			}
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-s.done })
	return s
}

// find waits for a line that begins with prefix.
func (s *dogstatsd) find(prefix string) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		s.mu.Lock()
		for _, l := range s.lines {
			if strings.HasPrefix(l, prefix) {
				s.mu.Unlock()
				return l
			}
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Errorf("no line begins with %s:\n%s", prefix, strings.Join(s.lines, "\n"))
	return ""
}
