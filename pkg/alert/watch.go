package alert

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/worker"
)

const (
	// lookEvery is the time between two looks at what may be a problem: soon enough for a person, and next to nothing.
	lookEvery = 2 * time.Second
	// pingEvery is how often Cronitor is pinged, which judges by the minute.
	pingEvery = time.Minute
)

// OwnPrefix is what the keys of the app's own problems begin with. No look ends them, only the app does.
const OwnPrefix = "app/"

// Scene is what problems are looked for in. Its functions are called at each look, and must not block for long.
type Scene struct {
	Began        time.Time                  // of the process
	Started      func() bool                // whether the start is complete
	Leaving      func() bool                // whether the process closes: what ends now is no problem
	Dependencies func() []dependency.Health // one that is down is a problem
	Checks       func() map[string]error    // by name, the parts of the app that are not well
	Failed       func() error               // why the process has to end
}

// Watch looks for problems, and for their ends, until ctx ends. It is a worker.
func (p *Problems) Watch(ctx context.Context) error {
	p.lock.Lock()
	previous := p.previous
	p.lock.Unlock()
	if previous.Key != "" {
		p.Raise(previous)
	}
	p.look()
	return every(ctx, lookEvery, p.look)
}

// every calls fn each interval, until ctx ends. The worker is parked in between.
func every(ctx context.Context, interval time.Duration, fn func()) error {
	place := "between looks"
	self := worker.FromContext(ctx)
	look := time.NewTicker(interval)
	defer look.Stop()
	for {
		self.Park(&place)
		select {
		case <-look.C:
			self.Unpark()
			fn()
		case <-ctx.Done():
			self.Unpark()
			return nil
		}
	}
}

// look finds what is wrong now, and sends what is news.
func (p *Problems) look() {
	if p.scene.Leaving() {
		return
	}
	p.resend(false)
	now, unknown := p.find()
	well := p.scene.Failed() == nil
	for _, a := range now {
		well = well && a.Severity < Error
		p.Raise(a)
	}
	lived := time.Since(p.scene.Began)
	if !p.scene.Started() || lived < steady {
		return
	}
	well = well && lived >= p.steadyAfter()
	for key, a := range p.list() {
		if _, still := now[key]; still || unknown[key] || strings.HasPrefix(key, OwnPrefix) || key == ExitKey && !well {
			continue
		}
		a.State = Over
		p.Raise(a)
	}
}

// find returns what is wrong now, and the dependencies whose state is not known.
func (p *Problems) find() (now map[string]Alert, unknown map[string]bool) {
	now, unknown = map[string]Alert{}, map[string]bool{}
	found := func(key string, s Severity, what, err string) {
		summary := strings.TrimSuffix(what+": "+err, ": ")
		now[key] = Alert{Key: key, State: Open, Severity: s, Summary: summary, Details: map[string]string{"error": err}}
	}
	for _, d := range p.scene.Dependencies() {
		key, severity := "dependency/"+d.Name, Warning
		if d.Required {
			severity = Critical
		}
		switch {
		case strings.HasPrefix(d.Name, Prefix): // no alert about a service that takes alerts
		case d.State == dependency.Down:
			found(key, severity, "dependency "+d.Name+" is down", d.LastError)
		case d.State == dependency.Unknown:
			unknown[key] = true
		}
	}
	for name, err := range p.scene.Checks() {
		found("check/"+name, Error, name, err.Error())
	}
	return now, unknown
}

// PingWorkers pings Cronitor each minute with how the workers are, until ctx ends. It is a worker.
func (a *Alerts) PingWorkers(ctx context.Context, workers func() []nanny.Status) error {
	return every(ctx, pingEvery, func() { a.Ping(PingOf(workers())) })
}

// PingOf counts the workers that should be there, and names those that are not.
func PingOf(list []nanny.Status) Ping {
	p := Ping{State: "ok", Counting: true}
	var missing []string
	for _, s := range list {
		switch s.State {
		case nanny.StateDone, nanny.StateStopped:
			continue
		case nanny.StateBusy, nanny.StateParked, nanny.StateUnwatched:
		default:
			missing = append(missing, s.Name+" is "+string(s.State))
		}
		p.Workers++
	}
	p.Message = fmt.Sprintf("%d workers", p.Workers)
	if p.Missing = len(missing); p.Missing > 0 {
		p.State, p.Message = "fail", fmt.Sprintf("%d of %d workers are missing: %s", p.Missing, p.Workers, strings.Join(missing, ", "))
	}
	return p
}

// Measure puts what became of what was to be sent, under the names in pkg/telemetry.
func (a *Alerts) Measure(put func(name string, value float64, labels ...string)) {
	for _, s := range a.Stats() {
		put("alerts_sent", float64(s.Sent), s.Service)
		put("alerts_dropped", float64(s.Dropped), s.Service)
		put("alerts_suppressed", float64(s.Suppressed), s.Service)
	}
	for name, n := range a.Ignored() {
		put("alerts_ignored", float64(n), name)
	}
}
