package base

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// A drop that is ordered for a dependency loses the answer of a call that was made.
func TestADropAtADependencyLosesTheAnswer(t *testing.T) {
	var served atomic.Int64
	partner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	defer partner.Close()
	code, out, _ := call(t, func(rt *Runtime) error {
		client, err := rt.Client("partner", dependency.Policy{})
		if err != nil {
			return err
		}
		rt.Started()
		s, err := rt.Chaos.Start(chaos.Order{Scope: "*", Kind: chaos.Drop, Probability: 1, Reason: "to see what is lost"})
		if err != nil || !slices.Equal(s.Points, []string{"client.partner"}) {
			t.Errorf("want it at the partner alone, have %+v, %v", s, err)
		}
		req, err := http.NewRequestWithContext(rt.Context(), http.MethodPost, partner.URL, http.NoBody)
		if err != nil {
			return err
		}
		if _, err := client.Do(req); !errors.Is(err, dependency.ErrLost) || !errors.Is(err, chaos.ErrDropped) || served.Load() != 1 {
			t.Errorf("want one call whose answer is lost, have %d and %v", served.Load(), err)
		}
		rt.Done("tested")
		return rt.Wait()
	}, nil)
	if code != 0 {
		t.Errorf("have %d\n%s", code, out)
	}
}

// A fault point of the app's own is passed without the app knowing who orders faults.
func TestAFaultPointOfTheApp(t *testing.T) {
	code, out, _ := call(t, func(rt *Runtime) error {
		if err := rt.FaultPoint(FaultPoint{Name: "shelf", Kinds: []string{FaultDrop}}); err != nil {
			return err
		}
		rt.Started()
		if err := rt.Step(rt.Context(), "shelf"); err != nil {
			t.Errorf("want nothing without an order, have %v", err)
		}
		order := map[string]any{"scope": "shelf", "kind": FaultDrop, "probability": 1, "reason": "to see it"}
		if err := control.NewClient(rt.Settings.Control.Socket).Post(rt.Context(), "/chaos", order, nil); err != nil {
			return err
		}
		for _, pass := range []func(context.Context, string) error{rt.Step, rt.Hit} {
			if err := pass(rt.Context(), "shelf"); !errors.Is(err, fault.ErrDropped) {
				t.Errorf("want the loss, have %v", err)
			}
		}
		rt.Done("tested")
		return rt.Wait()
	}, nil)
	if code != 0 {
		t.Errorf("have %d\n%s", code, out)
	}
}

// strike makes a point of its own fail once.
func strike(t *testing.T, rt *Runtime) {
	t.Helper()
	if err := rt.FaultPoint(FaultPoint{Name: "here", Kinds: []string{FaultError}}); err != nil {
		t.Error(err)
	}
	if _, err := rt.Chaos.Start(chaos.Order{Scope: "here", Kind: chaos.Error, Probability: 1, Reason: "to see it counted", Force: true}); err != nil {
		t.Error(err)
	}
	if err := rt.Hit(rt.Context(), "here"); err == nil {
		t.Error("want the fault")
	}
}
