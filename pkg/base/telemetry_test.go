package base

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
)

func TestWrongTelemetryIsRefusedAtStart(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, setting := range []string{"METRICS_ADDR=" + busy.Addr().String(), "METRICS_ADDR=nonsense", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318",
		"OTEL_TRACES_SAMPLER=some", "STATSD_ADDR=nowhere", "INFLUX_URL=http://db:8086", "OTEL_EXPORTER_OTLP_HEADERS=t0ken", "METRIC_ADDR=:1", "INFLUX_TOKN=t0ken"} {
		name, _, _ := strings.Cut(setting, "=")
		code, _, err := call(t, func(rt *Runtime) error { rt.Done("tested"); return rt.Wait() }, []string{setting})
		if name == "METRIC_ADDR" { // not ours: only a warning
			if code != 0 {
				t.Errorf("%s: have %d", setting, code)
			}
			continue
		}
		problem, _, _ := strings.Cut(name, "_URL")
		if code != 78 || strings.Count(err, "\n") != 1 || !strings.Contains(err, problem) || strings.Contains(err, "t0ken") {
			t.Errorf("%s: want 78 and one line that names it, have %d, %s", setting, code, err)
		}
	}
	if code, out, _ := call(t, func(rt *Runtime) error { rt.Done("tested"); return rt.Wait() }, []string{"METRICS_ADDR=off", "OTEL_ANYTHING=x", "OTEL_BSP_SCHEDULE_DELAY=100"}); code != 0 || strings.Contains(out, "serving metrics") {
		t.Errorf("want off to mean nowhere and other OTEL_ names taken, have %d\n%s", code, out)
	}
}

var metricsURL = regexp.MustCompile(`"msg":"serving metrics".*"url":"([^"]*)"`)

