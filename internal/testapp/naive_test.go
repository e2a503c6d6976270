package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/pipeline"
	"example.com/base-app/pkg/zmq"
)

// naiveConfig says in which way the author of a fork didn't know better.
type naiveConfig struct {
	base.Settings

	Naive string `envconfig:"APP_NAIVE" desc:"what the author didn't know"`
}

func mainNaive() { os.Exit(cli.Main(&naiveConfig{}, runNaive)) }

// runNaive runs an app as a stranger writes it who has read one page: each worker in the simplest way that comes to mind. An
// event tells the worker to go on with what it does wrong.
func runNaive(rt *base.Runtime, cfg *naiveConfig) error {
	told := make(chan struct{}, 1)
	open := func(ctx context.Context) (*zmq.Socket, error) { return rt.ZMQ.Bind(ctx, zmq.Pull, "inproc://naive") }
	var opts []nanny.Option
	worker := func(ctx context.Context) error { <-ctx.Done(); return nil }
	switch cfg.Naive {
	case "deaf": // binds a socket and never looks at its context
		worker = func(ctx context.Context) error {
			if _, err := open(ctx); err != nil {
				return err
			}
			rt.Log.Info("the worker has its socket")
			hangForEver()
			return nil
		}
	case "hangs": // from its very start
		worker = func(context.Context) error { hangForEver(); return nil }
	case "panic with a socket":
		worker = func(ctx context.Context) error {
			if _, err := open(ctx); err != nil {
				return err
			}
			<-told
			panic("out of tea")
		}
	case "panic with a closed socket":
		worker = func(ctx context.Context) error {
			s, err := open(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			<-told
			panic("out of tea")
		}
	case "restarted with a socket":
		opts = append(opts, nanny.Restart(3, time.Minute))
		worker = func(ctx context.Context) error {
			if _, err := open(ctx); err != nil {
				return err
			}
			rt.Log.Info("the worker has its socket")
			select {
			case <-told:
				return errors.New("out of tea")
			case <-ctx.Done():
				return nil
			}
		}
	case "a socket of nobody": // opened by run itself
		if _, err := rt.ZMQ.Bind(rt.Context(), zmq.Pull, "inproc://nobody"); err != nil {
			return err
		}
	case "hook fails":
		rt.OnStop("books", time.Second, func(context.Context) error { return errors.New("the books don't balance") })
	case "hook panics":
		rt.OnStop("books", time.Second, func(context.Context) error { panic("no pen") })
	case "hook leaves":
		rt.OnStop("books", time.Second, func(context.Context) error { runtime.Goexit(); return nil })
	case "hook overruns":
		rt.OnStop("books", 50*time.Millisecond, func(context.Context) error { <-time.After(300 * time.Millisecond); return nil })
	case "fails late":
		worker = func(ctx context.Context) error { <-ctx.Done(); return errors.New("the shelf is still open") }
	case "panics late":
		worker = func(ctx context.Context) error { <-ctx.Done(); panic("the shelf fell") }
	case "leaves late":
		worker = func(ctx context.Context) error { <-ctx.Done(); runtime.Goexit(); return nil }
	case "cancelled late":
		worker = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	case "loud": // writes to the log without an end
		worker = func(context.Context) error {
			for {
				rt.Log.Info("tea is ready", "at", time.Now())
			}
		}
	}
	rt.Go("naive", worker, opts...)
	p := pipeline.New(rt)
	p.HandleAll(func(_ context.Context, _ event.Event) error {
		switch cfg.Naive {
		case "exits":
			os.Exit(0)
		case "done":
			rt.Done("all tea is sold")
		case "stops without a cause":
			rt.Stop(nil)
		default:
			told <- struct{}{}
		}
		return nil
	})
	if cfg.Naive == "returns" {
		return nil
	}
	return p.Run(nil)
}
