package nanny

import (
	"context"
	"log/slog"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
)

// Sleep waits for d, or until ctx ends, and returns ctx's cause then. Meanwhile the worker of ctx is parked: it is never stuck.
func Sleep(ctx context.Context, d time.Duration) error {
	defer Park(ctx, "sleep")()
	if !sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// Park reports that the worker of ctx begins to wait for something that may rightly take for ever; what is shown to people.
// Until the function that it returns is called, the worker is never stuck. That call counts as progress.
//
//	defer nanny.Park(ctx, "the next message")()
func Park(ctx context.Context, what string) (end func()) {
	self := worker.FromContext(ctx)
	self.Park(&what)
	return self.Unpark
}

// Every returns a worker that calls fn at once, and then again each interval, never twice at the same time: a call that takes
// longer leaves out those that it overlaps. An error of fn is logged at its kind's level, and it goes on; a panic ends the
// worker. A call that takes longer than the worker's deadline without a Beat is stuck.
func Every(interval time.Duration, log *slog.Logger, fn Func) Func {
	return func(ctx context.Context) error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			Beat(ctx)
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				log.Log(ctx, fault.Of(err).Rule().Level, "failed, it runs again", "interval", interval.String(), "error", err)
			}
			end := Park(ctx, "the next run")
			select {
			case <-tick.C:
				end()
			case <-ctx.Done():
				end()
				return nil
			}
		}
	}
}
