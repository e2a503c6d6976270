// Package base wires the standard pieces into one runtime, so that an app's start-up is a screenful: settings, logs,
// the data folder, the latch and its signals, the nanny, the socket context, the web server and the control socket.
//
//	func run(rt *base.Runtime, cfg *config) error {
//		rt.Go("reader", …)
//		rt.Serve(routes)
//		return rt.Wait()
//	}
//
// Run is one run of the app, from its settings to its exit code; the command line is pkg/cli. What a part adds to the app
// it registers: Go, Serve, Use, OnStop, Depend, Client, Check, Command, Dump, Measure, Schedule, Alert, FaultPoint. The
// template's own parts use the same calls as a fork's. It holds no state between runs, and no logic of the app.
package base

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

// socketBudget is what the workers may take to close their sockets at shutdown. They are done in microseconds, unless
// something hangs.
const socketBudget = 5 * time.Second

// makeParts makes the parts that have to be there before the log. Its error names the setting that is wrong.
func (rt *Runtime) makeParts() error {
	return errors.Join(
		rt.makeAlerts(), // part alert
	)
}

// registerParts adds the parts that start nothing by themselves. It comes before sockets and workers.
func (rt *Runtime) registerParts() {
	rt.openChaos()    // part chaos
	rt.makeSchedule() // part schedule
	rt.openBackup()   // part backup
}

// openParts starts the others, in this order.
func (rt *Runtime) openParts() error {
	for _, open := range []func() error{
		rt.serveMetrics, // part prometheus
		rt.openAlerts,   // part alert
		rt.openSchedule, // part schedule
	} {
		if err := open(); err != nil {
			return err
		}
	}
	return nil
}

// Program is what Run needs.
type Program struct {
	Config   Configuration // filled by Load
	Warnings []string      // Load's, for the log
	Env      config.Environment
	Out      io.Writer          // the log
	Signals  *lifecycle.Signals // armed
	Main     func(*Runtime) error
}

// Run runs the app until it ends, and returns the exit code. Its error is for the person who started the app: a setting, or
// something that a setting names, is wrong; the log may not be where they look.
//
// Whatever can block happens inside of Life.Run, where a signal, and in the end the forced exit, gets by it.
func Run(p Program) (code int, err error) {
	stack.ShowLabels()
	rt := &Runtime{Settings: p.Config.settings(), Build: ReadBuild(), began: time.Now(), faults: noFaults(),
		registered: map[string]bool{}, servers: map[string]bool{}, commands: commandList{mux: http.NewServeMux()}}
	if err := rt.assemble(p); err != nil {
		return fault.ExitCode(err), err
	}
	exit := rt.life.Run(func(context.Context) error {
		err := errGoexit
		defer func() { // also when the app's run panics or ends its goroutine: the hooks are for after the workers
			rt.life.Returned(err)
			rt.nanny.Wait(context.Background()) // the forced end is the deadline
		}()
		err = fault.Recover("main", func() error { return rt.body(p) })
		return err
	})
	exit.Version, exit.Commit = rt.Build.Version, rt.Build.Commit
	lifecycle.Save(func() { rt.saveEnd(exit) })
	abandonTelemetry(rt.Telemetry) // whatever an exporter does now, the cause is saved
	lifecycle.Print(func() { logEnd(rt, exit) })
	if cause := context.Cause(rt.Context()); fault.Of(cause) == fault.KindConfig {
		return exit.Code, cause
	}
	return exit.Code, nil
}

var errGoexit = errors.New("the app's run was ended by runtime.Goexit")

// assemble makes what runs until the very end. Nothing in it blocks.
func (rt *Runtime) assemble(p Program) (err error) {
	s, build := rt.Settings, rt.Build
	if err := rt.makeParts(); err != nil {
		return err
	}
	rt.logs, err = logging.New(logging.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment, Version: build.Version,
		Commit: build.Commit,
		Level:  s.Log.Level, Format: s.Log.Format, Syslog: s.Syslog.Address, Sample: s.Log.Sample, Observe: rt.hooks.record, Out: p.Out})
	if err != nil {
		return err
	}
	rt.Log = rt.logs.Logger()
	if rt.Telemetry, err = newTelemetry(s, build, rt.Log); err != nil {
		return err
	}
	rt.life = lifecycle.New(lifecycle.Options{Log: rt.Log, Grace: s.Shutdown.Grace, Signals: p.Signals,
		Hangup: func() { rt.Log.Warn("SIGHUP: log level is now " + strings.ToLower(rt.logs.ToggleDebug().String())) },
		Delay:  rt.drainDelay,
		Debug:  func() { rt.logs.SetLevel(slog.LevelDebug) }})
	rt.nanny = nanny.New(telemetry.NewContext(rt.Context(), rt.Telemetry), nanny.Options{Log: rt.Log, Deadline: s.Progress.Deadline,
		Report: rt.failed("worker"), Fail: rt.Stop, Flaw: rt.life.Flaw, Ended: func(w *worker.Worker) { rt.ZMQ.CloseOf(w) }})
	rt.coreSections()
	rt.coreCommands()
	queue.Commands(rt.openedQueue, rt.Log, rt.Command)
	rt.registerParts()
	rt.depends = dependency.New(dependency.Options{Log: rt.Log, Observer: rt.Telemetry.Dependencies(), Fault: rt.callFault})
	rt.ZMQ = zmq.NewContext(zmq.Options{Log: rt.Log, Observe: rt.Telemetry.Socket(), Fault: rt.faults.step})
	rt.terminateSockets()
	for _, read := range []func(context.Context, telemetry.Put){
		rt.measureStart, rt.measureQueue,
		func(_ context.Context, put telemetry.Put) { rt.nanny.Measure(put) },
		func(_ context.Context, put telemetry.Put) { rt.depends.Measure(put) }} {
		rt.Measure(read)
	}
	return nil
}

// terminateSockets ends all socket calls when the latch closes, and makes the shutdown wait for the sockets' owners. What is
// open then is closed by force only when the dump has shown it.
func (rt *Runtime) terminateSockets() {
	ended := make(chan error, 1)
	context.AfterFunc(rt.Context(), func() { ended <- rt.ZMQ.Term(rt.life.Explained()) })
	rt.OnStop("sockets", socketBudget, func(context.Context) error {
		rt.ZMQ.CloseOf(nil) // all workers have ended
		return <-ended
	})
}

// body is what runs until the latch closes: what may be refused comes before anything is started.
func (rt *Runtime) body(p Program) error {
	if err := rt.openFolder(); err != nil {
		return err
	}
	rt.openHeartbeat()
	if err := rt.openControl(); err != nil {
		return err
	}
	logStart(rt, p.Env, p.Warnings)
	if err := logPrevious(rt); err != nil {
		return err
	}
	if rt.Telemetry != nil {
		rt.flush(rt.closeTelemetry)
	}
	if err := rt.openParts(); err != nil {
		return err
	}
	rt.mu.Lock()
	rt.commands.own = len(rt.commands.names) // what comes now is the app's
	rt.mu.Unlock()
	return p.Main(rt)
}

// saveEnd saves the exit, and beside that calls the hook for an end that was forced: either may hang.
func (rt *Runtime) saveEnd(exit lifecycle.Exit) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if rt.hooks.forced != nil {
			rt.hooks.forced(exit)
		}
	}()
	rt.saveExit(exit)
	<-done
}
