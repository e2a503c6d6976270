package base

import (
	"example.com/base-app/pkg/alert"    // part alert
	"example.com/base-app/pkg/backup"   // part backup
	"example.com/base-app/pkg/chaos"    // part chaos
	"example.com/base-app/pkg/schedule" // part schedule
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/telemetry/influx"     // part influx
	"example.com/base-app/pkg/telemetry/otlp"       // part otlp
	"example.com/base-app/pkg/telemetry/prometheus" // part prometheus
	"example.com/base-app/pkg/telemetry/statsd"     // part statsd
)

// A part is what a fork can do without. Part X is the folder pkg/X or pkg/telemetry/X, the files X*.go here and in pkg/cli,
// and the lines that end with the comment "part X": in this file, in run.go, in the list of commands in pkg/cli, in the list
// of exporters in pkg/telemetry, and in three tests. Nothing else may know it; the rest offers it what it offers everybody:
// registration calls, and the hooks of the Runtime.

// parts is what the parts keep in the Runtime.
type parts struct {
	Chaos    *chaos.Chaos        // part chaos
	jobs     *schedule.Scheduler // part schedule
	alerts   *alert.Alerts       // part alert
	problems *alert.Problems     // part alert
	alertEnd *alert.End          // part alert
}

// PartSettings are the settings of the parts.
type PartSettings struct {
	Metrics prometheus.Settings `group:"METRICS"` // part prometheus
	StatsD  statsd.Settings     `group:"STATSD"`  // part statsd
	Influx  influx.Settings     `group:"INFLUX"`  // part influx
	OTel    otlp.Environment    // part otlp
	Alerts  alert.Settings      // part alert
	Backup  backup.Settings     // part backup
}

func (s *PartSettings) resolve(dataDir string) {
	s.Backup.Resolve(dataDir) // part backup
}

// exporters say where measurements go.
func (s *PartSettings) exporters(o *telemetry.Options) {
	o.Prometheus = s.Metrics.Serves() // part prometheus
	o.StatsD = s.StatsD.Addr          // part statsd
	o.Influx = s.Influx.Exporter()    // part influx
	o.OTel = s.OTel.Exporter()        // part otlp
}
