package base

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/alert"
	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/zmq"
)

// How long the runtime's own hooks may take at shutdown. They are done in microseconds, unless something hangs.
const (
	socketBudget    = 5 * time.Second
	controlBudget   = 3 * time.Second
	heartbeatBudget = time.Second
	// flushBudget bounds the last words to syslog; it is within what a forced end waits for them.
	flushBudget = 400 * time.Millisecond
	// closeMargin is what is left of the budget of the last words for whoever doesn't notice at once that it is over.
	closeMargin = 500 * time.Millisecond
)

// Runtime is what an app's run function is given. Its methods may be called from any goroutine.
type Runtime struct {
	Settings *Settings
	Log      *slog.Logger
	ZMQ      *zmq.Context // for the workers' sockets
	Build    Build
	Chaos    *chaos.Chaos // fault injection, for the app to declare points of its own and to pass them
	// Telemetry measures; nil if nothing is switched on, which its methods don't mind.
	Telemetry *telemetry.Telemetry

	began   time.Time
	logs    *logging.Log
	life    *lifecycle.Life
	nanny   *nanny.Nanny
	depends *dependency.Registry
	jobs    *schedule.Scheduler
	alerts  *alert.Alerts
	// problems are those that people were told of.
	problems problems

	mu     sync.Mutex
	folder *lifecycle.Folder // nil until it is open
	addr   net.Addr          // nil until Serve
	// certificate returns the one that is shown, nil without TLS; it is nil itself until Serve.
	certificate func() *x509.Certificate
	started     bool
	opening     time.Time // until then the start may take its time
	checks      []check
	queue       *queue.Queue // nil until OpenQueue
	flushes     []func(context.Context)
}

func newRuntime(s *Settings, build Build, logs *logging.Log, tel *telemetry.Telemetry, alerts *alert.Alerts, signals *lifecycle.Signals) *Runtime {
	rt := &Runtime{Settings: s, Log: logs.Logger(), Build: build, Telemetry: tel, began: time.Now(), logs: logs, alerts: alerts}
	rt.life = lifecycle.New(lifecycle.Options{
		Log: rt.Log, Grace: s.Shutdown.Grace, Signals: signals,
		Hangup:   func() { rt.Log.Warn("SIGHUP: log level is now " + rt.toggleDebug()) },
		Delay:    rt.drainDelay,
		Debug:    func() { rt.logs.SetLevel(slog.LevelDebug) },
		Sections: rt.sections(),
	})
	ctx := rt.life.Context()
	rt.nanny = nanny.New(telemetry.NewContext(ctx, tel), nanny.Options{Log: rt.Log, Deadline: s.Progress.Deadline, Report: rt.failed("worker"), Fail: func(err error) { rt.life.Stop(err) }})
	rt.openChaos(ctx)
	rt.depends = dependency.New(dependency.Options{Log: rt.Log, Observer: tel.Dependencies(), Fault: rt.callFault})
	rt.jobs = rt.newSchedule()
	rt.ZMQ = zmq.NewContext(zmq.Options{Log: rt.Log, Observe: tel.Socket(), Fault: rt.Chaos.Step})
	rt.terminateSockets(ctx)
	return rt
}

// terminateSockets ends all socket calls when the latch closes, and makes the shutdown wait for the sockets' owners.
func (rt *Runtime) terminateSockets(ctx context.Context) {
	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		within, cancel := context.WithTimeout(context.Background(), rt.Settings.Shutdown.Grace)
		defer cancel()
		ended <- rt.ZMQ.Term(within)
	})
	rt.OnStop("sockets", socketBudget, func(context.Context) error { return <-ended })
}

func (rt *Runtime) toggleDebug() string { return strings.ToLower(rt.logs.ToggleDebug().String()) }

// Context ends when the process shall end. Workers get their own from Go.
func (rt *Runtime) Context() context.Context { return rt.life.Context() }

// Go starts fn as the worker called name; see nanny.Go. What goes wrong (a name given twice) ends the process.
// While shutting down nothing is started.
func (rt *Runtime) Go(name string, fn nanny.Func, opts ...nanny.Option) {
	if err := rt.nanny.Go(name, rt.Chaos.Worker(name, fn), opts...); err != nil && !errors.Is(err, nanny.ErrClosing) {
		rt.life.Stop(err)
	}
}

