package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/fault"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Options name the app and where its measurements go. With the zero value, nothing is on.
type Options struct {
	App, Device, Deployment, Version, Commit, Go string

	Log *slog.Logger // of exporters that fail, once a minute each; nil: they are not logged

	Prometheus bool   // whether Handler will be served
	StatsD     string // host:port of a dogstatsd server; empty: none
	Influx     Influx
	OTel       OTel
}

// Influx names an InfluxDB, version 2 or one with its write API (1.8 and later: Token is user:password, Bucket is
// database/retention-policy). With an empty URL it is off.
type Influx struct{ URL, Token, Org, Bucket string }

// OTel are settings of the OpenTelemetry specification, by their names without OTEL_. All others of the specification the SDK reads from
// the environment itself (OTEL_BSP_SCHEDULE_DELAY, OTEL_EXPORTER_OTLP_CERTIFICATE, …).
// Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
type OTel struct {
	SDKDisabled                     bool
	ServiceName, ResourceAttributes string
	TracesExporter, MetricsExporter string // otlp or none; empty: otlp if there is an endpoint
	Endpoint                        string // EXPORTER_OTLP_ENDPOINT: /v1/traces and /v1/metrics are below
	TracesEndpoint, MetricsEndpoint string // the whole URL
	Protocol                        string // http/protobuf, which is also meant by empty
	Headers                         string // EXPORTER_OTLP_HEADERS: name=value,…, percent-encoded; a secret
	TracesSampler, TracesSamplerArg string // empty: parentbased_always_on
	MaxQueueSize                    int    // BSP_MAX_QUEUE_SIZE; 0: 2048 spans
	MetricInterval                  int    // METRIC_EXPORT_INTERVAL in milliseconds; 0: a minute
}

// The specification's defaults.
const (
	defaultEndpoint  = "http://localhost:4318"
	defaultQueueSize = 2048
	defaultInterval  = 60_000 // milliseconds
)

// plan is what the options come to.
type plan struct {
	traces, metrics string // URLs of OTLP; empty: off
	headers         map[string]string
	sampler         sdktrace.Sampler
	influx          string // the URL to write to, empty: off
	queueSize       int
	interval        time.Duration
}

func wrong(name, hint, format string, args ...any) error {
	return fault.Config(hint, fmt.Errorf("telemetry: "+name+": "+format, args...))
}

