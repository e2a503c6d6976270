package base

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/stack"
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

// Retention is done by the app, and by `app cleanup` from cron for an app that is dead.
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

func (rt *Runtime) newSchedule() *schedule.Scheduler {
	return schedule.New(schedule.Options{Log: rt.Log, Report: rt.failed("job"), Fail: func(err error) { rt.life.Stop(err) }, Client: rt.pingClient,
		Trace: func(ctx context.Context, job, run string) (context.Context, func(schedule.Outcome, error)) {
			ctx, end := rt.Telemetry.Job(ctx, job, run)
			return ctx, func(o schedule.Outcome, err error) { end(string(o), err) }
		}})
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
	return rt.jobs.Close(ctx)
}

// openSchedule starts the worker that does the jobs, with those that every app has.
func (rt *Runtime) openSchedule() {
	rt.Schedule(schedule.Job{Name: "retention", Spec: "@daily", Jitter: retentionJitter, Timeout: retentionTime, Do: rt.retain})
	rt.Go(scheduleWorker, rt.jobs.Run)
}

// retain removes what is old from the data folder.
func (rt *Runtime) retain(ctx context.Context, log *slog.Logger) error {
	removed, err := lifecycle.Cleanup(rt.Settings.DataDir, keepFor)
	if removed > 0 {
		log.InfoContext(ctx, "removed old dumps, errors and crash reports", "files", removed)
	}
	return err
}

// measureJobs tells what the jobs did. Their names are few: the Scheduler is bounded.
func measureJobs(list []schedule.Status, put telemetry.Put) {
	for _, j := range list {
		for outcome, n := range j.Runs {
			put("job_runs", float64(n), j.Name, string(outcome))
		}
		if !j.LastSuccess.IsZero() {
			put("job_last_success_timestamp_seconds", float64(j.LastSuccess.UnixMilli())/1000, j.Name)
		}
		if p := j.Pings; p != nil {
			for outcome, n := range map[string]uint64{"sent": p.Sent, "failed": p.Failed, "dropped": p.Dropped} {
				put("job_pings", float64(n), j.Name, outcome)
			}
		}
	}
}

// jobItems is what the state dump tells of the jobs.
func jobItems(list []schedule.Status, all []stack.Goroutine) []lifecycle.Item {
	var items []lifecycle.Item
	for _, j := range list {
		it := lifecycle.Item{Title: "job " + j.Name, Attrs: []slog.Attr{
			slog.String("state", string(j.State)), slog.String("began", age(j.Began)), slog.String("outcome", string(j.Outcome)),
			slog.String("next", j.Next.Format(time.RFC3339))}}
		if j.Error != "" {
			it.Attrs = append(it.Attrs, slog.String("error", j.Error))
		}
		if own := stack.Of(schedule.Label(j.Name), all); len(own) > 0 {
			it.Stack = &own[0]
		}
		items = append(items, it)
	}
	return items
}

// printJobs is what `app ctl jobs` prints.
func printJobs(w io.Writer, list []schedule.Status) {
	fmt.Fprintln(w, "JOB\tSPEC\tSTATE\tBEGAN\tTOOK\tOUTCOME\tNEXT\tDONE\tFAILED\tSKIPPED\tLAST ERROR")
	for _, j := range list {
		began, took := "-", "-"
		if !j.Began.IsZero() {
			began = j.Began.Format(time.RFC3339)
		}
		if j.Ended.After(j.Began) {
			took = j.Ended.Sub(j.Began).Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", j.Name, j.Spec, j.State, began, took, cmp.Or(string(j.Outcome), "-"), j.Next.Format(time.RFC3339),
			j.Runs[schedule.Done], j.Runs[schedule.Failed]+j.Runs[schedule.TimedOut], j.Runs[schedule.Skipped], cmp.Or(j.Error, "-"))
	}
}
