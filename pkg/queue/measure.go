package queue

import "context"

// Measure puts what is known, under the names in pkg/telemetry: of those who get 0 instead some keep it, others alert.
// Once the process closes, the queue's state is nobody's trouble any more, only what it has counted.
func (q *Queue) Measure(ctx context.Context, closing bool, put func(name string, value float64, labels ...string)) {
	s, err := q.Stats(ctx)
	put("events_accepted", float64(s.Accepted))
	put("events_rejected", float64(s.Rejected))
	put("events_processed", float64(s.Processed))
	put("events_retried", float64(s.Retried))
	put("events_dead", float64(s.Dead))
	if closing {
		return
	}
	put("queue_in_flight", float64(s.InFlight))
	put("queue_capacity_bytes", float64(s.MaxBytes))
	put("queue_lost", float64(len(s.Lost)))
	if err != nil {
		put("queue_available", 0)
		return
	}
	put("queue_available", 1)
	put("queue_depth", float64(s.Waiting))
	put("queue_bytes", float64(s.Bytes))
	put("queue_oldest_age_seconds", s.OldestAge.Seconds())
	put("queue_dead_letters", float64(s.DeadLetters))
}
