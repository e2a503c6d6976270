package dependency

// Measure puts the state of the breakers. Their names are few: the Registry is bounded.
// The names of the metrics are those in pkg/telemetry.
func (r *Registry) Measure(put func(name string, value float64, labels ...string)) {
	for _, d := range r.List() {
		put("dependency_breaker_open", map[Breaker]float64{HalfOpen: 0.5, Open: 1}[d.Breaker], d.Name)
		put("dependency_calls_in_flight", float64(d.InFlight), d.Name)
	}
}
