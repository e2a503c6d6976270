package telemetry

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"example.com/base-app/pkg/telemetry/export"
)

// Kind is what a metric counts like.
type Kind = export.Kind

// The kinds.
const (
	Counter   = export.Counter   // only grows, from 0 at the start
	Gauge     = export.Gauge     // goes up and down
	Histogram = export.Histogram // counts in buckets
)

// Metric is a row of the table of all metrics. The instruments are made from it, so nothing else is exported.
type Metric struct {
	Name    string // in OpenTelemetry
	Kind    Kind
	Unit    string // UCUM: s, By; empty: a number of what the name names
	Labels  []string
	Buckets []float64 // of a histogram
	Meaning string
	foreign bool // made by OpenTelemetry's instrumentation of the Go runtime
}

// The buckets of durations, in seconds.
var (
	// OpenTelemetry's advice for HTTP, with finer ones below, since an event takes microseconds.
	latencyBuckets = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	// From a message that was there already to a worker that has had nothing to do for a minute.
	waitBuckets = []float64{0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10, 60}
	// From a job that found nothing to do to one that takes the hour that it has by default.
	jobBuckets = []float64{0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600}
)

// The names that more than one place uses.
const (
	nameServerDuration = "http.server.request.duration"
	nameServerActive   = "http.server.active_requests"
	nameRequestLatency = "request_latency_seconds"
	nameRequestCount   = "request_count"
	nameClientDuration = "http.client.request.duration"
	nameClientLatency  = "client_request_latency"
	nameDependencyTry  = "dependency_try_duration_seconds"
	nameRefused        = "dependency_tries_refused"
	nameBreaker        = "dependency_breaker_changes"
	nameExceptions     = "uncaught_exceptions"
	nameZMQRecv        = "zmq_recv_duration_seconds"
	nameZMQInFlight    = "zmq_messages_in_flight"
	namePublish        = "event_publish_duration_seconds"
	nameWait           = "event_wait_seconds"
	nameHandle         = "event_handle_duration_seconds"
	nameStrikes        = "chaos_strikes"
	nameDropped        = "telemetry_dropped"
	nameFailed         = "telemetry_failures"
	nameBuild          = "build_info"
	nameJob            = "job_duration_seconds"
)

