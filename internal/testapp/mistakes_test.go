package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/pipeline"
)

// runMistaken runs an app whose author has made the mistake that APP_MISTAKE names.
func runMistaken(rt *base.Runtime, cfg *mistakenConfig) error {
	p := pipeline.New(rt)
	h := func(context.Context, event.Event) error { return nil }
	switch cfg.Mistake {
	case "no handler":
		return p.Run(nil)
	case "twice":
		p.Handle("order.created", h)
		p.Handle("order.created", h)
	case "nil handler":
		p.HandleAll(nil)
	case "all twice":
		p.HandleAll(h)
		p.HandleAll(h)
	case "reserved":
		p.Handle("base.order", h)
	case "option":
		p.HandleAll(h, pipeline.Tries(0))
	case "nil middleware":
		p.HandleAll(h)
		p.Use(func(pipeline.Handler) pipeline.Handler { return nil })
	case "same workers":
		p.Handle("a b", h, pipeline.Parallel(1))
		p.Handle("a_b", h, pipeline.Parallel(1))
	case "nil option":
		p.Handle("order.created", h, nil)
	case "taken route":
		p.HandleAll(h)
		return p.Run(func(mux *http.ServeMux) { mux.HandleFunc("POST /events", http.NotFound) })
	case "early publish":
		p.HandleAll(h)
		_, err := p.Publish(rt.Context(), event.Event{Body: []byte("{}")})
		return err
	case "command twice":
		p.HandleAll(h)
		for range 2 {
			rt.Command("GET /stock", func(*http.Request) (any, error) { return 1, nil })
		}
	case "late":
		p.HandleAll(h)
		time.AfterFunc(200*time.Millisecond, func() { p.Handle("order.created", h) })
	case "run twice":
		p.HandleAll(h)
		rt.Go("second", func(ctx context.Context) error {
			<-time.After(200 * time.Millisecond)
			return errors.Join(p.Run(nil), context.Cause(ctx))
		})
	}
	return p.Run(nil)
}

type mistakenConfig struct {
	base.Settings

	Mistake string `envconfig:"APP_MISTAKE" desc:"which mistake the author has made"`
}

func mainMistaken() { os.Exit(cli.Main(&mistakenConfig{}, runMistaken)) }
