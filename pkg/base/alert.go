package base

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/alert"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

// alertSettings say whom to tell what goes wrong. Everything is off until it is set; errors are files then.
type alertSettings struct {
	Sentry struct {
		DSN         config.Secret `envconfig:"SENTRY_DSN" desc:"address of the Sentry project that errors go to, https://key@host/number; empty means that they are files in the folder errors in DATA_DIR"`
		Environment string        `envconfig:"SENTRY_ENVIRONMENT" desc:"which environment Sentry shows for them, staging for example; empty means Sentry's default"`
		Ignore      []string      `envconfig:"SENTRY_IGNORE" desc:"workers and components, separated by commas, whose errors are not reported; alerts_ignored_total counts them"`
	} `group:"SENTRY"`
	PagerDuty struct {
		RoutingKey config.Secret `envconfig:"PAGERDUTY_ROUTING_KEY" desc:"integration key of a service with Events API v2; empty means none"`
		URL        string        `envconfig:"PAGERDUTY_URL" default:"https://events.pagerduty.com" desc:"where PagerDuty takes events; https://events.eu.pagerduty.com in Europe"`
	} `group:"PAGERDUTY"`
	Webhook struct {
		URL config.Secret `envconfig:"WEBHOOK_URL" desc:"address that problems, and their ends, are POSTed to as JSON; empty means none"`
	} `group:"WEBHOOK"`
	Telegram struct {
		Token  config.Secret `envconfig:"TELEGRAM_TOKEN" desc:"of the bot that tells a chat what happens, from BotFather; empty means none"`
		ChatID string        `envconfig:"TELEGRAM_CHAT_ID" desc:"number of that chat, which alone may ask for /status"`
		URL    string        `envconfig:"TELEGRAM_URL" default:"https://api.telegram.org" desc:"where Telegram, or a server of your own, takes calls"`
	} `group:"TELEGRAM"`
	Cronitor struct {
		APIKey     config.Secret `envconfig:"CRONITOR_API_KEY" desc:"key that Cronitor is told with, each minute, how the workers are; empty means not at all"`
		MonitorKey string        `envconfig:"CRONITOR_MONITOR_KEY" desc:"key of the monitor there"`
		URL        string        `envconfig:"CRONITOR_URL" default:"https://cronitor.link" desc:"where Cronitor takes pings"`
	} `group:"CRONITOR"`
}

const (
	// lookEvery is the time between two looks at what may be a problem: soon enough for a person, and next to nothing.
	lookEvery = 2 * time.Second
	// pingEvery is how often Cronitor is told, which judges by the minute; pingTime is far more than that takes.
	pingEvery, pingTime = "@every 1m", 10 * time.Second
	// steady is how long a new process must have lived before a problem of the last one counts as over: an app that dies
	// within seconds, again and again, is one incident.
	steady = 5 * time.Second
	// An app that lives a little longer each time is one incident, too: the wait doubles each time that the end of a
	// process begins a problem within lately, up to mostSteady, which nobody wants to wait longer for good news.
	lately, mostSteady = time.Hour, 10 * time.Minute
	// reportTime is how long to wait for the monitor's report about the last run, which is written after the restart.
	reportTime = 5 * time.Second
	reportLook = 100 * time.Millisecond
	// forcedTime is what is left for alerts when the end is forced, beside the saving of the exit.
	forcedTime = 2 * time.Second
	// maxAlertAnswer is what an answer may have: some hundred messages of Telegram's.
	maxAlertAnswer = 1 << 20
)

// newAlerts makes what the settings switch on. Its error names the setting that is wrong.
func newAlerts(s *Settings, build Build) (*alert.Alerts, error) {
	o := &s.Alerts
	return alert.New(alert.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment, Version: build.Version, Commit: build.Commit,
		DSN: o.Sentry.DSN.Reveal(), Environment: o.Sentry.Environment, Ignore: o.Sentry.Ignore, Dir: s.DataDir,
		PagerDuty: alert.PagerDuty{RoutingKey: o.PagerDuty.RoutingKey.Reveal(), URL: o.PagerDuty.URL}, Webhook: o.Webhook.URL.Reveal(),
		Telegram: alert.Telegram{Token: o.Telegram.Token.Reveal(), ChatID: o.Telegram.ChatID, URL: o.Telegram.URL},
		Cronitor: alert.Cronitor{APIKey: o.Cronitor.APIKey.Reveal(), MonitorKey: o.Cronitor.MonitorKey, URL: o.Cronitor.URL}})
}

