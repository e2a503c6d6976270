package base

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/dependency"
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
		rt.Stop(nil)
		return rt.Wait()
	}, nil)
	if code != 0 {
		t.Errorf("have %d\n%s", code, out)
	}
}
