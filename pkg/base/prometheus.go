package base

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

// metricsWorker is the worker that serves METRICS_ADDR.
const metricsWorker = "metrics"

// serveMetrics serves Prometheus as a worker.
func (rt *Runtime) serveMetrics() error {
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
