// Command stubborn is an app for the container tests: a fork whose one worker doesn't end when it is told to, once
// somebody has posted to /stubborn. It shows what docker compose stop does then.
package main

import (
	"context"
	"net/http"
	"os"
	"sync/atomic"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/web"
)

type config struct{ base.Settings }

func main() { os.Exit(cli.Main(&config{}, run)) }

func run(rt *base.Runtime, _ *config) error {
	var stubborn atomic.Bool
	rt.Go("mule", func(ctx context.Context) error {
		<-ctx.Done()
		if stubborn.Load() {
			standStill()
		}
		return nil
	})
	rt.Serve(func(mux *http.ServeMux) {
		mux.HandleFunc("POST /stubborn", func(w http.ResponseWriter, r *http.Request) {
			stubborn.Store(true)
			web.WriteJSON(w, r, http.StatusOK, "I won't go")
		})
	})
	rt.Started()
	return rt.Wait()
}

func standStill() { <-make(chan struct{}) }
