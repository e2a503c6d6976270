package base

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/zmq"
)

// chaosBudget is what the end of all orders may take at shutdown: a line in the log for each.
const chaosBudget = time.Second

// openChaos makes the fault injection, with a part in the health. It comes before the sockets and the workers, which
// are its points.
func (rt *Runtime) openChaos(ctx context.Context) {
	rt.Chaos = chaos.New(chaos.Options{Log: rt.Log, Points: rt.faultPoints, Healthy: rt.wellForChaos,
		Observe: func(point string, kind chaos.Kind) { rt.Telemetry.Strike(point, string(kind)) }})
	rt.Check("chaos", func() (any, error) { return chaosPart(rt.Chaos.Active()), nil })
	context.AfterFunc(ctx, rt.Chaos.Close)
	rt.OnStop("chaos", chaosBudget, func(context.Context) error { rt.Chaos.Close(); return nil })
}

// queueFault is the hook of the queue. Who publishes is no worker in its own loop: a request runs in the name of the
// worker that serves all of them.
func (rt *Runtime) queueFault(ctx context.Context, point string) error {
	if point == "queue.publish" {
		return rt.Chaos.Hit(ctx, point)
	}
	return rt.Chaos.Step(ctx, point)
}

// What calls and workers take. No call of the queue or a socket takes a drop: to who publishes it would be a lie, and what is lost between the
// queue and the handler stays in flight until the process ends.
var (
	callKinds   = []chaos.Kind{chaos.Latency, chaos.Error, chaos.Panic, chaos.Stall}
	workerKinds = []chaos.Kind{chaos.Kill, chaos.Stall}
)

// declareQueue makes the queue's calls fault points. Who publishes waits as long as its client does; who takes events is
// a worker, and stuck once its deadline is over.
func (rt *Runtime) declareQueue() error {
	return errors.Join(
		rt.Chaos.Declare(chaos.Point{Name: "queue.publish", Kinds: callKinds, Vital: true}),
		rt.Chaos.Declare(chaos.Point{Name: "queue.next", Kinds: callKinds, Vital: true, Fatal: true, Patience: rt.Settings.Progress.Deadline}))
}

// faultPoints are the points that come and go: sockets and workers.
func (rt *Runtime) faultPoints() []chaos.Point {
	workers := map[string]nanny.Status{}
	var list []chaos.Point
	for _, s := range rt.nanny.Workers() {
		workers[s.Name] = s
		if s.Name == "nanny" || !slices.Contains([]nanny.State{nanny.StateBusy, nanny.StateParked, nanny.StateRestarting}, s.State) {
			continue // the nanny watches over what is done here
		}
		kinds := workerKinds
		if slices.Contains([]string{webWorker, metricsWorker, scheduleWorker}, s.Name) {
			kinds = []chaos.Kind{chaos.Kill} // they pass no point: requests and jobs have goroutines of their own
		}
		list = append(list, chaos.Point{Name: chaos.WorkerPoint(s.Name), Kinds: kinds, Fatal: s.Spare == 0, Vital: s.Spare == 0, Patience: s.Deadline})
	}
	for _, s := range rt.ZMQ.Sockets() {
		if s.Endpoint == "" {
			continue
		}
		name := "zmq.send:" + s.Endpoint
		if s.Type == zmq.Pull {
			name = "zmq.recv:" + s.Endpoint
		}
		owner := workers[s.Owner]
		list = append(list, chaos.Point{Name: name, Kinds: callKinds, Vital: true, Fatal: owner.Spare == 0, Patience: cmp.Or(owner.Deadline, rt.Settings.Progress.Deadline)})
	}
	return list
}

func (rt *Runtime) wellForChaos() error {
	h := rt.health()
	if h.Status == "ok" {
		return nil
	}
	return errors.New(strings.Join(append([]string{"it is " + h.Status}, h.Problems...), ": "))
}

// chaosHealth is what /healthz tells of an order: the public needs no names and reasons.
type chaosHealth struct {
	ID          int        `json:"id"`
	Scope       string     `json:"scope"`
	Kind        chaos.Kind `json:"kind"`
	Probability float64    `json:"probability"`
	Until       time.Time  `json:"until"`
	Strikes     uint64     `json:"strikes"`
}

func chaosPart(active []chaos.Status) any {
	if len(active) == 0 {
		return "off"
	}
	list := make([]chaosHealth, len(active))
	for i, s := range active {
		list[i] = chaosHealth{s.ID, s.Scope, s.Kind, s.Probability, s.Until, s.Strikes}
	}
	return list
}

// stopOrder is what the command stop takes. ID 0 means all.
type stopOrder struct {
	ID     int    `json:"id"`
	Reason string `json:"reason"`
}

// chaosCommands registers what the control socket answers about fault injection.
func (rt *Runtime) chaosCommands(answer func(pattern string, ask func(*http.Request) (any, error))) {
	answer("GET /chaos", func(*http.Request) (any, error) { return rt.Chaos.List(), nil })
	answer("GET /chaos/points", func(*http.Request) (any, error) { return rt.Chaos.Points(), nil })
	answer("POST /chaos", func(r *http.Request) (any, error) {
		var o chaos.Order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			return nil, fault.Usage(`the body is no {"scope":"…","kind":"…","probability":1,"for":nanoseconds,"reason":"…"}: %w`, err)
		}
		o.By = r.RemoteAddr
		return rt.Chaos.Start(o)
	})
	answer("POST /chaos/stop", func(r *http.Request) (any, error) {
		var o stopOrder
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			return nil, fault.Usage(`the body is no {"id":1,"reason":"…"}: %w`, err)
		}
		return rt.Chaos.Stop(o.ID, r.RemoteAddr, o.Reason)
	})
}

