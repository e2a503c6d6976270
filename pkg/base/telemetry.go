package base

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
)

// newTelemetry makes what the settings switch on, nil if that is nothing. Its error names the setting that is wrong.
func newTelemetry(s *Settings, build Build, log *slog.Logger) (*telemetry.Telemetry, error) {
	return telemetry.New(telemetry.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment, Version: build.Version,
		Commit: build.Commit, Go: build.Go,
		Log: log, Prometheus: s.ServesMetrics(), StatsD: s.StatsD.Addr,
		Influx: telemetry.Influx{URL: s.Influx.URL, Token: s.Influx.Token.Reveal(), Org: s.Influx.Org, Bucket: s.Influx.Bucket},
		OTel:   s.OTel.Options()})
}

// metricsWorker is the worker that serves METRICS_ADDR.
const metricsWorker = "metrics"

// openTelemetry serves Prometheus as a worker.
func (rt *Runtime) openTelemetry() error {
	if rt.Telemetry == nil {
		return nil
	}
	rt.flush(rt.closeTelemetry)
	h := rt.Telemetry.Handler()
	if h == nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(rt.Context(), "tcp", rt.Settings.Metrics.Addr)
	if err != nil {
		return fault.Config("set METRICS_ADDR to host:port that nobody else uses, 127.0.0.1:9464 for example, or to off",
			fmt.Errorf("METRICS_ADDR: listen: %w", err))
	}
	rt.Log.Info("serving metrics", "url", "http://"+l.Addr().String()+"/metrics")
	server := web.New(l, web.Options{Handler: h, Log: rt.Log, Level: func(*http.Request, int) slog.Level { return slog.LevelDebug }})
	return rt.goServer(metricsWorker, server.Serve)
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
