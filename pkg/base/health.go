package base

import (
	"net/http"
	"strings"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/web"
)

// About is what /version answers.
type About struct {
	App        string `json:"app"`
	Device     string `json:"device"`
	Deployment string `json:"deployment,omitempty"`
	Build
}

func (rt *Runtime) about() About {
	return About{rt.Settings.App.Name, rt.Settings.Device, rt.Settings.Deployment, rt.Build}
}

// Health is what /healthz answers, and a part of the control socket's status.
type Health struct {
	Status   string                 `json:"status"` // starting, ok, degraded, draining, failing; on /readyz also waiting, for a dependency
	Problems []string               `json:"problems,omitempty"`
	Uptime   float64                `json:"uptime_seconds"`
	Workers  map[string]nanny.State `json:"workers"`
	Parts    map[string]any         `json:"parts,omitempty"`
	Depends  []dependency.Health    `json:"dependencies,omitempty"`
}

func (rt *Runtime) health() Health {
	h := Health{Status: "ok", Uptime: time.Since(rt.began).Seconds(), Workers: map[string]nanny.State{}, Parts: map[string]any{},
		Depends: rt.depends.List()}
	for _, s := range rt.nanny.Workers() {
		h.Workers[s.Name] = s.State
	}
	fail := func(status string, err error) {
		if err != nil {
			h.Status, h.Problems = status, append(h.Problems, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	switch {
	case rt.isLeaving():
		h.Status = "draining"
	case !rt.isStarted():
		h.Status = "starting"
	}
	for _, c := range rt.allChecks() {
		part, err := c.ask()
		h.Parts[c.name] = part
		if h.Status != "draining" { // what closes now is no problem
			fail("degraded", err)
		}
	}
	fail("failing", rt.nanny.Err())
	return h
}

func (rt *Runtime) isLeaving() bool { return rt.life.Leaving().Err() != nil }

func (rt *Runtime) serveHealth(w http.ResponseWriter, r *http.Request) {
	h, status := rt.health(), http.StatusOK
	if h.Status == "failing" {
		status = http.StatusServiceUnavailable
	}
	web.WriteJSON(w, r, status, h)
}

func (rt *Runtime) serveReady(w http.ResponseWriter, r *http.Request) {
	h, status := rt.health(), http.StatusOK
	if err := rt.depends.Err(); err != nil && h.Status == "ok" {
		h.Status, h.Problems = "waiting", append(h.Problems, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if h.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	web.WriteJSON(w, r, status, h)
}

// drainDelay is how long to go on after TERM. Nobody sends work to what has never been ready.
func (rt *Runtime) drainDelay() time.Duration {
	if !rt.isStarted() {
		return 0
	}
	return rt.Settings.Drain.Delay
}
