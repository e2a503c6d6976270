package base

import (
	"context"
	"errors"
	"strings"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/telemetry"
)

// chaosBudget is what the end of all orders may take at shutdown: a line in the log for each.
const chaosBudget = time.Second

// openChaos makes the fault injection, with a part in the health. It comes before the sockets and the workers, which
// are its points.
func (rt *Runtime) openChaos() {
	c := chaos.New(chaos.Options{Log: rt.Log, Points: rt.passingPoints, Healthy: rt.wellForChaos,
		Observe: func(point string, kind chaos.Kind) { rt.Telemetry.Strike(point, string(kind)) }})
	rt.Chaos = c
	rt.faults = faultHooks{hit: c.Hit, step: c.Step, worker: c.Worker, declare: rt.declare}
	rt.Check("chaos", func() (any, error) { return c.Health(), nil })
	rt.Measure(func(_ context.Context, put telemetry.Put) { put("chaos_orders_active", float64(len(c.Active()))) })
	c.Commands(rt.Command)
	context.AfterFunc(rt.Context(), c.Close)
	rt.OnStop("chaos", chaosBudget, func(context.Context) error { c.Close(); return nil })
}

func (rt *Runtime) declare(p FaultPoint) error {
	kinds := make([]chaos.Kind, len(p.Kinds))
	for i, k := range p.Kinds {
		kinds[i] = chaos.Kind(k)
	}
	return rt.Chaos.Declare(chaos.Point{Name: p.Name, Kinds: kinds, Vital: p.Vital, Fatal: p.Fatal, Patience: p.Patience})
}

func (rt *Runtime) wellForChaos() error {
	h := rt.health()
	if h.Status == "ok" {
		return nil
	}
	return errors.New(strings.Join(append([]string{"it is " + h.Status}, h.Problems...), ": "))
}

// passingPoints are the points that come and go.
func (rt *Runtime) passingPoints() []chaos.Point {
	return chaos.PointsOf(rt.nanny.Workers(), rt.ZMQ.Sockets(), rt.isServer, rt.Settings.Progress.Deadline)
}
