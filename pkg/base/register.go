package base

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/telemetry"
)

// A part of the app, the template's or a fork's, registers what it adds while the app starts. What is wrong with that (a
// name that is taken, no function, too late) is a mistake in the program: it ends the process at once, with exit code 78,
// since a restart can't mend it.

// claim reserves a name for the first of what. If it can't be had, it ends the process and returns false.
func (rt *Runtime) claim(what, name string, hasFunction bool) bool {
	rt.mu.Lock()
	taken := rt.registered[what+" "+name]
	rt.registered[what+" "+name] = true
	rt.mu.Unlock()
	switch {
	case name == "":
		rt.refuse(what, "", "registered without a name")
	case !hasFunction:
		rt.refuse(what, name, "registered without a function")
	case taken:
		rt.refuse(what, name, "registered twice")
	default:
		return true
	}
	return false
}

// OnStop registers fn to be called at shutdown after the workers have ended, last registered first, for at most budget.
func (rt *Runtime) OnStop(name string, budget time.Duration, fn func(context.Context) error) {
	switch {
	case name == "":
		rt.refuse("shutdown hook", "", "registered without a name")
	case fn == nil:
		rt.refuse("shutdown hook", name, "registered without a function")
	case budget <= 0:
		rt.refuse("shutdown hook", name, "registered without a budget")
	default:
		rt.life.OnStop(name, budget, fn)
	}
}

// Check adds a part to the health, the state dump and `app ctl status`: what ask returns stands there under name. With
// its error the app is degraded: not ready, and `app health` fails, so that a person looks; /healthz keeps its 200,
// since a restart wouldn't help. It is asked often and must not block for long.
func (rt *Runtime) Check(name string, ask func() (any, error)) {
	if !rt.claim("check", name, ask != nil) {
		return
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.checks = append(rt.checks, check{name, ask})
}

func (rt *Runtime) allChecks() []check {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.checks
}

// Dump adds a section to the state dump. items is given every goroutine's stack, and is left out with a remark if it
// doesn't answer within half a second: what it asks may be locked by what hangs.
func (rt *Runtime) Dump(name string, items func(all []stack.Goroutine) []lifecycle.Item) {
	if rt.claim("section of the dump", name, items != nil) {
		rt.life.AddSection(lifecycle.Section{Name: name, Items: items})
	}
}

// Measure has read asked whenever metrics are sent or scraped. It puts the values of metrics of the table in pkg/telemetry
// and of its own, which are declared here and go wherever the others go: Prometheus, OTLP, StatsD, InfluxDB. It should
// end with its context, and must give each label a value from a set that doesn't grow.
//
//	rt.Measure(func(_ context.Context, put telemetry.Put) { put("orders_open", shop.open(), "eu") },
//		telemetry.Metric{Name: "orders_open", Kind: telemetry.Gauge, Labels: []string{"region"}, Meaning: "orders that wait"})
func (rt *Runtime) Measure(read func(ctx context.Context, put telemetry.Put), own ...telemetry.Metric) {
	if read == nil {
		rt.refuse("measure", "", "registered without a function")
		return
	}
	for _, m := range own {
		if !rt.claim("metric", m.Exported(), true) {
			return
		}
	}
	if err := rt.Telemetry.Observe(read, own...); err != nil {
		rt.refuse("measure", "", "%w", err)
	}
}

// FaultPoint declares p, once, at the start; Step and Hit pass it. The error is a mistake in the program: a bad name, no kind.
func (rt *Runtime) FaultPoint(p FaultPoint) error { return rt.faults.declare(p) }

// Use puts middleware around all routes of the web server, /healthz and the like included. The first that is registered
// is the outermost. It is called before Serve.
func (rt *Runtime) Use(middleware func(http.Handler) http.Handler) {
	if middleware == nil {
		rt.refuse("middleware", "", "registered without a function")
		return
	}
	rt.mu.Lock()
	late := rt.served
	rt.middleware = append(rt.middleware, middleware)
	rt.mu.Unlock()
	if late {
		rt.refuse("middleware", "", "registered after Serve")
	}
}

var commandPattern = regexp.MustCompile(`^(GET|POST) /[^ ]*$`)

// Command adds a command to the control socket: "GET /stock" only tells, "POST /stock/refill" changes something and is
// logged. What answer returns is sent as JSON. Its error is answered with 400 if it is of fault.KindUsage, else with 500.
// `app ctl call stock/refill shelf=4` gives it: the body is {"shelf":"4"} then, see control.Arguments.
func (rt *Runtime) Command(pattern string, answer func(*http.Request) (any, error)) {
	var h http.Handler
	if answer != nil {
		h = control.Answer(answer)
	}
	rt.CommandHandler(pattern, h)
}

// CommandHandler is Command for an answer that is not JSON.
func (rt *Runtime) CommandHandler(pattern string, h http.Handler) {
	switch {
	case !rt.claim("command", pattern, h != nil):
		return
	case !commandPattern.MatchString(pattern):
		rt.refuse("command", pattern, "not like GET /name or POST /name")
		return
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	defer func() {
		if v := recover(); v != nil { // the mux knows a pattern that is like it
			rt.refuse("command", pattern, "%v", v)
		}
	}()
	rt.commands.mux.Handle(pattern, h)
	rt.commands.names = append(rt.commands.names, pattern)
}

// flush registers fn to send what is left at shutdown, when workers and queue have ended, and while heartbeats go on. All
// that is registered sends at once, within one budget.
func (rt *Runtime) flush(fn func(context.Context)) {
	if !rt.flushes.Add(fn) {
		return
	}
	rt.OnStop("flush", telemetry.Budget, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, telemetry.Budget-closeMargin)
		defer cancel()
		if err := rt.flushes.Run(ctx); err != nil { // what is not sent doesn't make the end unclean
			rt.Log.Error("what is left could not be sent", "error", err)
		}
		return nil
	})
}

// closeMargin is how long before the end of its budget a flush gives up, so that a slow sender is not taken for a hang.
const closeMargin = 500 * time.Millisecond
