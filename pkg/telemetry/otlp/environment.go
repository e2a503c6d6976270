package otlp

import "example.com/base-app/pkg/config"

// Environment is the settings under the OpenTelemetry specification's names. They are no group of ours: the SDK reads all others of the
// specification itself, from the environment.
type Environment struct {
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

// Exporter returns the exporter that the settings name.
func (s *Environment) Exporter() Exporter {
	return Exporter{SDKDisabled: s.Disabled, ServiceName: s.Service, ResourceAttributes: s.Attributes, TracesExporter: s.TracesExporter,
		MetricsExporter: s.MetricsExporter, Endpoint: s.Endpoint, TracesEndpoint: s.TracesEndpoint, MetricsEndpoint: s.MetricsEndpoint,
		Protocol: s.Protocol,
		Headers:  s.Headers.Reveal(), TracesSampler: s.Sampler, TracesSamplerArg: s.SamplerArg, MaxQueueSize: s.QueueSize,
		MetricInterval: s.Interval}
}
