package base

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
)

// controlBudget is what the control socket may take at shutdown: the commands in flight end.
const controlBudget = 3 * time.Second

// Status is what `app ctl status` shows.
type Status struct {
	About
	Health
	PID      int           `json:"pid"`
	Restarts int           `json:"monitor_restarts"`
	Started  time.Time     `json:"started"`
	Listens  string        `json:"listens,omitempty"`
	TLS      *web.Shown    `json:"tls,omitempty"`
	LogLevel string        `json:"log_level"`
	Logs     string        `json:"logs"`
	LogStats logging.Stats `json:"log_stats"`
}

// Dumped is what the command dump answers.
type Dumped struct {
	File string `json:"file"`
}

// CommandList is what `app ctl call` shows: the commands of the app that have no command line of their own.
type CommandList struct {
	Commands []string `json:"commands"` // as in GET /stock
}

// coreCommands registers what the control socket answers about the runtime.
func (rt *Runtime) coreCommands() {
	ask := func(pattern string, answer func() any) {
		rt.Command(pattern, func(*http.Request) (any, error) { return answer(), nil })
	}
	ask("GET /status", func() any { return rt.status() })
	ask("GET /workers", func() any { return rt.nanny.Workers() })
	ask("GET /dependencies", func() any { return rt.depends.List() })
	ask("GET /sockets", func() any { return rt.ZMQ.Sockets() })
	ask("GET /commands", func() any {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if rt.commands.own == 0 {
			return CommandList{} // it is starting
		}
		return CommandList{slices.Clone(rt.commands.names[rt.commands.own:])}
	})
	rt.logs.Commands(rt.Command)
	rt.Command("POST /dump", func(*http.Request) (any, error) {
		file, err := rt.life.Dump("app ctl dump")
		return Dumped{file}, err
	})
}

func (rt *Runtime) status() Status {
	s := Status{About: rt.about(), Health: rt.health(), PID: os.Getpid(), Restarts: rt.Settings.Monitor.Restarts, Started: rt.began,
		LogLevel: rt.logs.LevelName(), Logs: rt.logs.Outputs(), LogStats: rt.logs.Stats()}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.addr != nil {
		s.Listens = rt.addr.String()
		s.TLS = web.ShownOf(rt.certificate())
	}
	return s
}

// openControl serves the control socket until the very end: it must answer while the shutdown hangs.
func (rt *Runtime) openControl() error {
	server, err := control.Listen(control.Options{Path: rt.Settings.Control.Socket, Log: rt.Log})
	if err != nil {
		return err
	}
	server.Handle("/", rt.commands.mux)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := fault.Recover("control", func() error { return server.Serve(ctx) })
		if ctx.Err() == nil {
			rt.life.Stop(fmt.Errorf("control socket: %w", err))
		}
		ended <- err
	}()
	rt.OnStop("control", controlBudget, func(context.Context) error { cancel(); return <-ended })
	return nil
}
