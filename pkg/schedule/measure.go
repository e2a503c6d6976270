package schedule

import (
	"log/slog"
	"time"

	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/stack"
)

// Measure puts what the jobs did, under the names in pkg/telemetry. Their names are few: the Scheduler is bounded.
func (s *Scheduler) Measure(put func(name string, value float64, labels ...string)) {
	for _, j := range s.List() {
		for outcome, n := range j.Runs {
			put("job_runs", float64(n), j.Name, string(outcome))
		}
		if !j.LastSuccess.IsZero() {
			put("job_last_success_timestamp_seconds", float64(j.LastSuccess.UnixMilli())/1000, j.Name)
		}
		if p := j.Pings; p != nil {
			for outcome, n := range map[string]uint64{"sent": p.Sent, "failed": p.Failed, "dropped": p.Dropped} {
				put("job_pings", float64(n), j.Name, outcome)
			}
		}
	}
}

// DumpItems is what the state dump shows of the jobs.
func (s *Scheduler) DumpItems(all []stack.Goroutine) []lifecycle.Item {
	var items []lifecycle.Item
	for _, j := range s.List() {
		it := lifecycle.Item{Title: "job " + j.Name, Attrs: []slog.Attr{
			slog.String("state", string(j.State)), slog.String("began", ago(j.Began)), slog.String("outcome", string(j.Outcome)),
			slog.String("next", j.Next.Format(time.RFC3339))}}
		if j.Error != "" {
			it.Attrs = append(it.Attrs, slog.String("error", j.Error))
		}
		if own := stack.Of(Label(j.Name), all); len(own) > 0 {
			it.Stack = &own[0]
		}
		items = append(items, it)
	}
	return items
}

// ago is how long ago t was, for people.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Millisecond).String()
}
