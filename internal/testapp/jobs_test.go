package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"example.com/base-app/pkg/base"
	settings "example.com/base-app/pkg/config"
	"example.com/base-app/pkg/schedule"
	"github.com/rogpeppe/go-internal/testscript"
)

// scheduledConfig has what a fork would have for its jobs.
type scheduledConfig struct {
	base.Settings

	Spec string          `envconfig:"APP_REPORT_SPEC" default:"@every 1s" desc:"when the report is made"`
	Ping settings.Secret `envconfig:"APP_REPORT_PING_URL" desc:"the check that hears of it"`
	Twin bool            `envconfig:"APP_TWIN" default:"false" desc:"whether there are two jobs of one name"`
}

// runScheduled runs an app with jobs: a report, one that fails, and one that hangs.
func runScheduled(rt *base.Runtime, cfg *scheduledConfig) error {
	rt.Schedule(schedule.Job{Name: "report", Spec: cfg.Spec, Timeout: time.Minute, Ping: cfg.Ping, Do: func(ctx context.Context, log *slog.Logger) error {
		log.InfoContext(ctx, "report sent", "to", "https://reports.example/s3cret")
		return nil
	}})
	rt.Schedule(schedule.Job{Name: "broken", Spec: "@every 1s", Do: func(context.Context, *slog.Logger) error { return errors.New("no paper") }})
	rt.Schedule(schedule.Job{Name: "deaf", Spec: "@every 1s", Timeout: 100 * time.Millisecond, Do: func(context.Context, *slog.Logger) error {
		hangForEver()
		return nil
	}})
	if cfg.Twin {
		rt.Schedule(schedule.Job{Name: "report", Spec: "@daily", Do: func(context.Context, *slog.Logger) error { return nil }})
	}
	rt.Serve(func(*http.ServeMux) {})
	rt.Started()
	return rt.Wait()
}

// record starts a server that writes what it is asked into the file pings, and has the report ping it.
func record(ts *testscript.TestScript, _ bool, _ []string) {
	file, err := os.Create(filepath.Join(ts.Getenv("WORK"), "pings"))
	ts.Check(err)
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(file, "%s %s %q\n", r.Method, r.URL, body)
		fmt.Fprint(w, "OK")
	}))
	ts.Defer(func() { server.Close(); _ = file.Close() })
	ts.Setenv("APP_REPORT_PING_URL", server.URL+"/p1ng")
}
