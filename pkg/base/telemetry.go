package base

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
)

// otelSettings are the OpenTelemetry specification's names. They are no group of ours: the SDK reads all others of the
// specification itself, from the environment.
type otelSettings struct {
	Disabled        bool          `envconfig:"OTEL_SDK_DISABLED" default:"false" desc:"true switches all of OpenTelemetry's export off; Prometheus, StatsD and InfluxDB stay"`
	Endpoint        string        `envconfig:"OTEL_EXPORTER_OTLP_ENDPOINT" desc:"http://collector:4318: traces and metrics go there over OTLP; empty means nowhere. Other OTEL_ names of the specification work, too: OTEL_BSP_SCHEDULE_DELAY, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT …"`
	TracesEndpoint  string        `envconfig:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" desc:"the whole URL for traces, if it is another"`
	MetricsEndpoint string        `envconfig:"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" desc:"the whole URL for metrics, if it is another"`
	Headers         config.Secret `envconfig:"OTEL_EXPORTER_OTLP_HEADERS" desc:"name=value,name=value sent along with each export, percent-encoded"`
	Protocol        string        `envconfig:"OTEL_EXPORTER_OTLP_PROTOCOL" default:"http/protobuf" desc:"nothing else is spoken"`
	TracesExporter  string        `envconfig:"OTEL_TRACES_EXPORTER" desc:"otlp or none; empty means otlp if there is an endpoint"`
	MetricsExporter string        `envconfig:"OTEL_METRICS_EXPORTER" desc:"otlp or none; empty means otlp if there is an endpoint"`
	Sampler         string        `envconfig:"OTEL_TRACES_SAMPLER" default:"parentbased_always_on" desc:"which traces are kept: always_on, always_off, traceidratio, or one of them behind parentbased_, which follows the caller's choice"`
	SamplerArg      string        `envconfig:"OTEL_TRACES_SAMPLER_ARG" desc:"for traceidratio: the share of traces to keep, 0.01 for one in a hundred"`
	Service         string        `envconfig:"OTEL_SERVICE_NAME" desc:"the service's name in OpenTelemetry; empty means APP_NAME"`
	Attributes      string        `envconfig:"OTEL_RESOURCE_ATTRIBUTES" desc:"name=value,name=value that describe the service, percent-encoded"`
	QueueSize       int           `envconfig:"OTEL_BSP_MAX_QUEUE_SIZE" default:"2048" min:"1" max:"1000000" desc:"spans that may wait to be sent; more are dropped and counted"`
	Interval        int           `envconfig:"OTEL_METRIC_EXPORT_INTERVAL" default:"60000" min:"100" max:"3600000" desc:"milliseconds between two exports of metrics over OTLP"`
}

// metricsOff is what METRICS_ADDR says to mean nowhere, as empty does.
const metricsOff = "off"

// newTelemetry makes what the settings switch on, nil if that is nothing. Its error names the setting that is wrong.
func newTelemetry(s *Settings, build Build, log *slog.Logger) (*telemetry.Telemetry, error) {
	o := &s.OTel
	return telemetry.New(telemetry.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment, Version: build.Version, Commit: build.Commit, Go: build.Go,
		Log: log, Prometheus: s.servesMetrics(), StatsD: s.StatsD.Addr,
		Influx: telemetry.Influx{URL: s.Influx.URL, Token: s.Influx.Token.Reveal(), Org: s.Influx.Org, Bucket: s.Influx.Bucket},
		OTel: telemetry.OTel{SDKDisabled: o.Disabled, ServiceName: o.Service, ResourceAttributes: o.Attributes, TracesExporter: o.TracesExporter,
			MetricsExporter: o.MetricsExporter, Endpoint: o.Endpoint, TracesEndpoint: o.TracesEndpoint, MetricsEndpoint: o.MetricsEndpoint, Protocol: o.Protocol,
			Headers: o.Headers.Reveal(), TracesSampler: o.Sampler, TracesSamplerArg: o.SamplerArg, MaxQueueSize: o.QueueSize, MetricInterval: o.Interval}})
}

func (s *Settings) servesMetrics() bool { return s.Metrics.Addr != "" && s.Metrics.Addr != metricsOff }

// metricsWorker is the worker that serves METRICS_ADDR.
const metricsWorker = "metrics"

// openTelemetry has the runtime's own state measured, and serves Prometheus as a worker.
func (rt *Runtime) openTelemetry() error {
	if rt.Telemetry == nil {
		return nil
	}
	rt.flush(rt.closeTelemetry)
	if err := rt.Telemetry.Observe(rt.measure); err != nil {
		return err
	}
	h := rt.Telemetry.Handler()
	if h == nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(rt.Context(), "tcp", rt.Settings.Metrics.Addr)
	if err != nil {
		return fault.Config("set METRICS_ADDR to host:port that nobody else uses, 127.0.0.1:9464 for example, or to off", fmt.Errorf("METRICS_ADDR: listen: %w", err))
	}
	rt.Log.Info("serving metrics", "url", "http://"+l.Addr().String()+"/metrics")
	server := web.New(l, web.Options{Handler: h, Log: rt.Log, Level: func(*http.Request, int) slog.Level { return slog.LevelDebug }})
	if err := rt.nanny.Go(metricsWorker, rt.Chaos.Worker(metricsWorker, server.Serve)); errors.Is(err, nanny.ErrClosing) {
		return server.Serve(rt.Context()) // with a context that has ended it closes the listener
	} else if err != nil {
		return err
	}
	return nil
}