// Stop ends the process because of cause, unless it ends already.
func (rt *Runtime) Stop(cause error) { rt.life.Stop(cause) }

// OnStop registers fn to be called at shutdown after the workers have ended, last registered first, for at most budget.
func (rt *Runtime) OnStop(name string, budget time.Duration, fn func(context.Context) error) {
	rt.life.OnStop(name, budget, fn)
}

// flush registers fn to send what is left at shutdown, when workers and queue have ended, and while heartbeats go on. All
// that is registered sends at once, within one budget.
func (rt *Runtime) flush(fn func(context.Context)) {
	rt.mu.Lock()
	first := rt.flushes == nil
	rt.flushes = append(rt.flushes, fn)
	rt.mu.Unlock()
	if first {
		rt.OnStop("flush", telemetry.Budget, rt.flushAll)
	}
}

func (rt *Runtime) flushAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, telemetry.Budget-closeMargin)
	defer cancel()
	rt.mu.Lock()
	list := rt.flushes
	rt.mu.Unlock()
	errs := make(chan error, len(list))
	for _, fn := range list {
		go func() { errs <- fault.Recover("flush", func() error { fn(ctx); return nil }) }()
	}
	var all []error
	for range list {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// webWorker is the worker that serves WEB_ADDR.
const webWorker = "web"

// Serve binds WEB_ADDR and serves the app's routes there, with /healthz, /readyz and /version beside them, as the
// worker "web". An address that can't be bound ends the process.
func (rt *Runtime) Serve(routes func(*http.ServeMux)) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", rt.serveHealth)
	mux.HandleFunc("GET /readyz", rt.serveReady)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) { web.WriteJSON(w, r, http.StatusOK, rt.about()) })
	routes(mux)
	server, err := web.Listen(rt.Context(), rt.webOptions(mux))
	if err != nil {
		rt.life.Stop(err)
		return
	}
	rt.mu.Lock()
	rt.addr, rt.certificate = server.Addr(), server.Certificate
	rt.mu.Unlock()
	context.AfterFunc(rt.life.Leaving(), server.HangUp)
	rt.Log.Info("listening", "url", rt.Settings.scheme()+"://"+server.Addr().String())
	if err := rt.nanny.Go(webWorker, rt.Chaos.Worker(webWorker, server.Serve)); errors.Is(err, nanny.ErrClosing) {
		_ = server.Serve(rt.Context()) // with a context that has ended it closes the listener
	} else if err != nil {
		rt.life.Stop(err)
	}
}

// Started tells that the start is complete: the log goes to its configured level, and /readyz says ready.
func (rt *Runtime) Started() {
	rt.mu.Lock()
	first := !rt.started
	rt.started = true
	rt.mu.Unlock()
	if first {
		rt.Log.Info("started", "took", time.Since(rt.began).Round(time.Microsecond).String(), "log_level", strings.ToLower(rt.Settings.Log.Level.String()))
		rt.logs.Started()
	}
}

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

// saveExit keeps the end for the next start, unless the data folder is somebody else's, and gives the folder up.
func (rt *Runtime) saveExit(e lifecycle.Exit) {
	rt.mu.Lock()
	folder := rt.folder
	rt.mu.Unlock()
	if folder == nil {
		return
	}
	e.Run = folder.Run
	if err := errors.Join(lifecycle.SaveExit(folder.Dir, e), folder.Close()); err != nil {
		rt.Log.Error("the exit could not be saved", "error", err)
	}
}

// Wait blocks until the process shall end and all workers have ended, except those that are stuck. It returns the
// first cause.
func (rt *Runtime) Wait() error {
	<-rt.Context().Done()
	rt.nanny.Wait(context.Background()) // the forced end is its deadline
	return context.Cause(rt.Context())
}

