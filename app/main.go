// Command app is the template's app, and the room of whoever forks it: pkg/ is the template's, everything here is yours.
//
//	POST /events ─► queue ─► reader ─► relay ─► processor ─► handle ─► the event is processed
//
// Write what shall happen with an event in handle.go, its settings in config.go, and you are done; the workers between
// are here because you may want to change them. Its settings are listed by `app config`, its exit codes are
// those of pkg/fault.
package main

import (
	"fmt"
	"os"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/nanny"
)

func main() { os.Exit(cli.Main(&config{}, run)) }

// perWorker is how many events are on their way for each handler: enough to keep it busy, and few enough to leave
// something for the other replicas.
const perWorker = 16

// run starts the app and waits for its end.
func run(rt *base.Runtime, cfg *config) error {
	return runWith(rt, cfg, handler{rt.Log}.handle)
}

// runWith is run with any handler.
func runWith(rt *base.Runtime, cfg *config, handle handleFunc) error {
	events, err := rt.OpenQueue(perWorker * cfg.Workers)
	if err != nil {
		return err
	}
	rt.Serve(routes{events, rt.Log}.register) // before the workers: an address that is taken is known before they start
	// None of them asks to be restarted: what was on its way would wait in flight for as long as the process lives.
	err = rt.Chaos.Declare(chaos.Point{Name: handlerPoint, Kinds: []chaos.Kind{chaos.Latency, chaos.Error, chaos.Drop, chaos.Panic, chaos.Stall},
		Vital: true, Patience: cfg.Handler.Timeout})
	if err != nil {
		return err
	}
	p := processor{rt.ZMQ, events, rt.Log, cfg.Handler.Timeout, handle, rt.Chaos.Step, rt.Capture, make(chan []byte)}
	for i := range cfg.Workers {
		// A handler that was told to stop and doesn't is stuck a second later.
		rt.Go(fmt.Sprintf("handler-%d", i+1), p.work, nanny.Deadline(cfg.Handler.Timeout+time.Second))
	}
	rt.Go("processor", p.run)
	rt.Go("relay", relay{rt.ZMQ, rt.Log}.run)
	rt.Go("reader", reader{rt.ZMQ, events, rt.Log}.run)
	if cfg.SampleEvent {
		rt.Go("sample", sample{events, rt.Log, rt.Started}.run, nanny.OneShot())
	} else {
		rt.Started()
	}
	return rt.Wait()
}
