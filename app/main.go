// Command app is the app of whoever forks this: everything in this folder is yours, and pkg/ is the template's.
//
//	main.go    what the app is made of
//	handle.go  what shall happen with an event: begin here
//	routes.go  what the app serves beside the template's own routes
//	config.go  its settings
//
// `app config` lists the settings, `app --help` the commands; docs/fork.md is the first hour.
package main

import (
	"os"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/pipeline"
)

func main() { os.Exit(cli.Main(&config{}, run)) }

// run makes the app and waits for its end. It returns the cause, which decides the exit code.
func run(rt *base.Runtime, cfg *config) error {
	h, err := newHandler(rt, cfg)
	if err != nil {
		return err
	}
	p := pipeline.New(rt)
	p.HandleAll(h.any) // each event; p.Handle("order.created", h.order) would take those of one type
	return p.Run(h.routes)
}