// chaosCtl is the command line of `app ctl chaos`.
type chaosCtl struct {
	Start struct {
		Scope       string        `arg:"" help:"The point, as app ctl chaos points names it; * stands for any characters."`
		Kind        string        `arg:"" enum:"latency,error,drop,panic,stall,kill" help:"latency, error, drop, panic, stall; kill for workers."`
		Reason      string        `required:"" help:"Why; it stands in the log, and in each error that is made."`
		For         time.Duration `default:"1m" help:"How long, at most 1h."`
		Probability float64       `default:"1" help:"That a passage is struck, over 0 to 1."`
		Delay       time.Duration `default:"0s" help:"Of latency: how much longer it takes."`
		Jitter      time.Duration `default:"0s" help:"Of latency: anything from 0 to this is added."`
		Seed        uint64        `help:"The same seed strikes the same passages; without one it is new, and told."`
		Force       bool          `help:"Do it although it ends the process or stops all work."`
	} `cmd:"" help:"Make a point fail, for a time."`
	Stop struct {
		ID     int    `arg:"" optional:"" help:"Of one order."`
		All    bool   `help:"All orders."`
		Reason string `help:"Why; it stands in the log."`
	} `cmd:"" help:"End orders before their time."`
	List   struct{} `cmd:"" help:"The orders: those that are active, the last that are over, and how often they struck."`
	Points struct{} `cmd:"" help:"Where something can be made to fail, how, and what is refused there."`
}

// askChaos does the commands of fault injection. This file owns what they print.
func (p *program) askChaos(ctx context.Context, client *control.Client, command string, raw bool, c *chaosCtl) error {
	switch command {
	case "start <scope> <kind>":
		s := c.Start
		o := chaos.Order{Scope: s.Scope, Kind: chaos.Kind(s.Kind), Probability: s.Probability, Delay: s.Delay, Jitter: s.Jitter, For: s.For, Seed: s.Seed, Reason: s.Reason, Force: s.Force}
		return post(ctx, p, client, raw, "/chaos", o, func(w io.Writer, s chaos.Status) { printOrders(w, []chaos.Status{s}) })
	case "stop", "stop <id>":
		if (c.Stop.ID > 0) == c.Stop.All {
			return fault.Usage("name one order's id, or --all")
		}
		return post(ctx, p, client, raw, "/chaos/stop", stopOrder{c.Stop.ID, c.Stop.Reason}, printOrders)
	case "list":
		return get(ctx, p, client, raw, "/chaos", printOrders)
	case "points":
		return get(ctx, p, client, raw, "/chaos/points", printPoints)
	}
	return fault.Usage("unknown command chaos %s", command)
}

func printOrders(w io.Writer, list []chaos.Status) {
	fmt.Fprintln(w, "ID\tSTATE\tSCOPE\tKIND\tPROBABILITY\tDELAY\tLEFT\tPASSED\tSTRUCK\tSEED\tREASON")
	for _, s := range list {
		delay, left := "-", "-"
		if s.Kind == chaos.Latency {
			delay = s.Delay.String()
		}
		if s.Jitter > 0 {
			delay += "+" + s.Jitter.String()
		}
		if s.State == chaos.Active {
			left = time.Until(s.Until).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%v\t%s\t%s\t%d\t%d\t%d\t%s\n", s.ID, s.State, s.Scope, s.Kind, s.Probability, delay, left, s.Passed, s.Strikes, s.Seed, s.Reason)
	}
}

func printPoints(w io.Writer, list []chaos.Point) {
	fmt.Fprintln(w, "POINT\tTAKES\tREFUSED UNLESS FORCED")
	for _, p := range list {
		kinds := make([]string, len(p.Kinds))
		for i, k := range p.Kinds {
			kinds[i] = string(k)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, strings.Join(kinds, " "), cmp.Or(strings.Join(refused(p), ", "), "-"))
	}
}

// refused tells what a point takes only by force; see chaos.Point.
func refused(p chaos.Point) (list []string) {
	takes := func(k chaos.Kind) bool { return slices.Contains(p.Kinds, k) }
	for _, k := range []chaos.Kind{chaos.Error, chaos.Panic, chaos.Kill} {
		if p.Fatal && takes(k) {
			list = append(list, string(k))
		}
	}
	switch {
	case !takes(chaos.Stall):
	case p.Vital:
		list = append(list, string(chaos.Stall))
	case p.Patience > 0:
		list = append(list, fmt.Sprintf("%s of %v", chaos.Stall, p.Patience))
	}
	if p.Patience > 0 && takes(chaos.Latency) {
		list = append(list, fmt.Sprintf("%s of %v", chaos.Latency, p.Patience))
	}
	if p.Vital && !p.Fatal && takes(chaos.Error) {
		list = append(list, fmt.Sprintf("failures over %.0f %%", 100*chaos.MaxShare))
	}
	return list
}