// A running app exports what the table says, and nothing else; only what hasn't happened may be missing.
func TestARunningAppExportsTheTable(t *testing.T) {
	partner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer partner.Close()
	logs := &lockedText{}
	var text string
	run := func(rt *Runtime) error {
		q, err := rt.OpenQueue(1, 0)
		if err != nil {
			return err
		}
		client, err := rt.Client("partner", dependency.Policy{})
		if err != nil {
			return err
		}
		flaky, err := rt.Depend("flaky", dependency.Policy{Failures: 1})
		if err != nil {
			return err
		}
		for range 2 { // the first failure opens the breaker, which refuses the second call
			_ = flaky.Do(rt.Context(), func(context.Context) error { return dependency.Failure(io.ErrUnexpectedEOF) })
		}
		rt.Serve(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /broken", func(http.ResponseWriter, *http.Request) { panic("boom") })
			mux.HandleFunc("GET /call", func(w http.ResponseWriter, r *http.Request) {
				out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, partner.URL, nil)
				answer, err := client.Do(out)
				if err != nil {
					t.Error(err)
					return
				}
				_ = answer.Body.Close()
			})
		})
		rt.Started()
		statusOf(t, rt.addr, "/broken")
		statusOf(t, rt.addr, "/call")
		onePipe(t, rt)
		id := event.NewID()
		events, published := rt.Telemetry.Publish(rt.Context(), []event.Event{{ID: id, Body: []byte("{}")}})
		_, err = q.Publish(rt.Context(), events...)
		if published(id, err); err != nil {
			return err
		}
		e, err := q.Next(telemetry.NewContext(rt.Context(), rt.Telemetry))
		if err != nil {
			return err
		}
		if err := q.Begin(e.Receipt); err != nil {
			return err
		}
		_, end := rt.Telemetry.Handle(rt.Context(), &e)
		end(telemetry.Processed, q.Ack(e.Receipt))
		for fate, err := q.Status(rt.Context(), id); fate.State != queue.StateProcessed; fate, err = q.Status(rt.Context(), id) {
			if err != nil {
				return err
			}
		}
		strike(t, rt)           // part chaos
		report(rt, partner.URL) // part schedule
		// The queue's state is asked for once a second at most: what is counted here is known at once.
		text = fetch(t, metricsURL.FindStringSubmatch(logs.String())[1])
		rt.Done("tested")
		return rt.Wait()
	}
	dir := t.TempDir()
	vars := []string{"METRICS_ADDR=127.0.0.1:0", "STATSD_ADDR=127.0.0.1:9", "DATA_DIR=" + dir, "DEPLOYMENT_ID=blue"}
	vars = append(vars, "SENTRY_IGNORE=nobody") // part alert
	for range 2 {                               // the second knows how the first ended
		logs.reset()
		if code := callTo(t, logs, run, vars); code != 0 {
			t.Fatalf("have %d\n%s", code, logs)
		}
	}
	for _, want := range []string{`build_info{commit="",deployment="blue",go="go`, `last_exit_info{code="0",kind="done"} 1`, "events_accepted_total 1", "events_processed_total 1",
		`uncaught_exceptions_total{kind="panic",where="web"} 1`, "queue_available 1", "workers_stalled 0", `zmq_recv_duration_seconds_count{endpoint="inproc://x"} 1`,
		`job_runs_total{job="report",outcome="done"} `, `job_pings_total{job="report",outcome="sent"} `, `job_last_success_timestamp_seconds{job="report"} `, // part schedule
		`dependency_tries_refused_total{dependency="flaky",reason="open"} 1`, `dependency_breaker_changes_total{dependency="flaky",state="open"} 1`, `dependency_breaker_open{dependency="flaky"} 1`,
		"chaos_orders_active 1", `chaos_strikes_total{kind="error",point="here"} 1`, // part chaos
		`client_request_latency_count{destination="partner",origin="base-app"} 1`, `request_count_total{endpoint="/call",method="GET",service="base-app",status="200"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("want %s", want)
		}
	}
	known := map[string]bool{"target_info": true}
	for _, m := range telemetry.Metrics() {
		known[m.Exported()] = true
		if !strings.Contains(text, "# TYPE "+m.Exported()+" ") && m.Name != "go.memory.limit" {
			t.Errorf("%s is in the table and not exported", m.Exported())
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		if !known[m[1]] {
			t.Errorf("%s is exported and not in the table", m[1])
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// What is not known is left out: a number that is 0 in its place is believed. Nor does the end of the process make the queue
// unavailable: some keep the last that they heard.
func TestWhatIsNotKnownOfTheQueueIsNotMeasured(t *testing.T) {
	measured := func(rt *Runtime, ctx context.Context) map[string]float64 {
		values := map[string]float64{}
		rt.measureQueue(ctx, func(name string, v float64, _ ...string) {
			if strings.HasPrefix(name, "queue_") || strings.HasPrefix(name, "events_") {
				values[name] = v
			}
		})
		return values
	}
	var failed, well, closed map[string]float64
	code, out, _ := call(t, func(rt *Runtime) error {
		rt.OnStop("look", time.Second, func(ctx context.Context) error { closed = measured(rt, ctx); return nil })
		q, err := rt.OpenQueue(1, 0)
		if err != nil {
			return err
		}
		ended, cancel := context.WithCancel(rt.Context())
		cancel()
		failed = measured(rt, ended)
		if _, err := q.Publish(rt.Context(), event.Event{ID: event.NewID(), Body: []byte("{}")}); err != nil {
			return err
		}
		for well = measured(rt, rt.Context()); well["queue_available"] == 0; well = measured(rt, rt.Context()) {
			time.Sleep(time.Millisecond) // the queue answers with what it found for a second
		}
		rt.Done("tested")
		return rt.Wait()
	}, nil)
	if code != 0 {
		t.Fatalf("have %d\n%s", code, out)
	}
	fromDisk := []string{"queue_depth", "queue_oldest_age_seconds", "queue_bytes", "queue_dead_letters"}
	for _, name := range fromDisk {
		if _, ok := failed[name]; ok {
			t.Errorf("want no %s while nobody answers, have %v", name, failed)
		}
		if _, ok := well[name]; !ok {
			t.Errorf("want %s, have %v", name, well)
		}
	}
	if v, ok := failed["queue_available"]; !ok || v != 0 || failed["queue_capacity_bytes"] == 0 || well["queue_depth"]+well["queue_in_flight"] != 1 {
		t.Errorf("want it unavailable while nobody answers, and then one event, have %v, %v", failed, well)
	}
	if closed["events_accepted"] != 1 {
		t.Errorf("want the last count at the end, have %v", closed)
	}
	for name := range closed {
		if strings.HasPrefix(name, "queue_") {
			t.Errorf("want no state of a queue that was closed, have %v", closed)
		}
	}
}

// onePipe sends one message through a socket pair.
func onePipe(t *testing.T, rt *Runtime) {
	t.Helper()
	in, err := rt.ZMQ.Bind(rt.Context(), "PULL", "inproc://x")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := rt.ZMQ.Connect(rt.Context(), "PUSH", "inproc://x")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Send(rt.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Recv(rt.Context()); err != nil {
		t.Fatal(err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return string(body)
}

// lockedText is a log that can be read while it is written.
type lockedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lockedText) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// callTo runs the app like call, with its log in out.
func callTo(t *testing.T, out io.Writer, run func(*Runtime) error, vars []string) int {
	t.Helper()
	code, err := runWith(out, run, append(vars, "WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off"))
	if err != nil {
		t.Log(err)
	}
	return code
}
