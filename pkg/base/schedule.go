package base

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
)

const (
	// scheduleWorker is the worker that does the jobs.
	scheduleWorker = "schedule"
	// pingBudget is what the pings may take that are left at shutdown: a healthy service takes a fraction, and telemetry
	// still has its own time.
	pingBudget = 2 * time.Second
)

// Retention is done by the app, and by `app cleanup` from cron for an app that is dead, or has no jobs.
const (
	retentionJitter = time.Hour       // so that the machines of a fleet don't read their disks at once
	retentionTime   = 5 * time.Minute // it takes milliseconds, unless the disk hangs
)

// Schedule adds a job, which runs at its times until the shutdown; see schedule.Job. What is wrong with it ends the
// process: with 78 if that can come from a setting (Spec, Ping), else with 1.
func (rt *Runtime) Schedule(j schedule.Job) {
	if err := rt.jobs.Add(j); err != nil {
		rt.life.Stop(err)
	}
}

// makeSchedule makes the Scheduler, and what shows its jobs.
func (rt *Runtime) makeSchedule() {
	rt.jobs = schedule.New(schedule.Options{Log: rt.Log, Report: rt.failed("job"), Fail: func(err error) { rt.life.Stop(err) },
		Client: rt.pingClient,
		Trace: func(ctx context.Context, job, run string) (context.Context, func(schedule.Outcome, error)) {
			ctx, end := rt.Telemetry.Job(ctx, job, run)
			return ctx, func(o schedule.Outcome, err error) { end(string(o), err) }
		}})
	rt.Measure(func(_ context.Context, put telemetry.Put) { rt.jobs.Measure(put) })
	rt.Dump("jobs", rt.jobs.DumpItems)
	rt.Command("GET /jobs", func(*http.Request) (any, error) { return rt.jobs.List(), nil })
}

// pingClient makes the client of the pings. What is left of them is sent at shutdown, before the client is closed.
func (rt *Runtime) pingClient() (*web.Client, error) {
	client, err := rt.Client("job-pings", schedule.PingPolicy())
	if err == nil {
		rt.OnStop("job pings", pingBudget, rt.closePings)
	}
	return client, err
}

// closePings gives up before its budget is over, so that it is not found to hang.
func (rt *Runtime) closePings(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingBudget-closeMargin)
	defer cancel()
	if err := rt.jobs.Close(ctx); err != nil { // what is not sent doesn't make the end unclean
		rt.Log.Warn("pings that were left could not be sent", "error", err)
	}
	return nil
}

// openSchedule starts the worker that does the jobs, with those that every app has.
func (rt *Runtime) openSchedule() error {
	rt.Schedule(schedule.Job{Name: "retention", Spec: "@daily", Jitter: retentionJitter, Timeout: retentionTime, Do: rt.retain})
	return rt.goServer(scheduleWorker, rt.jobs.Run)
}

// retain removes what is old from the data folder.
func (rt *Runtime) retain(ctx context.Context, log *slog.Logger) error {
	removed, err := lifecycle.Cleanup(rt.Settings.DataDir, KeepFor)
	if removed > 0 {
		log.InfoContext(ctx, "removed old dumps, errors and crash reports", "files", removed)
	}
	return err
}
