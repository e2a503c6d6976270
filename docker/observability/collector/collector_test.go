// Package collector_test runs collector.yml in the collector itself, as the image of docker/compose.observability.yml does. What
// differs is addresses: what it listens on, and where it sends things to. So the configuration is as strictly read as it can be, and
// what comes in goes on as it should.
//
// The image is the distribution "contrib"; only the components that the configuration names are here.
package collector_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/transformprocessor"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/fluentforwardreceiver"
	"github.com/tinylib/msgp/msgp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/debugexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

var update = flag.Bool("update", false, "note that this configuration was run")

const (
	config = "collector.yml"
	// noted is the configuration's checksum when this test last passed; docker/observability looks whether it is that of today.
	noted    = "collector.sum"
	patience = time.Minute
)

func factories() (otelcol.Factories, error) {
	var f otelcol.Factories
	var err error
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory(), fluentforwardreceiver.NewFactory()); err != nil {
		return f, err
	}
	if f.Processors, err = otelcol.MakeFactoryMap[processor.Factory](memorylimiterprocessor.NewFactory(), batchprocessor.NewFactory(), transformprocessor.NewFactory()); err != nil {
		return f, err
	}
	if f.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory(), debugexporter.NewFactory()); err != nil {
		return f, err
	}
	f.Telemetry = otelconftelemetry.NewFactory()
	return f, nil
}

// recorder notes what is sent to it, by path.
type recorder struct {
	mu     sync.Mutex
	bodies map[string][][]byte
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil || q.Header.Get("Content-Type") != "application/x-protobuf" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies[q.URL.Path] = append(r.bodies[q.URL.Path], body)
}

// first waits for what is sent to a path.
func (r *recorder) first(t *testing.T, path string) []byte {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(patience); time.Now().Before(late); <-look.C {
		r.mu.Lock()
		list := r.bodies[path]
		r.mu.Unlock()
		if len(list) > 0 {
			return list[0]
		}
	}
	t.Fatalf("nothing came to %s", path)
	return nil
}

// free returns an address of the loopback that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// run starts the collector on the configuration, with some of its values replaced, until the test ends.
func run(t *testing.T, replaced ...string) {
	t.Helper()
	uris := []string{"file:" + config}
	for _, r := range replaced {
		uris = append(uris, "yaml:"+r)
	}
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(), Factories: factories, DisableGracefulShutdown: true,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{URIs: uris,
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), yamlprovider.NewFactory()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(context.Background()) }()
	t.Cleanup(func() {
		c.Shutdown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(patience); c.GetState() != otelcol.StateRunning; <-look.C {
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("it doesn't start: %v", err)
		default:
		}
		if time.Now().After(late) {
			t.Fatal("it doesn't start")
		}
	}
}

func send(t *testing.T, url string, body []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Post(url, "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, answer.Status)
	}
}

// line is a log line as the app writes it.
const line = `{"time":"2026-11-22T11:58:47.015979631Z","level":"ERROR","msg":"event is dead","app":"base-app","request_id":"r1","trace_id":"e5a920942887bdeaff1de7e0b56efd0f","span_id":"0df262466340d88c","id":"e1"}`

func TestWhatComesInGoesOn(t *testing.T) {
	jaeger, prometheus, lines := &recorder{bodies: map[string][][]byte{}}, &recorder{bodies: map[string][][]byte{}}, &recorder{bodies: map[string][][]byte{}}
	var urls []string
	for _, r := range []*recorder{jaeger, prometheus, lines} {
		s := httptest.NewServer(r)
		defer s.Close()
		urls = append(urls, s.URL)
	}
	otlp, fluent := free(t), free(t)
	_, port, _ := net.SplitHostPort(free(t))
	run(t,
		`receivers::otlp::protocols::http::endpoint: "`+otlp+`"`,
		`receivers::fluent_forward::endpoint: "`+fluent+`"`,
		`service::telemetry::metrics::readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: `+port+`}}}}]`,
		`exporters::otlp_http/jaeger::endpoint: "`+urls[0]+`"`,
		`exporters::otlp_http/prometheus::endpoint: "`+urls[1]+`/api/v1/otlp"`,
		// Besides the log, to be looked at.
		`exporters::otlp_http/lines::endpoint: "`+urls[2]+`"`,
		`exporters::otlp_http/lines::compression: none`, `exporters::otlp_http/jaeger::compression: none`, `exporters::otlp_http/prometheus::compression: none`,
		`service::pipelines::logs::exporters: [debug/lines, otlp_http/lines]`)

	traces := ptrace.NewTraces()
	traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("handle event")
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	send(t, "http://"+otlp+"/v1/traces", body, err)
	gotTraces := ptraceotlp.NewExportRequest()
	if err := gotTraces.UnmarshalProto(jaeger.first(t, "/v1/traces")); err != nil || gotTraces.Traces().SpanCount() != 1 {
		t.Errorf("want the span at Jaeger, have %v, %v", gotTraces, err)
	}

	metrics := pmetric.NewMetrics()
	m := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("queue_depth")
	m.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(7)
	body, err = pmetricotlp.NewExportRequestFromMetrics(metrics).MarshalProto()
	send(t, "http://"+otlp+"/v1/metrics", body, err)
	gotMetrics := pmetricotlp.NewExportRequest()
	if err := gotMetrics.UnmarshalProto(prometheus.first(t, "/api/v1/otlp/v1/metrics")); err != nil || gotMetrics.Metrics().DataPointCount() != 1 {
		t.Errorf("want the metric at Prometheus, have %v, %v", gotMetrics, err)
	}

	// As docker's fluentd driver does: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1#message-modes
	message := msgp.AppendArrayHeader(nil, 3)
	message = msgp.AppendString(message, "base-app")
	message = msgp.AppendInt64(message, 1795262327)
	message = msgp.AppendMapStrStr(message, map[string]string{"container_name": "/base-app-app-1", "source": "stdout", "log": line})
	c, err := net.Dial("tcp", fluent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	gotLogs := plogotlp.NewExportRequest()
	if err := gotLogs.UnmarshalProto(lines.first(t, "/v1/logs")); err != nil || gotLogs.Logs().LogRecordCount() != 1 {
		t.Fatalf("want the line, have %v, %v", gotLogs, err)
	}
	have := gotLogs.Logs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	if have.Body().AsString() != "event is dead" || have.SeverityText() != "ERROR" || have.SeverityNumber().String() != "Error" ||
		have.TraceID().String() != "e5a920942887bdeaff1de7e0b56efd0f" || have.SpanID().String() != "0df262466340d88c" {
		t.Errorf("want the line's message, level and trace, have %q %q %v %v %v", have.Body().AsString(), have.SeverityText(), have.SeverityNumber(), have.TraceID(), have.SpanID())
	}
	for name, want := range map[string]string{"app": "base-app", "request_id": "r1", "id": "e1", "container_name": "/base-app-app-1"} {
		if v, ok := have.Attributes().Get(name); !ok || v.AsString() != want {
			t.Errorf("%s: want %q, have %q", name, want, v.AsString())
		}
	}

	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(noted, fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(text), config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The image is the version that is tested here.
func TestTheImageIsTheVersionThatRunsHere(t *testing.T) {
	overlay, err := os.ReadFile("../../compose.observability.yml")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`go.opentelemetry.io/collector/otelcol v(\S+)`).FindSubmatch(module)[1]
	if !strings.Contains(string(overlay), "otel/opentelemetry-collector-contrib:"+string(version)+"}") {
		t.Errorf("want the image of version %s", version)
	}
}