// Capture reports an error that the app caught itself, if its kind is one that is reported; ctx tells of which request and
// worker it is. It does not block.
func (rt *Runtime) Capture(ctx context.Context, err error) { rt.alerts.Capture(ctx, err) }

// openAlerts begins to tell. The services stand in /healthz as dependencies that are not required: who looks there should
// see that nobody could be told, but the app is as useful as before.
func (rt *Runtime) openAlerts() error {
	if rt.alerts.Watched() {
		rt.problems.load(filepath.Join(rt.folder.Dir, openProblems), rt.alerts.Receivers)
	}
	rt.flush(rt.closeAlerts)
	context.AfterFunc(rt.Context(), rt.tellCause)
	err := rt.alerts.Start(rt.Context(), alert.Surroundings{Log: rt.Log, Closing: rt.life.Closing, Status: rt.statusLine, Outcome: rt.problems.settled,
		Client: func(name string, p dependency.Policy) (*web.Client, error) {
			d, err := rt.Depend(name, p)
			if err != nil {
				return nil, err
			}
			return web.NewClient(d, web.ClientOptions{UserAgent: rt.Settings.App.Name + "/" + rt.Build.Version, MaxResponse: maxAlertAnswer}), nil
		}})
	if err != nil {
		return err
	}
	rt.problems.again(true, rt.alerts.SendTo)
	text := "started, version " + rt.Build.Version
	if m := rt.Settings.Monitor; m.Restarts > 0 {
		text = fmt.Sprintf("restarted by the monitor, %d so far: %s", m.Restarts, m.LastReason)
	}
	rt.alerts.Send(alert.Alert{Key: "start", Summary: text})
	rt.alerts.Ping(alert.Ping{State: "run", Message: text})
	if rt.alerts.Watched() {
		rt.Go("alerts", rt.watch, nanny.Restart(3, time.Minute))
	}
	if rt.alerts.Pinged() {
		rt.Schedule(schedule.Job{Name: "nanny-report", Spec: pingEvery, Timeout: pingTime, Do: func(ctx context.Context, _ *slog.Logger) error { return rt.pingWorkers(ctx) }})
	}
	return nil
}

// alertPrevious tells of the end of the run before this one, where it could not do so itself. What the log says as an error
// is reported from there.
func (rt *Runtime) alertPrevious(crash *lifecycle.Crash, e lifecycle.Exit, vanished, first bool) {
	cause := e.Cause
	switch {
	case crash != nil:
		cause = "crashed: " + crash.Cause
	case vanished:
		rt.Go("last-run", func(ctx context.Context) error { rt.reportVanished(ctx, e); return nil }, nanny.OneShot())
	case first || e.Run == "" || e.Code == fault.ExitClean:
		return
	}
	if m := rt.Settings.Monitor; m.Restarts > 0 {
		cause += "; the monitor says: " + m.LastReason
	}
	rt.problems.lastRun = alert.Alert{Key: exitKey, State: alert.Open, Severity: alert.Critical, Summary: "the last run " + cause,
		Details: map[string]string{"code": strconv.Itoa(e.Code), "kind": e.Kind, "subject": e.Worker, "pid": strconv.Itoa(e.PID)}}
}

// reportVanished reports a run that left no word, with what the monitor found out about it.
func (rt *Runtime) reportVanished(ctx context.Context, e lifecycle.Exit) {
	text, attrs := e.Cause, []slog.Attr{slog.Int("last_pid", e.PID)}
	path, report := findReport(rt.folder.Dir, e.PID) // of a monitor that was started anew since, it is there
	if rt.Settings.Monitor.Restarts > 0 {
		text += "; the monitor says: " + rt.Settings.Monitor.LastReason
		path, report = awaitReport(ctx, rt.folder.Dir, e.PID)
	}
	if path != "" {
		attrs = append(attrs, slog.String("monitor_report", path))
		for _, name := range []string{"reason", "cause", "signal", "out_of_memory", "uptime_s", "restarts", "phase", "self_test"} {
			if v := report[name]; v != nil {
				attrs = append(attrs, slog.String(name, string(v)))
			}
		}
	}
	rt.alerts.Capture(logging.With(ctx, attrs...), &fault.Error{Kind: fault.KindUnhandled, Subject: "last run", Err: errors.New(text)})
}