// Metrics returns the table: every metric that an app of the template exports.
func Metrics() []Metric {
	return []Metric{
		{Name: nameBuild, Kind: Gauge, Labels: []string{"version", "commit", "deployment", "go"}, Meaning: "always 1; says what runs"},
		{Name: "last_exit_info", Kind: Gauge, Labels: []string{"kind", "code"},
			Meaning: "always 1; says how the run before this one ended: the kind of its cause (`vanished` if it left no word) and its exit " +
				"code"},
		{Name: "monitor_restarts", Kind: Counter, Meaning: "how often the monitor has restarted the app"},

		{Name: "workers_expected", Kind: Gauge, Meaning: "workers that should be running"},
		{Name: "workers_alive", Kind: Gauge, Meaning: "of them, those that run and make progress or rightly wait"},
		{Name: "workers_stalled", Kind: Gauge, Meaning: "of them, those that are stuck"},
		{Name: "worker_restarts", Kind: Counter, Meaning: "restarts of workers by the nanny"},
		{Name: nameExceptions, Kind: Counter, Labels: []string{"where", "kind"},
			Meaning: "errors that nobody handled, by where they came up (`web`, `worker`, `handler`, `job`) and the kind of error " +
				"(docs/failures.md)"},

		{Name: nameServerDuration, Kind: Histogram, Unit: "s", Buckets: latencyBuckets,
			Labels: []string{"http.request.method", "http.response.status_code", "http.route", "url.scheme",
				"network.protocol.version", "error.type"},
			Meaning: "requests that were answered, by OpenTelemetry's semantic conventions"},
		{Name: nameServerActive, Kind: Gauge, Labels: []string{"http.request.method", "url.scheme"}, Meaning: "requests that are being answered"},
		{Name: nameRequestLatency, Kind: Histogram, Unit: "s", Buckets: latencyBuckets, Labels: []string{"service", "endpoint"},
			Meaning: "the same requests, by app and route"},
		{Name: nameRequestCount, Kind: Counter, Labels: []string{"service", "method", "endpoint", "status"},
			Meaning: "the same requests, counted"},
		{Name: nameClientDuration, Kind: Histogram, Unit: "s", Buckets: latencyBuckets,
			Labels:  []string{"http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"},
			Meaning: "tries of calls to others, by OpenTelemetry's semantic conventions"},
		{Name: nameClientLatency, Kind: Histogram, Buckets: latencyBuckets, Labels: []string{"origin", "destination"},
			Meaning: "the same tries in seconds, by who calls and the name of the dependency"},

		{Name: nameDependencyTry, Kind: Histogram, Unit: "s", Buckets: latencyBuckets, Labels: []string{"dependency", "outcome"},
			Meaning: "tries that reached a dependency, whatever the protocol, by how they ended: `done`, `failed`, `cancelled` by the caller"},
		{Name: nameRefused, Kind: Counter, Labels: []string{"dependency", "reason"},
			Meaning: "tries that its policy did not let through: `open` breaker, `busy`, `rate`"},
		{Name: nameBreaker, Kind: Counter, Labels: []string{"dependency", "state"},
			Meaning: "changes of its breaker, by the state that it entered: `closed`, `open`, `half-open`"},
		{Name: "dependency_breaker_open", Kind: Gauge, Labels: []string{"dependency"},
			Meaning: "1 if its breaker is open, 0.5 if it is half open, else 0"},
		{Name: "dependency_calls_in_flight", Kind: Gauge, Labels: []string{"dependency"}, Meaning: "tries that it is working on"},

		{Name: nameZMQRecv, Kind: Histogram, Unit: "s", Buckets: waitBuckets, Labels: []string{"endpoint"},
			Meaning: "how long a worker waited for its next message; 0 if it was there already"},
		{Name: nameZMQInFlight, Kind: Gauge, Labels: []string{"endpoint"},
			Meaning: "messages within the process that were sent and not yet received"},

		{Name: "events_accepted", Kind: Counter, Meaning: "events that were answered with 202, without duplicates"},
		{Name: "events_rejected", Kind: Counter, Meaning: "events that the queue did not take"},
		{Name: "events_processed", Kind: Counter, Meaning: "events that were handled"},
		{Name: "events_retried", Kind: Counter, Meaning: "handlings that failed, after which the event comes again"},
		{Name: "events_dead", Kind: Counter, Meaning: "events that became dead letters"},
		{Name: namePublish, Kind: Histogram, Unit: "s", Buckets: latencyBuckets, Meaning: "time to bring events to the disk"},
		{Name: nameWait, Kind: Histogram, Unit: "s", Buckets: latencyBuckets,
			Meaning: "time from the acceptance of an event to the start of its first handling"},
		{Name: nameHandle, Kind: Histogram, Unit: "s", Buckets: latencyBuckets, Labels: []string{"outcome"},
			Meaning: "time that the handler took, by what became of the event: `processed`, `retried`, `dead`, `interrupted`"},

		{Name: "queue_depth", Kind: Gauge, Meaning: "events that wait: the signal to scale on"},
		{Name: "queue_in_flight", Kind: Gauge, Meaning: "events that this process has and has not settled"},
		{Name: "queue_bytes", Kind: Gauge, Unit: "By", Meaning: "what the events take on disk"},
		{Name: "queue_capacity_bytes", Kind: Gauge, Unit: "By", Meaning: "what they may take (QUEUE_MAX_BYTES)"},
		{Name: "queue_oldest_age_seconds", Kind: Gauge, Unit: "s", Meaning: "age of the oldest event in the queue"},
		{Name: "queue_dead_letters", Kind: Gauge, Meaning: "dead letters that wait for somebody to look at them"},
		{Name: "queue_lost", Kind: Gauge, Meaning: "events whose record on disk is damaged"},
		{Name: "queue_available", Kind: Gauge,
			Meaning: "1 if the queue takes events, else 0: then depth, bytes, age and dead letters are missing. While the process ends all " +
				"of the queue's gauges are"},

		{Name: "chaos_orders_active", Kind: Gauge, Meaning: "orders to make something fail (app ctl chaos) that are active"},
		{Name: nameStrikes, Kind: Counter, Labels: []string{"point", "kind"},
			Meaning: "what they did, by the fault point and the kind of fault: `latency`, `error`, `drop`, `panic`, `stall`, `kill`"},

		{Name: "job_runs", Kind: Counter, Labels: []string{"job", "outcome"},
			Meaning: "runs of the app's jobs, by what became of them: `done`, `failed`, `timeout`, `interrupted` by the shutdown, `skipped` " +
				"since the run before had not ended"},
		{Name: nameJob, Kind: Histogram, Unit: "s", Buckets: jobBuckets, Labels: []string{"job"},
			Meaning: "how long they took; a run that hangs counts when that is known"},
		{Name: "job_last_success_timestamp_seconds", Kind: Gauge, Unit: "s", Labels: []string{"job"},
			Meaning: "when a run was last done, in seconds since 1970; missing until one was"},
		{Name: "job_pings", Kind: Counter, Labels: []string{"job", "outcome"},
			Meaning: "what they told their checks: `sent`, `failed` after all tries, `dropped` since too many waited or the process ended"},

		{Name: "log_lines_lost", Kind: Counter, Labels: []string{"reason"},
			Meaning: "log lines that are not as they were written: `dropped` by syslog, `suppressed` as repeats, `sampled` away by " +
				"LOG_SAMPLE, `truncated`"},
		{Name: "alerts_sent", Kind: Counter, Labels: []string{"service"},
			Meaning: "events, alerts and pings that a service (`sentry`, or `file` without it, `pagerduty`, `webhook`, `telegram`, " +
				"`cronitor`) has taken, as its answer says"},
		{Name: "alerts_dropped", Kind: Counter, Labels: []string{"service"},
			Meaning: "those that were given up: the queue was full, the service did not want them, or the time to end was over"},
		{Name: "alerts_suppressed", Kind: Counter, Labels: []string{"service"},
			Meaning: "those that were left out of a storm; what follows tells the number"},
		{Name: "alerts_ignored", Kind: Counter, Labels: []string{"name"}, Meaning: "errors that SENTRY_IGNORE has hidden, by the name there"},
		{Name: nameDropped, Kind: Counter, Labels: []string{"exporter"},
			Meaning: "what an exporter gave up: spans, data points or lines, since its queue was full or the other side did not take them"},
		{Name: nameFailed, Kind: Counter, Labels: []string{"exporter"}, Meaning: "exports that failed"},

		{Name: "go.memory.used", Kind: Gauge, Unit: "By", Labels: []string{"go.memory.type"}, foreign: true,
			Meaning: "memory used by the Go runtime"},
		{Name: "go.memory.limit", Kind: Gauge, Unit: "By", foreign: true, Meaning: "GOMEMLIMIT, if there is one"},
		{Name: "go.memory.allocated", Kind: Counter, Unit: "By", foreign: true, Meaning: "memory allocated to the heap"},
		{Name: "go.memory.allocations", Kind: Counter, foreign: true, Meaning: "allocations to the heap"},
		{Name: "go.memory.gc.goal", Kind: Gauge, Unit: "By", foreign: true, Meaning: "heap size target for the end of the GC cycle"},
		{Name: "go.goroutine.count", Kind: Gauge, foreign: true, Meaning: "live goroutines"},
		{Name: "go.processor.limit", Kind: Gauge, foreign: true, Meaning: "GOMAXPROCS"},
		{Name: "go.config.gogc", Kind: Gauge, Unit: "%", foreign: true, Meaning: "GOGC"},
	}
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// check returns what is wrong with a metric that the app declares itself: names that an exporter would change are refused,
// since they might meet another's.
func (m Metric) check() error {
	switch {
	case !plainName.MatchString(m.Name):
		return errors.New("the name is not made of lower-case letters, digits and underscores")
	case m.Kind != Counter && m.Kind != Gauge:
		return errors.New("it is neither a counter nor a gauge")
	case m.Meaning == "":
		return errors.New("it has no meaning")
	}
	for _, l := range m.Labels {
		if !plainName.MatchString(l) {
			return fmt.Errorf("the label %q is not made of lower-case letters, digits and underscores", l)
		}
	}
	for _, known := range Metrics() {
		if known.Exported() == m.Exported() {
			return errors.New("the template has one of this name")
		}
	}
	return nil
}

// Exported returns the metric's name in Prometheus, StatsD and InfluxDB.
func (m Metric) Exported() string { return export.Name(m.Name, m.Unit, m.Kind) }

// WriteMarkdown writes the reference page of the metrics.
func WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString(page)
	for _, m := range Metrics() {
		labels := slices.Clone(m.Labels)
		for i := range labels {
			labels[i] = "`" + export.Label(labels[i]) + "`"
		}
		unit := map[string]string{"s": "seconds", "By": "bytes"}[m.Unit]
		if unit == "" {
			unit = m.Unit
		}
		other := ""
		if m.Name != m.Exported() {
			other = "`" + m.Name + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", m.Exported(), m.Kind, unit, strings.Join(labels, " "), m.Meaning, other)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const page = `# Metrics

Generated from the table in pkg/telemetry (` + "`make docs`" + `): change that, not this page.

Prometheus, StatsD and InfluxDB get the names of the first column; OTLP those of the last, where they differ. In
OTLP a label has dots where it has underscores here, if OpenTelemetry's conventions name it (` + "`http.route`" + `). StatsD and
InfluxDB get ` + "`app`, `device`, `deployment` and `version`" + ` as tags; Prometheus and OTLP have them in the resource
(` + "`target_info`" + `).

No label has a value that a client chooses: a route is the pattern, never the path; a method that HTTP doesn't know is
` + "`_OTHER`" + `; what could grow without end is ` + "`_OTHER`" + ` from the 64th value on.

A histogram is ` + "`_bucket`, `_sum` and `_count`" + ` in Prometheus and StatsD (there as counters of the last 10 s, with the tag
` + "`le`" + `), and one line with the fields ` + "`count`, `sum`" + ` and one for each bound in InfluxDB. All others have the field ` +
	"`value`" + ` there.

| name | kind | unit | labels | meaning | in OTLP |
| --- | --- | --- | --- | --- | --- |
`
