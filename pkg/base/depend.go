package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/web"
)

// clientBudget is for closing a client's idle connections.
const clientBudget = time.Second

// Depend registers something that the app calls, a database for instance, under a name that stands in health, logs and
// errors. Calls go through the Dependency's Do. The errors are mistakes in the program: a name that is bad or taken.
func (rt *Runtime) Depend(name string, p dependency.Policy) (*dependency.Dependency, error) {
	d, err := rt.depends.Add(name, p)
	if err != nil {
		return nil, err
	}
	return d, rt.Chaos.Declare(chaos.Point{Name: dependency.PointOf(name), Kinds: append(slices.Clone(callKinds), chaos.Drop), Vital: p.Required})
}

// callFault is the hook of the dependencies. A drop of theirs is an answer that is lost on its way: the call was made.
func (rt *Runtime) callFault(ctx context.Context, point string) error {
	err := rt.Chaos.Hit(ctx, point)
	if errors.Is(err, chaos.ErrDropped) {
		return fmt.Errorf("%w: %w", dependency.ErrLost, err)
	}
	return err
}

// Client registers something that the app calls by HTTP, and returns the client to call it with. Its connections are
// closed at shutdown.
func (rt *Runtime) Client(name string, p dependency.Policy) (*web.Client, error) {
	d, err := rt.Depend(name, p)
	if err != nil {
		return nil, err
	}
	c := web.NewClient(d, web.ClientOptions{UserAgent: rt.Settings.App.Name + "/" + rt.Build.Version, Wrap: rt.Telemetry.Client(name)})
	rt.OnStop("client "+name, clientBudget, func(context.Context) error { c.Close(); return nil })
	return c, nil
}

// printDependencies is what `app ctl dependencies` prints.
func printDependencies(w io.Writer, list []dependency.Health) {
	if len(list) == 0 {
		fmt.Fprintln(w, "the app has registered no dependency")
		return
	}
	fmt.Fprintln(w, "DEPENDENCY\tSTATE\tFOR\tBREAKER\tREQUIRED\tCALLS\tFAILED\tREFUSED\tIN FLIGHT\tLAST ERROR")
	for _, d := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\t%d\t%d of %d\t%d\t%d\t%s\n", d.Name, d.State, time.Since(d.Since).Round(time.Second), d.Breaker, d.Required,
			d.Calls, d.Failures, d.Tries, d.Refused, d.InFlight, cmp.Or(d.LastError, "-"))
	}
}