// plan checks the options. Its errors are of fault.KindConfig, name each setting that is wrong, and never hold its value.
func (o Options) plan() (plan, error) {
	var p plan
	var errs []error
	add := func(err error) { // two signals of one endpoint have the same
		if err != nil && !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	p.queueSize = cmp.Or(o.OTel.MaxQueueSize, defaultQueueSize)
	p.interval = time.Duration(cmp.Or(o.OTel.MetricInterval, defaultInterval)) * time.Millisecond
	if !o.OTel.SDKDisabled {
		var err error
		p.traces, err = otlpURL("OTEL_TRACES_EXPORTER", o.OTel.TracesExporter,
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", o.OTel.TracesEndpoint, o.OTel.Endpoint, "/v1/traces")
		add(err)
		p.metrics, err = otlpURL("OTEL_METRICS_EXPORTER", o.OTel.MetricsExporter,
			"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", o.OTel.MetricsEndpoint, o.OTel.Endpoint, "/v1/metrics")
		add(err)
		p.headers, err = parseHeaders(o.OTel.Headers)
		add(err)
		p.sampler, err = parseSampler(o.OTel.TracesSampler, o.OTel.TracesSamplerArg)
		add(err)
		if pr := o.OTel.Protocol; pr != "" && pr != "http/protobuf" {
			add(wrong("OTEL_EXPORTER_OTLP_PROTOCOL", "set it to http/protobuf, or leave it out", "only http/protobuf is spoken"))
		}
		_, err = parseAttributes(o.OTel.ResourceAttributes)
		add(err)
	}
	if o.StatsD != "" {
		if _, port, err := net.SplitHostPort(o.StatsD); err != nil || !isPort(port) {
			add(wrong("STATSD_ADDR", "write host:port, 127.0.0.1:8125 for example", "not an address"))
		}
	}
	var err error
	p.influx, err = o.Influx.plan()
	add(err)
	return p, errors.Join(errs...)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// otlpURL returns where a signal goes, empty if nowhere.
func otlpURL(exporterName, exporter, ownName, own, general, path string) (string, error) {
	switch exporter {
	case "none":
		return "", nil
	case "", "otlp":
	default:
		return "", wrong(exporterName, "set it to otlp or none; Prometheus is METRICS_ADDR", "unknown exporter")
	}
	switch {
	case own != "":
		return own, checkURL(ownName, own)
	case general == "" && exporter == "":
		return "", nil
	}
	general = cmp.Or(general, defaultEndpoint)
	return strings.TrimRight(general, "/") + path, checkURL("OTEL_EXPORTER_OTLP_ENDPOINT", general)
}

// checkURL takes an absolute http URL without credentials: they would stand in error messages.
func checkURL(name, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()) {
		return wrong(name, "write http://host:port or https://host", "not an http URL")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return wrong(name, "put credentials into OTEL_EXPORTER_OTLP_HEADERS or INFLUX_TOKEN",
			"a URL with credentials, query or fragment is not taken")
	}
	return nil
}

// parseHeaders reads W3C Baggage's form without its properties, as the specification wants it.
func parseHeaders(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		sound := ok && err == nil && name != "" && !strings.ContainsFunc(value, isControl)
		if !sound || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
			return nil, wrong("OTEL_EXPORTER_OTLP_HEADERS",
				"write name=value,name=value, with special characters percent-encoded", "not a list of headers")
		}
		headers[name] = value
	}
	return headers, nil
}

func isToken(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func parseSampler(name, arg string) (sdktrace.Sampler, error) {
	var ratio float64 = 1
	if arg != "" && strings.HasSuffix(name, "traceidratio") {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) || math.IsNaN(ratio) {
			return nil, wrong("OTEL_TRACES_SAMPLER_ARG", "write the share of traces to keep, 0.01 for example", "not a number from 0 to 1")
		}
	}
	base := map[string]sdktrace.Sampler{"always_on": sdktrace.AlwaysSample(), "always_off": sdktrace.NeverSample(),
		"traceidratio": sdktrace.TraceIDRatioBased(ratio)}
	rest, parent := strings.CutPrefix(cmp.Or(name, "parentbased_always_on"), "parentbased_")
	s := base[rest]
	switch {
	case s == nil:
		return nil, wrong("OTEL_TRACES_SAMPLER", "always_on, always_off, traceidratio, or one of them behind parentbased_", "unknown sampler")
	case parent:
		return sdktrace.ParentBased(s), nil
	}
	return s, nil
}

func (i Influx) plan() (string, error) {
	if i.URL == "" {
		if i.Token+i.Org+i.Bucket != "" {
			return "", wrong("INFLUX_URL", "set it, or remove the other INFLUX_ settings", "missing, though others of InfluxDB are set")
		}
		return "", nil
	}
	if err := checkURL("INFLUX_URL", i.URL); err != nil {
		return "", err
	}
	switch {
	case i.Bucket == "":
		return "", wrong("INFLUX_BUCKET", "set it, for version 1 to database/retention-policy", "missing, though INFLUX_URL is set")
	case i.Token == "":
		return "", wrong("INFLUX_TOKEN", "set it, for version 1 to user:password", "missing, though INFLUX_URL is set")
	case strings.ContainsFunc(i.Token, isControl):
		return "", wrong("INFLUX_TOKEN", "it may end with a line break that is no part of it", "has a control character")
	}
	query := url.Values{"bucket": {i.Bucket}, "precision": {"ns"}}
	if i.Org != "" {
		query.Set("org", i.Org)
	}
	return strings.TrimRight(i.URL, "/") + "/api/v2/write?" + query.Encode(), nil
}
