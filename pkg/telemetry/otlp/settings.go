// Package otlp exports metrics and traces to a collector, by OpenTelemetry's protocol over HTTP, and has the settings of the
// OpenTelemetry specification. Spans wait in a bounded queue, and are dropped and counted when it is full.
package otlp

import (
	"cmp"
	"errors"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/base-app/pkg/telemetry/export"
)

// Exporter has the settings of the OpenTelemetry specification, by their names without OTEL_. All others of the specification
// the SDK reads from the environment itself (OTEL_BSP_SCHEDULE_DELAY, OTEL_EXPORTER_OTLP_CERTIFICATE, …).
// Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
type Exporter struct {
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

// nameHeaders is the setting for credentials.
const nameHeaders = "OTEL_EXPORTER_OTLP_HEADERS"

// The specification's defaults.
const (
	defaultEndpoint  = "http://localhost:4318"
	defaultQueueSize = 2048
	defaultInterval  = 60_000 // milliseconds
)

// plan is what the settings come to.
type plan struct {
	traces, metrics string // URLs; empty: off
	headers         map[string]string
	sampler         sdktrace.Sampler
	resource        []attribute.KeyValue
	queueSize       int
	interval        time.Duration
}

// Check looks at all settings.
func (o Exporter) Check() (on bool, err error) {
	p, err := o.plan()
	return p.traces != "" || p.metrics != "" || len(p.resource) > 0, err
}

// Open has traces and metrics sent, and names the service.
func (o Exporter) Open(c *export.Core) error {
	p, err := o.plan()
	if err != nil {
		return err
	}
	c.Resource = append(c.Resource, p.resource...)
	if p.traces != "" {
		if err := p.openTraces(c); err != nil {
			return err
		}
	}
	if p.metrics == "" {
		return nil
	}
	e, err := newMetrics(p, c.NewLoss("otlp_metrics"))
	if err == nil {
		c.Push(e, p.interval)
	}
	return err
}

func (o Exporter) plan() (p plan, err error) {
	p = plan{queueSize: cmp.Or(o.MaxQueueSize, defaultQueueSize),
		interval: time.Duration(cmp.Or(o.MetricInterval, defaultInterval)) * time.Millisecond}
	var errs []error
	add := func(err error) { // two signals of one endpoint have the same
		if err != nil && !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	p.resource, err = parseAttributes(o.ResourceAttributes)
	if o.ServiceName != "" {
		p.resource = append(p.resource, attribute.String("service.name", o.ServiceName))
	}
	if o.SDKDisabled {
		return p, nil
	}
	add(err)
	p.traces, err = otlpURL("OTEL_TRACES_EXPORTER", o.TracesExporter,
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", o.TracesEndpoint, o.Endpoint, "/v1/traces")
	add(err)
	p.metrics, err = otlpURL("OTEL_METRICS_EXPORTER", o.MetricsExporter,
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", o.MetricsEndpoint, o.Endpoint, "/v1/metrics")
	add(err)
	p.headers, err = parseHeaders(o.Headers)
	add(err)
	p.sampler, err = parseSampler(o.TracesSampler, o.TracesSamplerArg)
	add(err)
	if o.Protocol != "" && o.Protocol != "http/protobuf" {
		add(export.Wrong("OTEL_EXPORTER_OTLP_PROTOCOL", "set it to http/protobuf, or leave it out", "only http/protobuf is spoken"))
	}
	return p, errors.Join(errs...)
}

// otlpURL returns where a signal goes, empty if nowhere.
func otlpURL(exporterName, exporter, ownName, own, general, path string) (string, error) {
	switch exporter {
	case "none":
		return "", nil
	case "", "otlp":
	default:
		return "", export.Wrong(exporterName, "set it to otlp or none; Prometheus is METRICS_ADDR", "unknown exporter")
	}
	switch {
	case own != "":
		return own, export.CheckURL(ownName, own, nameHeaders)
	case general == "" && exporter == "":
		return "", nil
	}
	general = cmp.Or(general, defaultEndpoint)
	return strings.TrimRight(general, "/") + path, export.CheckURL("OTEL_EXPORTER_OTLP_ENDPOINT", general, nameHeaders)
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
		sound := ok && err == nil && name != "" && !strings.ContainsFunc(value, export.IsControl)
		if !sound || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
			return nil, export.Wrong(nameHeaders,
				"write name=value,name=value, with special characters percent-encoded", "not a list of headers")
		}
		headers[name] = value
	}
	return headers, nil
}

func isToken(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func parseSampler(name, arg string) (sdktrace.Sampler, error) {
	var ratio float64 = 1
	if arg != "" && strings.HasSuffix(name, "traceidratio") {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) || math.IsNaN(ratio) {
			return nil, export.Wrong("OTEL_TRACES_SAMPLER_ARG", "write the share of traces to keep, 0.01 for example", "not a number from 0 to 1")
		}
	}
	base := map[string]sdktrace.Sampler{"always_on": sdktrace.AlwaysSample(), "always_off": sdktrace.NeverSample(),
		"traceidratio": sdktrace.TraceIDRatioBased(ratio)}
	rest, parent := strings.CutPrefix(cmp.Or(name, "parentbased_always_on"), "parentbased_")
	s := base[rest]
	switch {
	case s == nil:
		return nil, export.Wrong("OTEL_TRACES_SAMPLER",
			"always_on, always_off, traceidratio, or one of them behind parentbased_", "unknown sampler")
	case parent:
		return sdktrace.ParentBased(s), nil
	}
	return s, nil
}

// parseAttributes reads OTEL_RESOURCE_ATTRIBUTES: name=value,…, percent-encoded.
func parseAttributes(text string) (list []attribute.KeyValue, err error) {
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || err != nil || key == "" {
			return nil, export.Wrong("OTEL_RESOURCE_ATTRIBUTES", "write name=value,name=value", "not a list of attributes")
		}
		list = append(list, attribute.String(key, value))
	}
	return list, nil
}