// awaitReport waits for the monitor's crash report about a process; its path is empty if none comes.
func awaitReport(ctx context.Context, dir string, pid int) (string, map[string]json.RawMessage) {
	place := "the monitor's report"
	self := worker.FromContext(ctx)
	self.Park(&place)
	defer self.Unpark()
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	for look := time.NewTicker(reportLook); ; {
		if path, report := findReport(dir, pid); path != "" {
			look.Stop()
			return path, report
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			return "", nil
		}
	}
}

// findReport returns the monitor's newest crash report about a process; its path is empty if there is none.
func findReport(dir string, pid int) (path string, report map[string]json.RawMessage) {
	list, _ := filepath.Glob(filepath.Join(dir, "crashes", fmt.Sprintf("monitor-*-%d.json", pid)))
	if len(list) == 0 {
		return "", nil
	}
	path = slices.Max(list) // the names begin with the time
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &report) != nil {
		return "", nil
	}
	return path, report
}

// exitKey is the incident of a process that ended although nobody asked it to: the next one resolves it.
const exitKey = "exit"

// tellCause tells why the process ends, once.
func (rt *Runtime) tellCause() {
	rt.problems.causeTold.Do(func() {
		cause := context.Cause(rt.Context())
		rt.alerts.First(cause)
		if code := fault.ExitCode(cause); code != fault.ExitClean {
			rt.problem(alert.Alert{Key: exitKey, State: alert.Open, Severity: alert.Critical, Summary: "stops: " + cause.Error(),
				Details: map[string]string{"code": strconv.Itoa(code), "kind": fault.Of(cause).String(), "subject": subjectOf(cause)}})
			return
		}
		rt.alerts.Send(alert.Alert{Key: "stop", Summary: "stops: " + cause.Error()})
	})
}

func subjectOf(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Subject
	}
	return ""
}

// closeAlerts sends what is left.
func (rt *Runtime) closeAlerts(ctx context.Context) {
	rt.tellCause()
	cause := context.Cause(rt.Context())
	end := alert.Ping{State: "complete", Message: cause.Error()}
	if fault.ExitCode(cause) != fault.ExitClean {
		end.State = "fail"
	}
	rt.alerts.Ping(end)
	if err := rt.alerts.Close(ctx); err != nil {
		rt.Log.Warn("alerts that were left could not be sent", "error", err)
	}
}

// tellForced tells of an end that had to be forced, where the hook for the last words was not reached, or hangs.
func (rt *Runtime) tellForced(e lifecycle.Exit) {
	ctx, cancel := context.WithTimeout(context.Background(), forcedTime)
	defer cancel()
	if !e.Clean {
		rt.tellCause()
		if fault.Of(context.Cause(rt.Context())) != fault.KindStuck { // which is never waited for
			text := "the end had to be forced, it came with: " + e.Cause
			if names := rt.alive(); names != "" {
				text += "; still alive: " + names
			}
			rt.alerts.First(&fault.Error{Kind: fault.KindUnclean, Subject: "shutdown", Err: errors.New(text)})
			rt.problem(alert.Alert{Key: exitKey, State: alert.Open, Severity: alert.Critical, Summary: text, Details: map[string]string{"code": strconv.Itoa(e.Code), "kind": e.Kind}})
		}
		rt.alerts.Ping(alert.Ping{State: "fail", Message: "forced end: " + e.Cause})
	}
	_ = rt.alerts.Close(ctx) // there is nobody left to tell
}

// statusLine is what /status answers in Telegram.
func (rt *Runtime) statusLine() string {
	h := rt.health()
	alive := 0
	for _, s := range rt.nanny.Workers() {
		if s.State == nanny.StateBusy || s.State == nanny.StateParked {
			alive++
		}
	}
	lines := []string{fmt.Sprintf("%s on %s: %s, up %s, version %s, %d workers", rt.Settings.App.Name, rt.Settings.Device, h.Status, age(rt.began), rt.Build.Version, alive)}
	for _, d := range h.Depends {
		lines = append(lines, fmt.Sprintf("%s is %s", d.Name, d.State))
	}
	return strings.Join(append(lines, h.Problems...), "\n")
}

