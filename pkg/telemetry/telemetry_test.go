package telemetry

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/telemetry/export"
	"example.com/base-app/pkg/web"
)

func TestNothingIsOnByDefault(t *testing.T) {
	tel, err := New(Options{App: "shop"})
	if tel != nil || err != nil {
		t.Fatalf("want nil, have %v, %v", tel, err)
	}
	ctx := NewContext(t.Context(), tel)
	if FromContext(ctx) != nil || tel.Handler() != nil || tel.Server() != nil || tel.Client("x") != nil || tel.Socket() != nil || tel.Dependencies() != nil {
		t.Error("want no hooks")
	}
	e := event.Event{ID: "e", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	events, end := tel.Publish(ctx, []event.Event{e})
	end("e1", nil)
	tel.Deliver(ctx, &events[0])
	changed, sent := tel.Send(ctx, &events[0], "inproc://x")
	sent(nil)
	own, handled := tel.Handle(ctx, &events[0])
	handled(Processed, nil)
	tel.Exception(ctx, "web", errors.New("x"))
	jobs, done := tel.Job(ctx, "report", "run")
	done("done", nil)
	if changed || jobs != ctx || own != ctx || events[0].TraceParent != e.TraceParent {
		t.Error("want the event and the context as they were")
	}
	_, span := tel.Tracers().Tracer("fork").Start(ctx, "own")
	_, err = tel.Meters().Meter("fork").Int64Counter("own")
	if err := errors.Join(err, tel.Observe(nil), tel.Close(ctx)); err != nil || span.IsRecording() {
		t.Errorf("have %v, and a span that records: %v", err, span.IsRecording())
	}
	if tel, err := New(Options{OTel: OTel{SDKDisabled: true, Endpoint: "nonsense"}}); tel != nil || err != nil {
		t.Errorf("want OTEL_SDK_DISABLED to switch off whatever is set, have %v, %v", tel, err)
	}
}

func TestAWrongSettingIsNamedAndNeverShown(t *testing.T) {
	const secret = "s3cret"
	ok := Influx{URL: "http://h:1", Token: "t", Bucket: "b"}
	for want, o := range map[string]Options{
		"OTEL_EXPORTER_OTLP_ENDPOINT: not an http URL": {OTel: OTel{Endpoint: "collector:4318/" + secret}},
		"OTEL_EXPORTER_OTLP_ENDPOINT: a URL with":      {OTel: OTel{Endpoint: "http://" + secret + "@h:1"}},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: not":      {OTel: OTel{TracesEndpoint: "ftp://" + secret}},
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: not":     {OTel: OTel{MetricsEndpoint: "http://h:99999/" + secret}},
		"OTEL_EXPORTER_OTLP_PROTOCOL: only":            {OTel: OTel{Protocol: "grpc"}},
		"OTEL_EXPORTER_OTLP_HEADERS: not a list":       {OTel: OTel{Headers: secret}},
		"OTEL_EXPORTER_OTLP_HEADERS: not":              {OTel: OTel{Headers: "a=" + secret + "%0a"}},
		"OTEL_RESOURCE_ATTRIBUTES: not a list":         {OTel: OTel{ResourceAttributes: secret}},
		"OTEL_TRACES_EXPORTER: unknown":                {OTel: OTel{TracesExporter: secret}},
		"OTEL_METRICS_EXPORTER: unknown":               {OTel: OTel{MetricsExporter: "prometheus"}},
		"OTEL_TRACES_SAMPLER: unknown":                 {OTel: OTel{TracesSampler: secret}},
		"OTEL_TRACES_SAMPLER_ARG: not a number":        {OTel: OTel{TracesSampler: "traceidratio", TracesSamplerArg: "NaN"}},
		"OTEL_TRACES_SAMPLER_ARG: not a number from 0": {OTel: OTel{TracesSampler: "parentbased_traceidratio", TracesSamplerArg: "1.01"}},
		"STATSD_ADDR: not an address":                  {StatsD: secret},
		"STATSD_ADDR: not an":                          {StatsD: "h:0"},
		"INFLUX_URL: not an http URL":                  {Influx: Influx{URL: "h:8086/" + secret, Token: ok.Token, Bucket: ok.Bucket}},
		"INFLUX_URL: missing":                          {Influx: Influx{Token: secret}},
		"INFLUX_TOKEN: missing":                        {Influx: Influx{URL: ok.URL, Bucket: ok.Bucket}},
		"INFLUX_TOKEN: has a control character":        {Influx: Influx{URL: ok.URL, Bucket: ok.Bucket, Token: secret + "\n"}},
		"INFLUX_BUCKET: missing":                       {Influx: Influx{URL: ok.URL, Token: ok.Token}},
	} {
		tel, err := New(o)
		if err == nil || fault.Of(err) != fault.KindConfig || !strings.Contains(err.Error(), want) || fault.Hint(err) == "" ||
			strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("want one line with %q and a hint, have %v (%s)", want, err, fault.Hint(err))
			closeNow(tel)
		}
	}
	_, err := New(Options{StatsD: "x", OTel: OTel{Protocol: "x"}})
	if fault.Of(err) != fault.KindConfig || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two problems told at once, have %v", err)
	}
}