// failed counts and reports the error of a worker or of a request, for the guards that catch it.
func (rt *Runtime) failed(where string) func(context.Context, *fault.Error) {
	return func(ctx context.Context, err *fault.Error) {
		rt.Telemetry.Exception(ctx, where, err)
		rt.alerts.Report(ctx, err)
	}
}

// measure tells the state of the runtime.
func (rt *Runtime) measure(ctx context.Context, put telemetry.Put) {
	put("monitor_restarts", float64(rt.Settings.Monitor.Restarts))
	measureWorkers(rt.nanny.Workers(), put)
	measureDependencies(rt.depends.List(), put)
	measureAlerts(rt.alerts, put)
	put("chaos_orders_active", float64(len(rt.Chaos.Active())))
	measureJobs(rt.jobs.List(), put)
	s := rt.logs.Stats()
	for reason, n := range map[string]uint64{"dropped": s.Dropped, "suppressed": s.Suppressed, "sampled": s.Sampled, "truncated": s.Truncated} {
		put("log_lines_lost", float64(n), reason)
	}
	rt.mu.Lock()
	q, folder := rt.queue, rt.folder
	rt.mu.Unlock()
	if folder != nil {
		switch e, vanished, first := folder.Previous(); {
		case vanished:
			put("last_exit_info", 1, "vanished", "")
		case !first && e.Run != "":
			put("last_exit_info", 1, e.Kind, strconv.Itoa(e.Code))
		}
	}
	if q != nil {
		measureQueue(ctx, q, rt.Context().Err() != nil, put)
	}
}

func measureWorkers(list []nanny.Status, put telemetry.Put) {
	var expected, alive, stalled, restarts float64
	for _, w := range list {
		restarts += float64(w.Restarts)
		if w.State != nanny.StateDone && w.State != nanny.StateStopped {
			expected++
		}
		switch w.State {
		case nanny.StateBusy, nanny.StateParked:
			alive++
		case nanny.StateStuck:
			stalled++
		}
	}
	put("workers_expected", expected)
	put("workers_alive", alive)
	put("workers_stalled", stalled)
	put("worker_restarts", restarts)
}

// measureDependencies tells the state of the breakers. Their names are few: the registry is bounded.
func measureDependencies(list []dependency.Health, put telemetry.Put) {
	for _, d := range list {
		put("dependency_breaker_open", map[dependency.Breaker]float64{dependency.HalfOpen: 0.5, dependency.Open: 1}[d.Breaker], d.Name)
		put("dependency_calls_in_flight", float64(d.InFlight), d.Name)
	}
}

// measureQueue tells what is known: some who are told 0 instead keep it, others alert. Once the process closes, the queue's
// state is nobody's trouble any more, only what it has counted.
func measureQueue(ctx context.Context, q *queue.Queue, closing bool, put telemetry.Put) {
	s, err := q.Stats(ctx)
	for name, n := range map[string]uint64{"events_accepted": s.Accepted, "events_rejected": s.Rejected, "events_processed": s.Processed, "events_retried": s.Retried, "events_dead": s.Dead} {
		put(name, float64(n))
	}
	if closing {
		return
	}
	put("queue_in_flight", float64(s.InFlight))
	put("queue_capacity_bytes", float64(s.MaxBytes))
	put("queue_lost", float64(len(s.Lost)))
	if err != nil {
		put("queue_available", 0)
		return
	}
	put("queue_available", 1)
	put("queue_depth", float64(s.Waiting))
	put("queue_bytes", float64(s.Bytes))
	put("queue_oldest_age_seconds", s.OldestAge.Seconds())
	put("queue_dead_letters", float64(s.DeadLetters))
}

// Events is the queue as the app sees it: what it takes and gives is measured, and its traces go on.
type Events struct {
	*queue.Queue
	telemetry *telemetry.Telemetry
}

// Publish is queue.Queue's, within the trace of ctx.
func (q *Events) Publish(ctx context.Context, events ...event.Event) ([]queue.Accepted, error) {
	events, end := q.telemetry.Publish(ctx, events)
	answers, err := q.Queue.Publish(ctx, events...)
	id := ""
	if len(answers) == 1 {
		id = answers[0].ID
	}
	end(id, err)
	return answers, err
}

// Next is queue.Queue's; the event carries its trace on.
func (q *Events) Next(ctx context.Context) (event.Event, error) {
	e, err := q.Queue.Next(ctx)
	if err == nil {
		q.telemetry.Deliver(ctx, &e)
	}
	return e, err
}

// closeTelemetry sends what is left.
func (rt *Runtime) closeTelemetry(ctx context.Context) {
	if err := rt.Telemetry.Close(ctx); err != nil {
		rt.Log.Warn("telemetry that was left could not be sent", "error", dependency.Scrub(err.Error()))
	}
}

// abandonTelemetry ends it without sending anything, unless it was closed in order: a start that was refused.
func abandonTelemetry(t *telemetry.Telemetry) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = t.Close(now)
}
