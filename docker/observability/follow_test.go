package observability_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// book notes what it is told: spans by OTLP, alerts by Alertmanager's webhook.
type book struct {
	url    string
	mu     sync.Mutex
	spans  map[string][]*v1.Span // by trace
	alerts map[string]map[string]string
}

func open(t *testing.T) *book {
	b := &book{spans: map[string][]*v1.Span{}, alerts: map[string]map[string]string{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := b.take(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (b *book) take(r *http.Request) error {
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.URL.Path == "/alerts" {
		var told struct {
			Alerts []struct{ Labels, Annotations map[string]string }
		}
		if err := json.Unmarshal(text, &told); err != nil {
			return err
		}
		for _, a := range told.Alerts {
			b.alerts[a.Labels["alertname"]] = a.Annotations
		}
		return nil
	}
	var told collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(text, &told); err != nil {
		return err
	}
	for _, of := range told.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, one := range scope.Spans {
				trace := hex.EncodeToString(one.TraceId)
				b.spans[trace] = append(b.spans[trace], one)
			}
		}
	}
	return nil
}

// span returns a trace's span of that name.
func (b *book) span(trace, name string) *v1.Span {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spans[trace] {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// told returns what Alertmanager said of an alert.
func (b *book) told(alert string) map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alerts[alert]
}

// replace writes a copy of one of our files in which each pattern, which must be there, is replaced.
func replace(t *testing.T, dir, name string, pairs ...string) string {
	t.Helper()
	text := read(t, name)
	for i := 0; i < len(pairs); i += 2 {
		pattern := regexp.MustCompile("(?m)" + pairs[i])
		if !pattern.MatchString(text) {
			t.Fatalf("%s has nothing like %s", name, pairs[i])
		}
		text = pattern.ReplaceAllString(text, pairs[i+1])
	}
	path := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// address waits until a server of the Prometheus family says where it listens.
func (p *process) address(t *testing.T) string {
	t.Helper()
	pattern := regexp.MustCompile(`"?Listening on"? address=(\S+)`)
	return pattern.FindStringSubmatch(p.find(t, "where it listens", pattern.MatchString))[1]
}

// prometheus is a real one that runs.
type prometheus struct{ url string }

// ask calls its API; what can't be had now is tried again by who asks.
func (p prometheus) ask(path string, into any, params ...string) error {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	answer, err := browser.Get(p.url + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return err
	}
	if body.Status != "success" {
		return fmt.Errorf("%s: %s", path, body.Error)
	}
	return json.Unmarshal(body.Data, into)
}

// values returns what an expression comes to now.
func (p prometheus) values(t *testing.T, expr string) (list []string) {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.ask("query", &data, "query", expr); err != nil {
		t.Logf("%s: %v", expr, err)
		return nil
	}
	for _, r := range data.Result {
		list = append(list, fmt.Sprint(r.Value[1]))
	}
	return list
}

// watch starts a real Alertmanager and a real Prometheus on our files. What differs is addresses, and time: they ask each
// second, and wait for nothing.
func watch(t *testing.T, app *service, told *book) prometheus {
	t.Helper()
	dir := t.TempDir()
	amConfig := replace(t, dir, "alertmanager/alertmanager.yml",
		`(name: ticket)$`, `$1`+"\n    webhook_configs: [{url: \""+told.url+"/alerts\"}]",
		`group_wait: 30s`, `group_wait: 0s`)
	am := launch(t, exec.Command(installed(t, "prometheus-alertmanager"), "--config.file="+amConfig, "--web.listen-address=127.0.0.1:0",
		"--cluster.listen-address=", "--storage.path="+filepath.Join(dir, "alertmanager")))
	for _, name := range []string{"prometheus/slo.rules.yml", "prometheus/alerts.rules.yml"} {
		replace(t, dir, name)
	}
	metrics, err := url.Parse(app.metricsURL)
	if err != nil {
		t.Fatal(err)
	}
	config := replace(t, dir, "prometheus/prometheus.yml",
		`(scrape|evaluation)_interval: 15s`, `${1}_interval: 1s`,
		`alertmanager:9093`, am.address(t),
		`dns_sd_configs: .*`, `static_configs: [{targets: ["`+metrics.Host+`"]}]`,
		`(?s)  - job_name: prometheus$.*?  - job_name: alertmanager$`, `  - job_name: alertmanager`,
		`(?s)  - job_name: collector$.*`, ``)
	p := launch(t, exec.Command(installed(t, "prometheus"), append(composeFlags(t), "--config.file="+config, "--web.listen-address=127.0.0.1:0",
		"--storage.tsdb.path="+filepath.Join(dir, "prometheus"))...))
	return prometheus{"http://" + p.address(t)}
}

// composeFlags are those of docker/compose.observability.yml that Debian's Prometheus, which is older, knows, too.
func composeFlags(t *testing.T) []string {
	return find(t, root+"/docker/compose.observability.yml", `^ +- (--enable-feature=\S+)$`)
}

// docs/observability.md tells this walk.
func TestOneFailingEventIsFollowedFromTheAlertToTheMetricTheLogLineTheTraceAndTheStack(t *testing.T) {
	told := open(t)
	app := start(t, programs(t), "app", "METRICS_ADDR=127.0.0.1:0", "QUEUE_MAX_DELIVERIES=1", "OTEL_EXPORTER_OTLP_ENDPOINT="+told.url,
		"OTEL_METRICS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=100")
	p := watch(t, app, told)

	// The indicators have values, and all is well.
	has := func(expr string) func() bool { return func() bool { return len(p.values(t, expr)) > 0 } }
	nothing := func() string { return "no value" }
	eventually(t, "the app and Alertmanager are asked", has(`count(up == 1) == 2`), nothing)
	eventually(t, "events are in the indicators", func() bool {
		app.post(t, `{"type":"order.created"}`)
		return has(`slo:all:rate5m{slo="events"} > 0 and on () (slo:all:rate5m{slo="availability"} > 0) and on () slo:errors:ratio_rate3d{slo="freshness"} == 0`)()
	}, nothing)
	if have := p.values(t, `slo:errors:ratio_rate1h{slo=~"events|availability"} > 0`); len(have) > 0 {
		t.Errorf("want no errors yet, have %q", have)
	}

	// One event fails for good.
	app.ctl(t, "chaos", "start", "handler", "panic", "--force", "--for", "10m", "--reason", "what does an alert look like?")
	app.post(t, `{"type":"order.created","id":"unlucky"}`)

	// The alert, and whom it is told.
	eventually(t, "the alert fires", has(`ALERTS{alertname="DeadLetters", alertstate="firing", severity="ticket"}`), nothing)
	eventually(t, "Alertmanager tells it", func() bool { return told.told("DeadLetters") != nil }, nothing)
	if have := told.told("DeadLetters"); !strings.HasSuffix(have["runbook_url"], "/docs/runbooks.md#deadletters") || !strings.HasPrefix(have["description"], "So many in 15 minutes: 1.") {
		t.Errorf("want what happened and what to do, have %q", have)
	}

	// The metric's exemplar is a trace.
	var trace string
	eventually(t, "an exemplar", func() bool {
		var data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		now := time.Now()
		err := p.ask("query_exemplars", &data, "query", `event_handle_duration_seconds_bucket{outcome="dead"}`,
			"start", now.Add(-time.Hour).Format(time.RFC3339), "end", now.Add(time.Minute).Format(time.RFC3339))
		if err != nil || len(data) == 0 || len(data[0].Exemplars) == 0 {
			return false
		}
		trace = data[0].Exemplars[0].Labels["trace_id"]
		return true
	}, nothing)

	// The log lines of that trace: the request, and the failure with its stack.
	dead := app.record(t, "event is dead, it failed too often")
	if dead.TraceID != trace || dead.ID != "unlucky" || dead.RequestID == "" || !strings.Contains(dead.Stack, "pipeline.(*flow).attempt") {
		t.Errorf("want the line of trace %s with the stack, have %+v", trace, dead)
	}
	app.find(t, "the line of the request", func(line string) bool {
		return strings.Contains(line, `"msg":"request"`) && strings.Contains(line, `"trace_id":"`+trace+`"`) && strings.Contains(line, `"request_id":"`+dead.RequestID+`"`)
	})

	// The trace itself, from the request to the failure.
	eventually(t, "the trace", func() bool { return told.span(trace, "POST /events") != nil && told.span(trace, "handle event") != nil }, nothing)
	if s := told.span(trace, "handle event"); s.Status.GetCode() != v1.Status_STATUS_CODE_ERROR {
		t.Errorf("want the span to say that it failed, have %v", s)
	}

	// What the app says of it.
	if have := app.ctl(t, "queue", "dead", "list"); !strings.Contains(have, "unlucky") {
		t.Errorf("want the dead letter, have\n%s", have)
	}

	// What the dashboard and the runbooks ask can be answered: a parser doesn't see which series meet.
	exprs := runbooks(t)
	for _, panel := range panels(t) {
		for _, q := range panel.Targets {
			exprs = append(exprs, variables.Replace(q.Expr))
		}
	}
	for _, expr := range exprs {
		var any struct{}
		if err := p.ask("query", &any, "query", expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}

	// All rules are well, not only those that were looked at.
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.ask("rules", &data); err != nil || len(data.Groups) < 8 {
		t.Errorf("want all groups of rules, have %v, %v", data, err)
	}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.LastError != "" || r.Health == "err" {
				t.Errorf("%s: %s", r.Name, r.LastError)
			}
		}
	}
	if have := p.values(t, `ALERTS{alertname="Watchdog", alertstate="firing"}`); len(have) != 1 {
		t.Error("want the dead-man's switch to be on")
	}
	if have := p.values(t, `ALERTS{alertname=~"App.+|Worker.+|Queue.+|Target.+|Budget.+", alertstate="firing"}`); len(have) > 0 {
		t.Errorf("want no other alert, have %q", have)
	}
}
