package base

import (
	"context"
	"log/slog"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/telemetry"
)

// newTelemetry makes what the settings switch on, nil if that is nothing. Its error names the setting that is wrong.
func newTelemetry(s *Settings, build Build, log *slog.Logger) (*telemetry.Telemetry, error) {
	o := telemetry.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment, Version: build.Version,
		Commit: build.Commit, Go: build.Go, Log: log}
	s.exporters(&o)
	return telemetry.New(o)
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
