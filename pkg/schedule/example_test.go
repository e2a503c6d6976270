package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.com/base-app/pkg/schedule"
)

// An app has rt.Schedule, which does all of this but the job itself.
func Example() {
	s := schedule.New(schedule.Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	runs := 0
	err := s.Add(schedule.Job{
		Name:    "report",
		Spec:    "@every 1s", // or "30 2 * * 1-5": 02:30 UTC, from Monday to Friday
		Timeout: time.Minute,
		Do: func(ctx context.Context, log *slog.Logger) error {
			runs++
			if runs == 1 {
				return errors.New("the printer is out of paper") // logged and reported; it runs again all the same
			}
			cancel()
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Run(ctx)) // a worker: rt.Go("schedule", s.Run)
	report := s.List()[0]
	fmt.Println(report.Outcome, report.Runs)

	fmt.Println(s.Add(schedule.Job{Name: "backup", Spec: "61 * * * *", Do: func(context.Context, *slog.Logger) error { return nil }}))
	// Output:
	// <nil>
	// done map[done:1 failed:1]
	// job "backup": the spec "61 * * * *": end of range (61) above maximum (59): 61
}
