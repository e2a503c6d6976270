package base

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
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
	return d, rt.FaultPoint(FaultPoint{Name: dependency.PointOf(name), Kinds: append(callFaults(), FaultDrop), Vital: p.Required})
}

// callFault is the hook of the dependencies. A drop of theirs is an answer that is lost on its way: the call was made.
func (rt *Runtime) callFault(ctx context.Context, point string) error {
	err := rt.Hit(ctx, point)
	if err != nil && errors.Is(err, fault.ErrDropped) {
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
	c := web.NewClient(d, web.ClientOptions{UserAgent: rt.userAgent(), Wrap: rt.Telemetry.Client(name)})
	rt.OnStop("client "+name, clientBudget, func(context.Context) error { c.Close(); return nil })
	return c, nil
}

func (rt *Runtime) userAgent() string { return rt.Settings.App.Name + "/" + rt.Build.Version }