// openHeartbeat beats for the monitor, if there is one, until the very end: while closing, too, since the shutdown has
// times of its own.
func (rt *Runtime) openHeartbeat() {
	o := rt.Settings.Heartbeat
	if o.Addr == "" {
		return
	}
	client := heartbeat.New(heartbeat.Options{Addr: o.Addr, Every: o.Every, Healthy: rt.nanny.Err, Phase: rt.phase, Log: rt.Log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := fault.Recover("heartbeat", func() error { return client.Run(ctx) })
		if err != nil && ctx.Err() == nil {
			rt.life.Stop(fault.Config("HEARTBEAT_ADDR is for the monitor to set", err))
		}
		ended <- err
	}()
	rt.OnStop("heartbeat", heartbeatBudget, func(context.Context) error { cancel(); return <-ended })
}

// opens tells the monitor that the start opens what has a time of its own: the queue's files after a crash, a cluster that
// is away. Without that it would take a start for a hang that reads for longer than its patience, again and again.
func (rt *Runtime) opens(atMost time.Duration) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.opening = time.Now().Add(atMost)
}

func (rt *Runtime) phase() heartbeat.Phase {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	switch {
	case rt.life.Closing():
		return heartbeat.Draining
	case !rt.started && time.Now().Before(rt.opening):
		return heartbeat.Opening
	case !rt.started:
		return heartbeat.Starting
	}
	return heartbeat.Running
}

// openControl serves the control socket until the very end: it must answer while the shutdown hangs.
func (rt *Runtime) openControl() error {
	server, err := control.Listen(control.Options{Path: rt.Settings.Control.Socket, Log: rt.Log})
	if err != nil {
		return err
	}
	rt.commands(server)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := fault.Recover("control", func() error { return server.Serve(ctx) })
		if ctx.Err() == nil {
			rt.life.Stop(fmt.Errorf("control socket: %w", err))
		}
		ended <- err
	}()
	rt.OnStop("control", controlBudget, func(context.Context) error { cancel(); return <-ended })
	return nil
}

func tellStart(rt *Runtime, env config.Environment, warnings []string) {
	folder, _ := os.Getwd()
	rt.Log.Info("starting", "pid", os.Getpid(), "go", rt.Build.Go, "folder", folder, "data", rt.Settings.DataDir, "memory_limit", limitMemory(rt.Log), "logs", rt.logs.Outputs())
	rt.Log.Debug("environment", "names", strings.Join(env.Names(), " "))
	if m := rt.Settings.Monitor; m.Restarts > 0 {
		rt.Log.Warn("restarted by the monitor", "restarts", m.Restarts, "reason", m.LastReason)
	}
	for _, w := range warnings {
		rt.Log.Warn("setting", "warning", w)
	}
}

// tellPrevious says how the run before this one ended.
func tellPrevious(rt *Runtime) error {
	crash, err := rt.folder.CatchCrash()
	if err != nil {
		return err
	}
	e, vanished, first := rt.folder.Previous()
	rt.alertPrevious(crash, e, vanished, first)
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
		rt.Log.Warn("last run", "code", e.Code, "cause", e.Cause, "kind", e.Kind, "subject", e.Worker, "clean", e.Clean, "ended", e.Ended, "uptime", seconds(e.Uptime))
	}
	return nil
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// tellEnd prints the first cause last.
func tellEnd(rt *Runtime, e lifecycle.Exit) {
	cause := context.Cause(rt.Context())
	rule := fault.Of(cause).Rule()
	attrs := []any{"code", e.Code, "cause", e.Cause, "kind", e.Kind, "uptime", seconds(e.Uptime)}
	if hint := fault.Hint(cause); hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	text, level := "stopped", rule.Level
	if !e.Clean {
		text, level = "stopped, the end had to be forced", slog.LevelError
		if names := rt.alive(); names != "" {
			attrs = append(attrs, "alive", names)
		}
	}
	rt.logs.ReportLeftOut() // before the last line, which is the cause, whatever the level
	rt.logs.SetLevel(min(rt.logs.Level(), level))
	rt.Log.Log(context.Background(), level, text, attrs...)
	ctx, cancel := context.WithTimeout(context.Background(), flushBudget)
	defer cancel()
	_ = rt.logs.Close(ctx) // there is nobody left to tell
}

// alive names the workers that have not ended.
func (rt *Runtime) alive() string {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var names []string
	for _, s := range rt.nanny.Wait(ended) {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}
