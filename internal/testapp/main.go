// Command testapp is a small fork as a stranger would write it, for the template's tests: two types of events, an outgoing
// call, a poller, a route, and a socket that its author forgot to close. The tests of the template drive it, never
// package app, which is whatever a fork makes of it.
package main

import (
	"os"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/pipeline"
)

func main() { os.Exit(cli.Main(&config{}, run)) }

func run(rt *base.Runtime, cfg *config) error {
	s, err := newShop(rt, cfg)
	if err != nil {
		return err
	}
	p := pipeline.New(rt)
	p.Handle("order.created", s.created)
	p.Handle("order.paid", s.paid, pipeline.Tries(2), pipeline.Parallel(1))
	rt.Every("poller", cfg.Poll, s.look)
	if cfg.Forget {
		rt.Go("forgetful", s.forget)
	}
	return p.Run(s.routes)
}
