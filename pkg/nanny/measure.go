package nanny

// Measure puts how many workers there are, and how they are, under the names in pkg/telemetry.
func (n *Nanny) Measure(put func(name string, value float64, labels ...string)) {
	var expected, alive, stalled, restarts float64
	for _, w := range n.Workers() {
		restarts += float64(w.Restarts)
		if w.State != StateDone && w.State != StateStopped {
			expected++
		}
		switch w.State {
		case StateBusy, StateParked, StateUnwatched:
			alive++
		case StateStuck:
			stalled++
		}
	}
	put("workers_expected", expected)
	put("workers_alive", alive)
	put("workers_stalled", stalled)
	put("worker_restarts", restarts)
}
