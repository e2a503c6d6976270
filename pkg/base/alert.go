package base

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"example.com/base-app/pkg/alert"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
)

// maxAlertAnswer is what an answer may have: some hundred messages of Telegram's.
const maxAlertAnswer = 1 << 20

// makeAlerts makes what the settings switch on, before there is a log. Its error names the setting that is wrong.
func (rt *Runtime) makeAlerts() (err error) {
	s := rt.Settings
	o := s.Alerts.Options()
	o.App, o.Device, o.Deployment, o.Dir = s.App.Name, s.Device, s.Deployment, s.DataDir
	o.Version, o.Commit = rt.Build.Version, rt.Build.Commit
	rt.alerts, err = alert.New(o)
	if err != nil {
		return err
	}
	rt.problems = alert.NewProblems(rt.alerts, alert.Scene{Began: rt.began, Started: rt.isStarted, Leaving: rt.isLeaving,
		Dependencies: func() []dependency.Health { return rt.depends.List() }, Checks: rt.failedChecks,
		Failed: func() error { return rt.nanny.Err() }})
	rt.alertEnd = alert.NewEnd(rt.alerts, rt.problems)
	rt.hooks.record, rt.hooks.failure, rt.hooks.feedback = rt.alerts.Record, rt.alerts.Report, rt.alerts.Feedback
	rt.hooks.previous = rt.alertPrevious
	rt.hooks.forced = func(e lifecycle.Exit) { rt.alertEnd.Forced(context.Cause(rt.Context()), e, rt.alive) }
	return nil
}

// openAlerts begins to send. The services stand in /healthz as dependencies that are not required: who looks there should
// see that nobody could be alerted, but the app is as useful as before.
func (rt *Runtime) openAlerts() error {
	rt.Measure(func(_ context.Context, put telemetry.Put) { rt.alerts.Measure(put) })
	if rt.alerts.Watched() {
		rt.problems.Load(filepath.Join(rt.folder.Dir, alert.ProblemsFile))
	}
	rt.flush(func(ctx context.Context) {
		if err := rt.alertEnd.Close(ctx, context.Cause(rt.Context())); err != nil {
			rt.Log.Warn("alerts that were left could not be sent", "error", err)
		}
	})
	context.AfterFunc(rt.Context(), func() { rt.alertEnd.Cause(context.Cause(rt.Context())) })
	err := rt.alerts.Start(rt.Context(), alert.Surroundings{Log: rt.Log, Closing: rt.life.Closing, Status: rt.statusLine,
		Outcome: rt.problems.Settled, Client: rt.alertClient})
	if err != nil {
		return err
	}
	rt.problems.Resume()
	text := "started, version " + rt.Build.Version
	if m := rt.Settings.Monitor; m.Restarts > 0 {
		text = fmt.Sprintf("restarted by the monitor, %d so far: %s", m.Restarts, m.LastReason)
	}
	rt.alerts.Send(alert.Alert{Key: "start", Summary: text})
	rt.alerts.Ping(alert.Ping{State: "run", Message: text})
	if rt.alerts.Watched() {
		rt.Go("alerts", rt.problems.Watch, nanny.Restart(3, time.Minute))
	}
	if rt.alerts.Pinged() {
		report := func(ctx context.Context) error { return rt.alerts.PingWorkers(ctx, rt.nanny.Workers) }
		rt.Go("nanny-report", report, nanny.Restart(3, time.Minute))
	}
	return nil
}

func (rt *Runtime) alertClient(name string, p dependency.Policy) (*web.Client, error) {
	d, err := rt.Depend(name, p)
	if err != nil {
		return nil, err
	}
	return web.NewClient(d, web.ClientOptions{UserAgent: rt.userAgent(), MaxResponse: maxAlertAnswer}), nil
}

// Alert sends people an alert of the app's own. With State Open it begins a problem, which lasts until the same Key is Over,
// over restarts, too: the process that opened it, or the next one, ends it. Saying the same again changes nothing. With State
// Note it is a message. Who gets it depends on Severity; see docs/alerts.md. It does not block.
func (rt *Runtime) Alert(a alert.Alert) {
	if a.Key == "" {
		rt.Log.Error("an alert without a key is not sent", "summary", a.Summary)
		return
	}
	a.Key = alert.OwnPrefix + a.Key
	if a.State == alert.Note {
		rt.alerts.Send(a)
		return
	}
	rt.problems.Raise(a)
}

// failedChecks are the parts of the app that are not well, by name.
func (rt *Runtime) failedChecks() map[string]error {
	failed := map[string]error{}
	for _, c := range rt.allChecks() {
		if _, err := c.ask(); err != nil {
			failed[c.name] = err
		}
	}
	return failed
}

// alertPrevious alerts of the end of the run before this one, where it could not do so itself. What the log has as an
// error is reported from there.
func (rt *Runtime) alertPrevious(run previousRun) {
	m, cause, reason := rt.Settings.Monitor, run.exit.Cause, ""
	if m.Restarts > 0 {
		reason = m.LastReason
	}
	switch {
	case run.crash != nil:
		cause = "crashed: " + run.crash.Cause
	case run.vanished:
		rt.Go("last-run", func(ctx context.Context) error {
			rt.alerts.CaptureVanished(ctx, rt.folder.Dir, run.exit, reason)
			return nil
		}, nanny.OneShot())
	case run.unknown || run.exit.Code == fault.ExitClean:
		return
	}
	if reason != "" {
		cause += "; the monitor says: " + reason
	}
	rt.problems.Previous(cause, run.exit)
}

// statusLine is what /status answers in Telegram.
func (rt *Runtime) statusLine() string {
	h := rt.health()
	alive := 0
	for _, state := range h.Workers {
		if state == nanny.StateBusy || state == nanny.StateParked || state == nanny.StateUnwatched {
			alive++
		}
	}
	lines := []string{fmt.Sprintf("%s on %s: %s, up %s, version %s, %d workers", rt.Settings.App.Name, rt.Settings.Device, h.Status,
		age(rt.began), rt.Build.Version, alive)}
	for _, d := range h.Depends {
		lines = append(lines, fmt.Sprintf("%s is %s", d.Name, d.State))
	}
	return strings.Join(append(lines, h.Problems...), "\n")
}
