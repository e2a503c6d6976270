package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/event"
)

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

// get makes a request, within a trace unless it is empty.
func get(t *testing.T, url, traceParent string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if traceParent != "" {
		r.Header.Set("Traceparent", traceParent)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
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

func TestStatsDGetsWhatHappened(t *testing.T) {
	s := listenStatsD(t)
	tel, _ := open(t, Options{StatsD: s.LocalAddr().String()})
	exercise(t, tel)
	flush(t, tel)
	for _, prefix := range []string{
		`request_count_total:1|c|#app:shop,deployment:blue,device:box-1,endpoint:/{$},method:GET,service:shop,status:200,version:1.2.3`,
		`build_info:1|g|#app:shop,commit:abc,deployment:blue,device:box-1,go:go1,version:1.2.3`,
		`request_latency_seconds_bucket:1|c|#le:`, `request_latency_seconds_sum:0.`, `request_latency_seconds_count:1|c|#`,
		`queue_depth:1|g|#`, `event_handle_duration_seconds_count:1|c|#app:shop,deployment:blue,device:box-1,outcome:retried,`, `zmq_messages_in_flight:0|g|#app:shop,deployment:blue,device:box-1,endpoint:inproc://a,`,
	} {
		s.find(prefix)
	}
}

func TestWhatWouldEndALineOfStatsDIsReplaced(t *testing.T) {
	e := newStatsD("127.0.0.1:1", [][2]string{{"app", "a,b|c#d\ne"}, {"device", ""}}, &loss{})
	var have []string
	e.lines(point{name: "x", kind: Counter, value: 0.25, attrs: attribute.NewSet(attribute.String("http.route", "/a,b|c\n"))}, func(l string) { have = append(have, l) })
	e.lines(point{name: "x", kind: Counter}, func(l string) { have = append(have, l) }) // nothing happened
	if want := "x:0.25|c|#app:a_b_c_d_e,http_route:/a_b_c_"; strings.Join(have, "\n") != want {
		t.Errorf("want %s, have %q", want, have)
	}
}

var influxTo = func(url string) Influx { return Influx{URL: url, Token: "t0ken", Org: "o&o", Bucket: "b ü"} }

func TestInfluxDBGetsSnapshots(t *testing.T) {
	s := influxDB(t, nil)
	tel, _ := open(t, Options{Influx: influxTo(s.URL + "/")})
	exercise(t, tel)
	flush(t, tel)
	for _, m := range []string{"request_count_total", "queue_depth", "build_info", "go_goroutine_count"} {
		if s.points[m] != 1 || s.fields[m]["value"] < 1 {
			t.Errorf("%s: have %d lines, %v", m, s.points[m], s.fields[m])
		}
	}
	if f := s.fields["request_latency_seconds"]; f["count"] != 1 || f["+Inf"] != 1 || f["sum"] <= 0 {
		t.Errorf("have %v", f)
	}
	if want := "map[app:shop commit:abc deployment:blue device:box-1 go:go1 version:1.2.3]"; fmt.Sprint(s.tags) != want {
		t.Errorf("want %s, have %v", want, s.tags)
	}
}

var filler = strings.Repeat("x", 1000)

// fill is a snapshot of so many points, a KiB each.
func fill(points int) *metricdata.ResourceMetrics {
	data := metricdata.Gauge[float64]{}
	for i := range points {
		data.DataPoints = append(data.DataPoints, metricdata.DataPoint[float64]{Time: time.Now(), Value: 1, Attributes: attribute.NewSet(attribute.Int("n", i), attribute.String("filler", filler))})
	}
	return &metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{{Name: "many", Data: data}}}}}
}

