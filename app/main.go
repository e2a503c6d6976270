// Command app is the template's app, and the room of whoever forks it: pkg/ is the template's, everything here is yours.
//
//	POST /events ─► queue ─► reader ─► relay ─► processor ─► handle ─► the event is processed
//
// Write what shall happen with an event in handle.go, its settings in config.go, and you are done; the workers between
// are here because you may want to change them. Its settings are listed by `app config`, its exit codes are
// those of pkg/fault.
package main

import (
	"context"
	"os"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
)

func main() { os.Exit(base.Main(&config{}, run)) }

// run starts the app and waits for its end.
func run(rt *base.Runtime, cfg *config) error {
	return runWith(rt, cfg, handler{rt.Log}.handle)
}

// runWith is run with any handler.
func runWith(rt *base.Runtime, cfg *config, handle handleFunc) error {
	events := newQueue(rt, cfg)
	rt.Serve(routes{events, rt.Log}.register) // first: an address that is taken is known before anything is started
	// None of the three asks to be restarted: what was on its way between them would wait in flight for ever.
	rt.Go("processor", processor{rt.ZMQ, events, rt.Log, cfg.Handler.Timeout, handle}.run,
		nanny.Deadline(cfg.Handler.Timeout+time.Second)) // a handler that was told to stop and doesn't is stuck a second later
	rt.Go("relay", relay{rt.ZMQ, rt.Log}.run)
	rt.Go("reader", reader{rt.ZMQ, events, rt.Log}.run)
	if cfg.SampleEvent {
		rt.Go("sample", sample{events, rt.Started}.run, nanny.OneShot())
	} else {
		rt.Started()
	}
	return rt.Wait()
}

// newQueue returns the queue, with its part in the health and at shutdown.
func newQueue(rt *base.Runtime, cfg *config) *queue.Memory {
	events := queue.NewMemory(queue.MemoryOptions{MaxBytes: int64(cfg.Queue.MaxBytes), MaxDeliveries: cfg.Queue.MaxDeliveries})
	rt.Check("queue", func() (any, error) { return events.Stats(), nil })
	context.AfterFunc(rt.Context(), func() { events.Close() }) // what came now would only be lost: 503 is honest
	rt.OnStop("queue", time.Second, closeQueue(events, rt.Log))
	return events
}
