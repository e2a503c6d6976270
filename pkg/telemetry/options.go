package telemetry

import (
	"log/slog"

	"example.com/base-app/pkg/telemetry/export"
	"example.com/base-app/pkg/telemetry/influx"     // part influx
	"example.com/base-app/pkg/telemetry/otlp"       // part otlp
	"example.com/base-app/pkg/telemetry/prometheus" // part prometheus
	"example.com/base-app/pkg/telemetry/statsd"     // part statsd
)

// Options name the app and where its measurements go. With the zero value, nothing is on.
type Options struct {
	App, Device, Deployment, Version, Commit, Go string

	Log *slog.Logger // of exporters that fail, once a minute each; nil: they are not logged

	Prometheus bool   // part prometheus
	StatsD     string // part statsd
	Influx     Influx // part influx
	OTel       OTel   // part otlp
}

// The settings of those exporters that have several.
type (
	Influx = influx.Exporter // part influx
	OTel   = otlp.Exporter   // part otlp
)

// exporters are all that there are. An exporter is its folder and the lines here that end with its name.
func (o Options) exporters() []export.Exporter {
	return []export.Exporter{
		prometheus.Exporter(o.Prometheus), // part prometheus
		o.OTel,                            // part otlp
		statsd.Exporter(o.StatsD),         // part statsd
		o.Influx,                          // part influx
	}
}