func TestInfluxDBTriesAgainWhatCanHelp(t *testing.T) {
	for _, c := range []struct {
		status, asked   int
		after           string
		dropped, failed uint64
		atLeast         time.Duration
	}{
		{http.StatusInternalServerError, 3, "", 0, 2, 0},
		{http.StatusTooManyRequests, 3, "7", 0, 2, 14 * time.Second},
		{http.StatusServiceUnavailable, 3, "nonsense", 0, 2, 0},
		{http.StatusBadRequest, 1, "", 10, 1, 0},
		{http.StatusUnauthorized, 1, "", 10, 1, 0},
		{http.StatusFound, 1, "", 10, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked, began, last := 0, time.Now(), time.Time{}
			l, log := newTestLoss("influx")
			e := newInflux("http://db/api/v2/write", "t", nil, l)
			e.client.Transport = tripFunc(func(r *http.Request) (*http.Response, error) {
				asked, last = asked+1, time.Now()
				w := httptest.NewRecorder()
				if asked < 3 {
					w.Header().Set("Retry-After", c.after)
					w.Header().Set("Location", "http://elsewhere/")
					w.WriteHeader(c.status)
				} else {
					w.WriteHeader(http.StatusNoContent)
				}
				return w.Result(), nil
			})
			_ = e.Export(t.Context(), fill(10))
			time.Sleep(time.Hour)
			synctest.Wait()
			if asked != c.asked || l.dropped.Load() != c.dropped || l.failed.Load() != c.failed {
				t.Errorf("%d: want %d tries, %d dropped, %d failures; have %d, %d, %d", c.status, c.asked, c.dropped, c.failed, asked, l.dropped.Load(), l.failed.Load())
			}
			if err := e.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "telemetry can't be sent"); n != 1 {
				t.Errorf("%d: want it told once a minute, have %d lines", c.status, n)
			}
			if took := last.Sub(began); took < c.atLeast {
				t.Errorf("%d: want the server's pauses kept, it took %v", c.status, took)
			}
		})
	}
}

// newTestLoss returns the loss of an exporter without a Telemetry, and its log.
func newTestLoss(exporter string) (*loss, *testlog.Log) {
	log := &testlog.Log{}
	return &loss{exporter: exporter, warnings: newWarnings(log.Logger(slog.LevelInfo), exporter)}, log
}

type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestInfluxDBDropsTheOldestOfTooMuch(t *testing.T) {
	release := make(chan struct{})
	l, _ := newTestLoss("influx")
	e := newInflux("http://db/api/v2/write", "t", nil, l)
	e.client.Transport = tripFunc(func(r *http.Request) (*http.Response, error) {
		<-release
		return nil, errors.New("gone")
	})
	const points, rounds = 200, 50
	for range rounds {
		_ = e.Export(t.Context(), fill(points))
	}
	size := len(e.encode(fill(points)).text)
	if waiting := e.box.Stats().Waiting; waiting*size > influxBytes || waiting == 0 || l.dropped.Load() == 0 {
		t.Errorf("want at most %d bytes and the rest counted, have %d snapshots of %d and %d dropped", influxBytes, waiting, size, l.dropped.Load())
	}
	close(release)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if have := l.dropped.Load(); have != points*rounds {
		t.Errorf("want all %d counted in the end, have %d", points*rounds, have)
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
	if have := tel.losses[0].dropped.Load(); have != 900 {
		t.Errorf("want 900 dropped, have %d", have)
	}
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tel.Close(brief); err == nil {
		t.Error("want to be told that the rest was not sent")
	}
}

// A collector may say anything: it is one short line, once a minute.
func TestWhatGoesWrongIsToldOnceAMinuteInOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &testlog.Log{}
		otlp, statsd := newWarnings(log.Logger(slog.LevelInfo), "otlp"), newWarnings(log.Logger(slog.LevelInfo), "statsd")
		for range 150 {
			otlp.Failed(t.Context(), errors.New("bad\nthings \xff"+strings.Repeat("é", 1000)))
			statsd.Failed(t.Context(), errors.New("other"))
			time.Sleep(time.Second)
		}
		if text := log.String(); strings.Count(text, "exporter=otlp") != 3 || strings.Count(text, "exporter=statsd") != 3 || !strings.Contains(text, "more=59") {
			t.Errorf("have\n%s", text)
		}
		for line := range strings.Lines(log.String()) {
			if len(line) > 2*maxLogged {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	})
}
