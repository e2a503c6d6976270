package alert

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
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/worker"
)

const (
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
)

// ExitKey is the incident of a process that ended although nobody asked it to: the next one resolves it.
const ExitKey = "exit"

// End alerts of the end of the process, once, whichever of its methods is called first.
type End struct {
	alerts   *Alerts
	problems *Problems
	once     sync.Once
}

// NewEnd returns an End that sends through a and p.
func NewEnd(a *Alerts, p *Problems) *End { return &End{alerts: a, problems: p} }

// Cause alerts of why the process ends: a problem, unless it was asked to.
func (e *End) Cause(cause error) {
	e.once.Do(func() {
		e.alerts.First(cause)
		if code := fault.ExitCode(cause); code != fault.ExitClean {
			subject := ""
			if known, ok := errors.AsType[*fault.Error](cause); ok {
				subject = known.Subject
			}
			e.problems.Raise(Alert{Key: ExitKey, State: Open, Severity: Critical, Summary: "stops: " + cause.Error(),
				Details: map[string]string{"code": strconv.Itoa(code), "kind": fault.Of(cause).String(), "subject": subject}})
			return
		}
		e.alerts.Send(Alert{Key: "stop", Summary: "stops: " + cause.Error()})
	})
}

// Close sends what is left, the cause included, and ends the Alerts. It returns as Alerts.Close does.
func (e *End) Close(ctx context.Context, cause error) error {
	e.Cause(cause)
	end := Ping{State: "complete", Message: cause.Error()}
	if fault.ExitCode(cause) != fault.ExitClean {
		end.State = "fail"
	}
	e.alerts.Ping(end)
	return e.alerts.Close(ctx)
}

// Forced is for the very end, where Close was not reached, or hangs: it alerts of an end that had to be forced. alive names
// the workers that have not ended. It returns within two seconds.
func (e *End) Forced(cause error, exit lifecycle.Exit, alive func() string) {
	ctx, cancel := context.WithTimeout(context.Background(), forcedTime)
	defer cancel()
	if !exit.Clean {
		e.Cause(cause)
		if fault.Of(cause) != fault.KindStuck { // which is never waited for
			text := "the end had to be forced, it came with: " + exit.Cause
			if names := alive(); names != "" {
				text += "; still alive: " + names
			}
			e.alerts.First(&fault.Error{Kind: fault.KindUnclean, Subject: "shutdown", Err: errors.New(text)})
			e.problems.Raise(Alert{Key: ExitKey, State: Open, Severity: Critical, Summary: text,
				Details: map[string]string{"code": strconv.Itoa(exit.Code), "kind": exit.Kind}})
		}
		e.alerts.Ping(Ping{State: "fail", Message: "forced end: " + exit.Cause})
	}
	_ = e.alerts.Close(ctx) // nobody is left to read the error
}

// Previous keeps the end of the run before this one as the problem that Watch raises first.
func (p *Problems) Previous(cause string, e lifecycle.Exit) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.previous = Alert{Key: ExitKey, State: Open, Severity: Critical, Summary: "the last run " + cause,
		Details: map[string]string{"code": strconv.Itoa(e.Code), "kind": e.Kind, "subject": e.Worker, "pid": strconv.Itoa(e.PID)}}
}

// count counts how often a problem began lately.
func (k *problem) count(began bool, now time.Time) {
	switch {
	case now.Sub(k.Last) >= lately || k.Times == 0:
		k.Times = 1
	case began:
		k.Times++
	}
	k.Last = now
}

// steadyAfter is how long this process must have lived before the end of the last one counts as over.
func (p *Problems) steadyAfter() time.Duration {
	p.lock.Lock()
	defer p.lock.Unlock()
	wait := steady
	if k := p.open[ExitKey]; k != nil {
		for n := 1; n < k.Times && wait < mostSteady; n++ {
			wait *= 2
		}
	}
	return min(wait, mostSteady)
}

// CaptureVanished reports a run that left no last_exit.json, with what the monitor found out about it: reason is the
// monitor's, empty if it did not restart the app. It waits some seconds for the monitor's report in the data folder dir.
func (a *Alerts) CaptureVanished(ctx context.Context, dir string, e lifecycle.Exit, reason string) {
	text, attrs := e.Cause, []slog.Attr{slog.Int("last_pid", e.PID)}
	path, report := findReport(dir, e.PID) // of a monitor that was started anew since, it is there
	if reason != "" {
		text += "; the monitor says: " + reason
		path, report = awaitReport(ctx, dir, e.PID)
	}
	if path != "" {
		attrs = append(attrs, slog.String("monitor_report", path))
		for _, name := range []string{"reason", "cause", "signal", "out_of_memory", "uptime_s", "restarts", "phase", "self_test"} {
			if v := report[name]; v != nil {
				attrs = append(attrs, slog.String(name, string(v)))
			}
		}
	}
	a.Capture(logging.With(ctx, attrs...), &fault.Error{Kind: fault.KindUnhandled, Subject: "last run", Err: errors.New(text)})
}

// awaitReport waits for the monitor's crash report about a process; its path is empty if none comes.
func awaitReport(ctx context.Context, dir string, pid int) (string, map[string]json.RawMessage) {
	place := "the monitor's report"
	self := worker.FromContext(ctx)
	self.Park(&place)
	defer self.Unpark()
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	look := time.NewTicker(reportLook)
	defer look.Stop()
	for {
		if path, report := findReport(dir, pid); path != "" {
			return path, report
		}
		select {
		case <-look.C:
		case <-ctx.Done():
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