// watch looks for problems, and for their ends, until ctx ends.
func (rt *Runtime) watch(ctx context.Context) error {
	place := "between looks"
	self := worker.FromContext(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	if rt.problems.lastRun.Key != "" {
		rt.problem(rt.problems.lastRun)
	}
	for {
		rt.look()
		self.Park(&place)
		select {
		case <-look.C:
			self.Unpark()
		case <-ctx.Done():
			self.Unpark()
			return nil
		}
	}
}

// pingWorkers tells Cronitor how the workers are. It never blocks.
func (rt *Runtime) pingWorkers(context.Context) error {
	p := alert.Ping{State: "ok", Counting: true}
	var missing []string
	for _, s := range rt.nanny.Workers() {
		switch s.State {
		case nanny.StateDone, nanny.StateStopped:
			continue
		case nanny.StateBusy, nanny.StateParked:
		default:
			missing = append(missing, s.Name+" is "+string(s.State))
		}
		p.Workers++
	}
	p.Message = fmt.Sprintf("%d workers", p.Workers)
	if p.Missing = len(missing); p.Missing > 0 {
		p.State, p.Message = "fail", fmt.Sprintf("%d of %d workers are missing: %s", p.Missing, p.Workers, strings.Join(missing, ", "))
	}
	rt.alerts.Ping(p)
	return nil
}

// look finds what is wrong now, and tells what is news.
func (rt *Runtime) look() {
	if rt.life.Leaving().Err() != nil {
		return // what closes now is no problem
	}
	rt.problems.again(false, rt.alerts.SendTo)
	now, unknown := rt.wrong()
	well := rt.nanny.Err() == nil
	for _, a := range now {
		well = well && a.Severity < alert.Error
		rt.problem(a)
	}
	rt.mu.Lock()
	started := rt.started
	rt.mu.Unlock()
	lived := time.Since(rt.began)
	if !started || lived < steady {
		return
	}
	well = well && lived >= rt.problems.steadyAfter()
	for key, a := range rt.problems.list() {
		if _, still := now[key]; still || unknown[key] || key == exitKey && !well {
			continue
		}
		a.State = alert.Over
		rt.problem(a)
	}
}

// wrong returns what is wrong now, and of which dependencies nobody knows how they are.
func (rt *Runtime) wrong() (now map[string]alert.Alert, unknown map[string]bool) {
	now, unknown = map[string]alert.Alert{}, map[string]bool{}
	found := func(key string, s alert.Severity, what, err string) {
		now[key] = alert.Alert{Key: key, State: alert.Open, Severity: s, Summary: strings.TrimSuffix(what+": "+err, ": "), Details: map[string]string{"error": err}}
	}
	for _, d := range rt.depends.List() {
		key, severity := "dependency/"+d.Name, alert.Warning
		if d.Required {
			severity = alert.Critical
		}
		switch {
		case strings.HasPrefix(d.Name, alert.Prefix): // who can't be told needn't be told
		case d.State == dependency.Down:
			found(key, severity, "dependency "+d.Name+" is down", d.LastError)
		case d.State == dependency.Unknown:
			unknown[key] = true
		}
	}
	rt.mu.Lock()
	checks := rt.checks
	rt.mu.Unlock()
	for _, c := range checks {
		if _, err := c.ask(); err != nil {
			found("check/"+c.name, alert.Error, c.name, err.Error())
		}
	}
	return now, unknown
}

// problem tells of a's beginning or end, if it is news.
func (rt *Runtime) problem(a alert.Alert) {
	a = a.Clip()
	if rt.problems.note(a) {
		rt.alerts.Send(a)
	}
}

// measureAlerts tells what became of alerts.
func measureAlerts(a *alert.Alerts, put telemetry.Put) {
	for _, s := range a.Stats() {
		put("alerts_sent", float64(s.Sent), s.Service)
		put("alerts_dropped", float64(s.Dropped), s.Service)
		put("alerts_suppressed", float64(s.Suppressed), s.Service)
	}
	for name, n := range a.Ignored() {
		put("alerts_ignored", float64(n), name)
	}
}
