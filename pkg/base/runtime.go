package base

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/zmq"
)

// Runtime is what an app's run function is given. Its methods may be called from any goroutine.
type Runtime struct {
	Settings *Settings
	Log      *slog.Logger
	ZMQ      *zmq.Context // for the workers' sockets
	Build    Build
	// Telemetry measures; nil if nothing is switched on, which its methods don't mind.
	Telemetry *telemetry.Telemetry

	began   time.Time
	logs    *logging.Log
	life    *lifecycle.Life
	nanny   *nanny.Nanny
	depends *dependency.Registry
	flushes lifecycle.Together
	hooks   hooks
	faults  faultHooks
	parts

	mu         sync.Mutex
	folder     *lifecycle.Folder // nil until it is open
	started    bool
	opening    time.Time // until then the start may take its time
	queue      *queue.Queue
	registered map[string]bool // what has a name, and may be there once
	checks     []check
	commands   commandList
	servers    map[string]bool // the workers that pass no fault point

	// of the web server
	middleware  []func(http.Handler) http.Handler
	served      bool
	addr        net.Addr                 // nil until Serve
	certificate func() *x509.Certificate // returns the one that is shown, nil without TLS; nil itself until Serve
}

// check is one part of the health.
type check struct {
	name string
	ask  func() (any, error)
}

// commandList is the commands of the control socket.
type commandList struct {
	mux   *http.ServeMux
	names []string
	own   int // the first of names are the template's, which have a command line of their own
}

// hooks are called at what happens in the runtime. Those that are nil are not.
type hooks struct {
	record   func(context.Context, slog.Record)  // each record of the log, before it is written
	failure  func(context.Context, *fault.Error) // each error of a guard that its kind wants reported
	feedback func(web.Feedback)                  // what people write about a failure
	previous func(run previousRun)               // how the run before this one ended
	forced   func(lifecycle.Exit)                // at the very end, however it came; it may take two seconds
}

// previousRun is how the run before this one ended.
type previousRun struct {
	crash    *lifecycle.Crash // nil if it did not crash
	exit     lifecycle.Exit
	vanished bool // it left nothing that says how
	unknown  bool // there was none, or nothing is known
}

// Context ends when the process shall end. Workers get their own from Go.
func (rt *Runtime) Context() context.Context { return rt.life.Context() }

// Stop ends the process because of cause, unless it ends already. The cause's kind decides the exit code.
func (rt *Runtime) Stop(cause error) { rt.life.Stop(cause) }

// Done ends the process in order, with 0, since the work that it is for is done: for apps whose work has an end.
func (rt *Runtime) Done(reason string) {
	rt.life.Stop(&fault.Error{Kind: fault.KindDone, Op: "done", Err: errors.New(reason)})
}

// refuse ends the process because of a registration that can't be.
func (rt *Runtime) refuse(what, name, format string, args ...any) {
	rt.life.Stop(&fault.Error{Kind: fault.KindConfig, Hint: "this is a mistake in the app's code", Op: what, Subject: name,
		Err: fmt.Errorf(format, args...)})
}

// Go starts fn as the worker called name; see nanny.Go. What goes wrong (a name given twice, no function) ends the process.
// While shutting down nothing is started.
func (rt *Runtime) Go(name string, fn nanny.Func, opts ...nanny.Option) {
	if fn == nil {
		rt.refuse("worker", name, "started without a function")
		return
	}
	if err := rt.nanny.Go(name, rt.faults.worker(name, fn), opts...); err != nil && !errors.Is(err, nanny.ErrClosing) {
		rt.life.Stop(err)
	}
}

// Every starts a worker that calls fn at once, and then again each interval; see nanny.Every. What has times of day is a job:
// Schedule.
func (rt *Runtime) Every(name string, interval time.Duration, fn nanny.Func, opts ...nanny.Option) {
	if fn == nil || interval <= 0 {
		rt.refuse("worker", name, "started without a function, or with an interval of %v", interval)
		return
	}
	rt.Go(name, nanny.Every(interval, rt.Log, fn), opts...)
}

// goServer is Go for a worker that does its work in goroutines of its own: it passes no fault point itself. While shutting
// down serve is called at once, with a context that has ended, to close what it was made with.
func (rt *Runtime) goServer(name string, serve nanny.Func) error {
	rt.mu.Lock()
	rt.servers[name] = true
	rt.mu.Unlock()
	err := rt.nanny.Go(name, rt.faults.worker(name, serve))
	if errors.Is(err, nanny.ErrClosing) {
		return serve(rt.Context())
	}
	return err
}

func (rt *Runtime) isServer(name string) bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.servers[name]
}

// Step is called where a worker passes the fault point in its own loop, before what is done there. It returns nil at once
// unless somebody ordered a fault: then it waits, panics, or returns an error. With fault.ErrDropped in that the caller does
// its work all the same, and returns the error in place of the result. It costs a few nanoseconds.
func (rt *Runtime) Step(ctx context.Context, point string) error { return rt.faults.step(ctx, point) }

// Hit is Step for what is no worker's own loop: a request, a call. A wait ends with ctx.
func (rt *Runtime) Hit(ctx context.Context, point string) error { return rt.faults.hit(ctx, point) }

// Started tells that the start is complete: the log goes to its configured level, and /readyz says ready.
func (rt *Runtime) Started() {
	rt.mu.Lock()
	first := !rt.started
	rt.started = true
	rt.mu.Unlock()
	if first {
		rt.Log.Info("started", "took", time.Since(rt.began).Round(time.Microsecond).String(), "log_level",
			strings.ToLower(rt.Settings.Log.Level.String()))
		rt.logs.Started()
	}
}

func (rt *Runtime) isStarted() bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.started
}

// Wait blocks until the process shall end and all workers have ended, except those that are stuck. It returns the
// first cause.
func (rt *Runtime) Wait() error {
	<-rt.Context().Done()
	rt.nanny.Wait(context.Background()) // the forced end is its deadline
	return context.Cause(rt.Context())
}

// Capture reports an error that the app caught itself, if its kind is one that is reported; ctx tells of which request and
// worker it is. It does not block.
func (rt *Runtime) Capture(ctx context.Context, err error) {
	fault.Guard{Closing: rt.life.Closing, Report: rt.reportFailure}.Handle(ctx, "", err)
}

func (rt *Runtime) reportFailure(ctx context.Context, err *fault.Error) {
	if rt.hooks.failure != nil {
		rt.hooks.failure(ctx, err)
	}
}

// failed counts and reports the error of a worker or of a request, for the guards that catch it.
func (rt *Runtime) failed(where string) func(context.Context, *fault.Error) {
	return func(ctx context.Context, err *fault.Error) {
		rt.Telemetry.Exception(ctx, where, err)
		rt.reportFailure(ctx, err)
	}
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
