package base

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/telemetry"
)

// flushBudget bounds the last lines to syslog; it is within what a forced end waits for them.
const flushBudget = 400 * time.Millisecond

// openFolder takes the data folder for this process.
func (rt *Runtime) openFolder() error {
	folder, err := lifecycle.OpenFolder(rt.Context(), rt.Settings.DataDir, rt.Log)
	if err != nil {
		return err
	}
	rt.mu.Lock()
	rt.folder = folder
	rt.mu.Unlock()
	rt.life.KeepDumps(folder.Dir)
	return nil
}

func (rt *Runtime) openedFolder() *lifecycle.Folder {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.folder
}

func logStart(rt *Runtime, env config.Environment, warnings []string) {
	folder, _ := os.Getwd()
	rt.Log.Info("starting", "pid", os.Getpid(), "go", rt.Build.Go, "folder", folder, "data", rt.Settings.DataDir, "memory_limit",
		lifecycle.LimitMemory(rt.Log), "logs", rt.logs.Outputs())
	rt.Log.Debug("environment", "names", strings.Join(env.Names(), " "))
	if m := rt.Settings.Monitor; m.Restarts > 0 {
		rt.Log.Warn("restarted by the monitor", "restarts", m.Restarts, "reason", m.LastReason)
	}
	for _, w := range warnings {
		rt.Log.Warn("setting", "warning", w)
	}
}

// logPrevious logs how the run before this one ended.
func logPrevious(rt *Runtime) error {
	crash, err := rt.folder.CatchCrash()
	if err != nil {
		return err
	}
	e, vanished, first := rt.folder.Previous()
	if rt.hooks.previous != nil {
		rt.hooks.previous(previousRun{crash, e, vanished, first || e.Run == ""})
	}
	switch {
	case crash != nil:
		rt.Log.Error("the last run crashed", "cause", crash.Cause, "file", crash.File, "stack", crash.Stack)
	case vanished:
		rt.Log.Warn("the last run "+e.Cause, "pid", e.PID, "started", e.Started)
	case first || e.Run == "":
		rt.Log.Debug("no run before this one is known")
	case e.Code == fault.ExitClean:
		rt.Log.Info("last run", "code", e.Code, "cause", e.Cause, "ended", e.Ended, "uptime", seconds(e.Uptime))
	default:
		rt.Log.Warn("last run", "code", e.Code, "cause", e.Cause, "kind", e.Kind, "subject", e.Worker, "clean", e.Clean, "ended", e.Ended,
			"uptime", seconds(e.Uptime))
	}
	return nil
}

// measureStart puts how often the app was started, and how it ended before.
func (rt *Runtime) measureStart(_ context.Context, put telemetry.Put) {
	put("monitor_restarts", float64(rt.Settings.Monitor.Restarts))
	if folder := rt.openedFolder(); folder != nil {
		switch e, vanished, first := folder.Previous(); {
		case vanished:
			put("last_exit_info", 1, "vanished", "")
		case !first && e.Run != "":
			put("last_exit_info", 1, e.Kind, strconv.Itoa(e.Code))
		}
	}
	s := rt.logs.Stats()
	put("log_lines_lost", float64(s.Dropped), "dropped")
	put("log_lines_lost", float64(s.Suppressed), "suppressed")
	put("log_lines_lost", float64(s.Sampled), "sampled")
	put("log_lines_lost", float64(s.Truncated), "truncated")
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// saveExit keeps the end for the next start, unless the data folder is somebody else's, and gives the folder up.
func (rt *Runtime) saveExit(e lifecycle.Exit) {
	folder := rt.openedFolder()
	if folder == nil {
		return
	}
	e.Run = folder.Run
	if err := errors.Join(lifecycle.SaveExit(folder.Dir, e), folder.Close()); err != nil {
		rt.Log.Error("the exit could not be saved", "error", err)
	}
}

// logEnd prints the first cause last.
func logEnd(rt *Runtime, e lifecycle.Exit) {
	cause := context.Cause(rt.Context())
	rule := fault.Of(cause).Rule()
	attrs := []any{"code", e.Code, "cause", e.Cause, "kind", e.Kind, "uptime", seconds(e.Uptime)}
	if hint := fault.Hint(cause); hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	text, level := "stopped", rule.Level
	switch {
	case e.Unclean != "":
		text, level, attrs = "stopped, but not cleanly", slog.LevelError, append(attrs, "unclean", e.Unclean)
	case !e.Clean:
		text, level = "stopped, the end had to be forced", slog.LevelError
		if names := rt.alive(); names != "" {
			attrs = append(attrs, "alive", names)
		}
	}
	rt.logs.SetLevel(min(rt.logs.Level(), level)) // the cause stands there whatever the level
	rt.logs.Last(level, text, attrs...)
	ctx, cancel := context.WithTimeout(context.Background(), flushBudget)
	defer cancel()
	_ = rt.logs.Close(ctx) // there is nobody left to tell
}