var update = flag.Bool("update", false, "write docs/metrics.md")

func TestTheDocsAreTheTable(t *testing.T) {
	const file = "../../docs/metrics.md"
	var want bytes.Buffer
	if err := WriteMarkdown(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, want.Bytes()) {
		t.Errorf("docs/metrics.md is not what the table says (%v): make docs", err)
	}
}

// exercise makes every instrument of ours tell something.
func exercise(t testing.TB, tel *Telemetry) {
	t.Helper()
	url := serve(t, tel, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	client := http.Client{Timeout: patience, Transport: tel.Client("self")(&http.Transport{DisableKeepAlives: true})}
	answer, err := client.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if hook := tel.Socket(); hook != nil {
		hook("inproc://a", 1, 0)
		hook("inproc://a", -1, 1000)
	}
	calls := tel.Dependencies()
	for _, err := range []error{nil, errors.New("no"), context.Canceled, dependency.ErrOpen, dependency.ErrBusy, dependency.ErrRate} {
		calls.Try(t.Context(), "self", time.Millisecond, err)
	}
	calls.Breaker("self", dependency.Open)
	tel.Strike("handler", "latency")
	e := event.Event{ID: "e1", Delivery: 1, Time: time.Now()}
	events, end := tel.Publish(t.Context(), []event.Event{e})
	end("e", nil)
	tel.Deliver(t.Context(), &events[0])
	_, sent := tel.Send(t.Context(), &events[0], "inproc://a")
	sent(nil)
	_, handled := tel.Handle(t.Context(), &events[0])
	handled(Retried, errors.New("no"))
	_, done := tel.Job(t.Context(), "report", "run")
	done("failed", errors.New("no"))
	err = tel.Observe(func(_ context.Context, put Put) {
		for _, m := range Metrics() {
			_, asked := tel.observed[m.Name]
			if asked && !slices.Contains([]string{nameBuild, nameDropped, nameFailed, nameZMQInFlight}, m.Name) {
				put(m.Name, 1, slices.Repeat([]string{"x"}, len(m.Labels))...)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serve runs our web server with the stage of tel around h, and returns its URL.
func serve(t testing.TB, tel *Telemetry, h http.Handler) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/{$}", h)
	mux.Handle("GET /things/{id}", h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := web.New(l, web.Options{Handler: mux, Trace: tel.Server()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return "http://" + l.Addr().String()
}

func scrape(t testing.TB, tel *Telemetry, accept string) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("have %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var seriesForm = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
var labelForm = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)

// exported returns the labels of each metric in a scrape.
func exported(text string) map[string][]string {
	types := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		types[m[1]] = m[2]
	}
	all := map[string][]string{}
	for _, m := range seriesForm.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if types[name] != "histogram" {
			name += m[2]
		}
		labels := all[name]
		for _, l := range labelForm.FindAllStringSubmatch(m[3], -1) {
			if l[1] != "le" && !slices.Contains(labels, l[1]) {
				labels = append(labels, l[1])
			}
		}
		all[name] = labels
	}
	return all
}

func TestAllThatIsExportedIsInTheTableAndTheOtherWayRound(t *testing.T) {
	tel, _ := open(t, Options{Prometheus: true, StatsD: listenStatsD(t).LocalAddr().String()})
	exercise(t, tel)
	have := exported(scrape(t, tel, "text/plain"))
	delete(have, "target_info")
	for _, m := range Metrics() {
		labels, ok := have[m.Exported()]
		delete(have, m.Exported())
		switch {
		case !ok && m.Name == "go.memory.limit": // there is none
		case !ok:
			t.Errorf("%s is not exported", m.Exported())
		}
		for _, l := range labels {
			if !slices.ContainsFunc(m.Labels, func(want string) bool { return export.Label(want) == l }) {
				t.Errorf("%s: the table lacks the label %s", m.Exported(), l)
			}
		}
	}
	for name := range have {
		t.Errorf("the table lacks %s", name)
	}
}

func TestPrometheusTakesIt(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus)")
	}
	tel, _ := open(t, Options{Prometheus: true})
	exercise(t, tel)
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, tel, "text/plain"))
	out, _ := cmd.CombinedOutput()
	// OpenTelemetry's conventions and Prometheus' differ about this one name.
	const known = `go_goroutine_count non-histogram and non-summary metrics should not have "_count" suffix`
	if have := strings.TrimSpace(string(out)); have != known {
		t.Errorf("have\n%s", have)
	}
}

// Whatever clients send, the labels stay the same few.
func TestNothingThatAClientChoosesBecomesALabel(t *testing.T) {
	tel, _ := open(t, Options{Prometheus: true})
	base := serve(t, tel, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	browser := http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer browser.CloseIdleConnections()
	ask := func(method, path, host string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header = http.Header{"X-Request-Id": {"hostile-" + strconv.Itoa(len(path))}, "User-Agent": {"hostile"}, "Baggage": {"hostile=1"}}
		answer, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	for i := range 200 {
		ask("GET", fmt.Sprintf("/things/hostile-%d", i), fmt.Sprintf("hostile-%d", i))
		ask(fmt.Sprintf("HOSTILE%d", i), "/", "app")
		ask("GET", fmt.Sprintf("/hostile/%d%%0a%%22%%7d%%ff", i), "app")
	}
	hook := tel.Socket()
	client := tel.Client("partner")(refusing{})
	for i := range 500 {
		hook(fmt.Sprintf("tcp://127.0.0.1:%d", i), -1, 0)
		r := httptest.NewRequest("GET", fmt.Sprintf("http://host-%d/hostile?hostile=1", i), nil)
		_, _ = client.RoundTrip(r)
	}
	text := scrape(t, tel, "text/plain")
	if strings.Contains(text, "hostile") || strings.Contains(text, "HOSTILE") {
		t.Error("want nothing of what the clients sent in the metrics")
	}
	series := map[string]int{}
	for _, m := range seriesForm.FindAllStringSubmatch(text, -1) {
		series[m[1]+m[2]]++
	}
	for name, n := range series {
		if n > (most+1)*(len(latencyBuckets)+1) {
			t.Errorf("%s has %d series", name, n)
		}
	}
	if !strings.Contains(text, `endpoint="/things/{id}"`) || !strings.Contains(text, `endpoint="_OTHER"`) || !strings.Contains(text, `method="_OTHER"`) || !strings.Contains(text, `server_address="_OTHER"`) {
		t.Errorf("want the pattern and _OTHER, have\n%s", text)
	}
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

func TestASourceThatIsWrongEndsNothing(t *testing.T) {
	tel, log := open(t, Options{Prometheus: true})
	for _, read := range []func(context.Context, Put){
		func(_ context.Context, put Put) { put("unknown", 1); put("queue_depth", 7) },
		func(_ context.Context, put Put) { put("queue_bytes", 1, "a label too many"); panic("boom") },
	} {
		if err := tel.Observe(read); err != nil {
			t.Fatal(err)
		}
	}
	if text := scrape(t, tel, "text/plain"); !strings.Contains(text, "queue_depth 7") || !strings.Contains(text, "build_info") || strings.Contains(text, "unknown") {
		t.Errorf("want all the rest, have\n%s", text)
	}
	if text := log.String(); !strings.Contains(text, "unknown") || !strings.Contains(text, "boom") {
		t.Errorf("want both told, have\n%s", text)
	}
}

func TestTriesOfADependencyAreToldApartFromRefusals(t *testing.T) {
	tel, _ := open(t, Options{Prometheus: true})
	exercise(t, tel)
	text := scrape(t, tel, "text/plain")
	for _, want := range []string{`dependency_try_duration_seconds_count{dependency="self",outcome="done"} 1`, `dependency_try_duration_seconds_count{dependency="self",outcome="failed"} 1`,
		`dependency_try_duration_seconds_count{dependency="self",outcome="cancelled"} 1`, `dependency_tries_refused_total{dependency="self",reason="open"} 1`,
		`dependency_tries_refused_total{dependency="self",reason="busy"} 1`, `dependency_tries_refused_total{dependency="self",reason="rate"} 1`,
		`dependency_breaker_changes_total{dependency="self",state="open"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("want %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// A redirect to another host takes nothing along of what caused the call, through the hook either.
func TestATraceStaysWithTheHostThatWasCalled(t *testing.T) {
	c := collect(t)
	tel, _ := open(t, Options{OTel: OTel{Endpoint: c.URL}})
	sent := make(chan http.Header, 2)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent <- r.Header }))
	defer elsewhere.Close()
	called := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer called.Close()
	d, err := dependency.New(dependency.Options{}).Add("partner", dependency.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	client := web.NewClient(d, web.ClientOptions{Wrap: tel.Client("partner")})
	defer client.Close()
	ctx, span := tel.Tracers().Tracer("test").Start(extract(t.Context(), &event.Event{Baggage: "tenant=7"}), "cause")
	defer span.End()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, called.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if h := <-sent; !strings.Contains(h.Get("Traceparent"), span.SpanContext().TraceID().String()) || h.Get("Baggage") != "tenant=7" {
		t.Errorf("want the trace and the baggage at the host that was called, have %v", h)
	}
	if h := <-sent; h.Get("Traceparent") != "" || h.Get("Baggage") != "" {
		t.Errorf("want neither elsewhere, have %v", h)
	}
}

// Whoever forces the end does not wait for a collector that hangs, though an orderly end waits for it.
func TestASecondCloseDoesNotWaitForTheFirst(t *testing.T) {
	begun, hangs, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	tel := &Telemetry{core: export.Core{Closers: []func(context.Context) error{func(context.Context) error { close(begun); <-hangs; return nil }}}}
	go func() { ended <- tel.Close(context.Background()) }()
	<-begun
	again := make(chan error, 1)
	go func() { again <- tel.Close(context.Background()) }()
	select {
	case err := <-again:
		if err != nil {
			t.Errorf("want nothing to say, have %v", err)
		}
	case <-time.After(patience):
		t.Error("the second Close waits for the first")
	}
	close(hangs)
	if err := <-ended; err != nil {
		t.Errorf("want the first one to end in order, have %v", err)
	}
}
