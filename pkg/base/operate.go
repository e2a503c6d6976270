package base

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/zmq"
)

// about is what /version answers.
type about struct {
	App        string `json:"app"`
	Device     string `json:"device"`
	Deployment string `json:"deployment,omitempty"`
	Build
}

func (rt *Runtime) about() about {
	return about{rt.Settings.App.Name, rt.Settings.Device, rt.Settings.Deployment, rt.Build}
}

// check is one part of the health that the app adds.
type check struct {
	name string
	ask  func() (any, error)
}

// Check adds a part to the health, the state dump and `app ctl status`: what ask returns stands there under name. With
// its error the app is degraded: not ready, and `app health` fails, so that somebody is told; /healthz keeps its 200,
// since a restart wouldn't help. It is asked often and must not block for long.
func (rt *Runtime) Check(name string, ask func() (any, error)) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.checks = append(rt.checks, check{name, ask})
}

// health is what /healthz answers, and a part of the control socket's status.
type health struct {
	Status   string                 `json:"status"` // starting, ok, degraded, draining, failing; on /readyz also waiting, for a dependency
	Problems []string               `json:"problems,omitempty"`
	Uptime   float64                `json:"uptime_seconds"`
	Workers  map[string]nanny.State `json:"workers"`
	Parts    map[string]any         `json:"parts,omitempty"`
	Depends  []dependency.Health    `json:"dependencies,omitempty"`
}

func (rt *Runtime) health() health {
	h := health{Status: "ok", Uptime: time.Since(rt.began).Seconds(), Workers: map[string]nanny.State{}, Parts: map[string]any{}, Depends: rt.depends.List()}
	for _, s := range rt.nanny.Workers() {
		h.Workers[s.Name] = s.State
	}
	rt.mu.Lock()
	started, checks := rt.started, rt.checks
	rt.mu.Unlock()
	fail := func(status string, err error) {
		if err != nil {
			h.Status, h.Problems = status, append(h.Problems, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	switch {
	case rt.life.Leaving().Err() != nil:
		h.Status = "draining"
	case !started:
		h.Status = "starting"
	}
	for _, c := range checks {
		part, err := c.ask()
		h.Parts[c.name] = part
		if h.Status != "draining" { // what closes now is no problem
			fail("degraded", err)
		}
	}
	fail("failing", rt.nanny.Err())
	return h
}

func (rt *Runtime) serveHealth(w http.ResponseWriter, r *http.Request) {
	h, status := rt.health(), http.StatusOK
	if h.Status == "failing" {
		status = http.StatusServiceUnavailable
	}
	web.WriteJSON(w, r, status, h)
}

func (rt *Runtime) serveReady(w http.ResponseWriter, r *http.Request) {
	h, status := rt.health(), http.StatusOK
	if err := rt.depends.Err(); err != nil && h.Status == "ok" {
		h.Status, h.Problems = "waiting", append(h.Problems, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if h.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	web.WriteJSON(w, r, status, h)
}

// status is what `app ctl status` shows.
type status struct {
	about
	health
	PID      int           `json:"pid"`
	Restarts int           `json:"monitor_restarts"`
	Started  time.Time     `json:"started"`
	Listens  string        `json:"listens,omitempty"`
	TLS      *shown        `json:"tls,omitempty"`
	LogLevel string        `json:"log_level"`
	Logs     string        `json:"logs"`
	LogStats logging.Stats `json:"log_stats"`
}

// level is what the command loglevel takes and answers.
type level struct {
	Level string `json:"level"`
}

// dumped is what the command dump answers.
type dumped struct {
	File string `json:"file"`
}

// commands registers what the control socket answers.
func (rt *Runtime) commands(s *control.Server) {
	answer := func(pattern string, ask func(*http.Request) (any, error)) {
		s.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v, err := ask(r)
			switch {
			case err == nil:
				web.WriteJSON(w, r, http.StatusOK, v)
			case fault.Of(err) == fault.KindUsage:
				control.WriteError(w, r, http.StatusBadRequest, err)
			default:
				control.WriteError(w, r, http.StatusInternalServerError, err)
			}
		}))
	}
	answer("GET /status", func(*http.Request) (any, error) { return rt.status(), nil })
	answer("GET /workers", func(*http.Request) (any, error) { return rt.nanny.Workers(), nil })
	answer("GET /dependencies", func(*http.Request) (any, error) { return rt.depends.List(), nil })
	answer("GET /jobs", func(*http.Request) (any, error) { return rt.jobs.List(), nil })
	answer("GET /sockets", func(*http.Request) (any, error) { return rt.ZMQ.Sockets(), nil })
	answer("GET /loglevel", func(*http.Request) (any, error) { return rt.level(), nil })
	answer("POST /loglevel", func(r *http.Request) (any, error) { return rt.setLevel(r.Body) })
	rt.queueCommands(answer)
	s.Handle("POST /backup", http.HandlerFunc(rt.serveBackup))
	rt.chaosCommands(answer)
	answer("POST /dump", func(*http.Request) (any, error) {
		file, err := rt.life.Dump("app ctl dump")
		return dumped{file}, err
	})
}

func (rt *Runtime) status() status {
	s := status{about: rt.about(), health: rt.health(), PID: os.Getpid(), Restarts: rt.Settings.Monitor.Restarts, Started: rt.began, LogLevel: rt.level().Level, Logs: rt.logs.Outputs(), LogStats: rt.logs.Stats()}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.addr != nil {
		s.Listens = rt.addr.String()
		s.TLS = shownOf(rt.certificate())
	}
	return s
}

func (rt *Runtime) level() level { return level{strings.ToLower(rt.logs.Level().String())} }

func (rt *Runtime) setLevel(body io.Reader) (any, error) {
	var want level
	if err := json.NewDecoder(body).Decode(&want); err != nil {
		return nil, fault.Usage(`the body is no {"level":"debug"}: %w`, err)
	}
	l, err := logging.ParseLevel(want.Level)
	if err != nil {
		return nil, fault.Usage("%w", err)
	}
	rt.logs.SetLevel(l)
	rt.Log.Log(context.Background(), max(l, slog.LevelInfo), "log level is now "+want.Level)
	return rt.level(), nil
}

// sections is what the state dump tells beyond stacks, files and memory.
func (rt *Runtime) sections() []lifecycle.Section {
	return []lifecycle.Section{
		{Name: "workers", Items: func(all []stack.Goroutine) []lifecycle.Item { return workerItems(rt.nanny.Workers(), all) }},
		{Name: "jobs", Items: func(all []stack.Goroutine) []lifecycle.Item { return jobItems(rt.jobs.List(), all) }},
		{Name: "sockets", Items: func([]stack.Goroutine) []lifecycle.Item { return socketItems(rt.ZMQ.Sockets()) }},
		{Name: "health", Items: func([]stack.Goroutine) []lifecycle.Item { return rt.healthItems() }},
	}
}

func workerItems(list []nanny.Status, all []stack.Goroutine) []lifecycle.Item {
	var items []lifecycle.Item
	for _, s := range list {
		it := lifecycle.Item{Title: "worker " + s.Name, Attrs: []slog.Attr{
			slog.String("state", string(s.State)), slog.String("for", age(s.Since)),
			slog.Uint64("beats", s.Beats), slog.Int("restarts", s.Restarts)}}
		if s.Waits != "" {
			it.Attrs = append(it.Attrs, slog.String("waits", s.Waits))
		}
		if s.Error != "" {
			it.Attrs = append(it.Attrs, slog.String("error", s.Error))
		}
		if own := stack.Of(s.Name, all); len(own) > 0 {
			it.Stack = &own[0]
		}
		items = append(items, it)
	}
	return items
}

func socketItems(list []zmq.SocketInfo) []lifecycle.Item {
	if len(list) == 0 {
		return []lifecycle.Item{{Title: "no socket is open"}}
	}
	var items []lifecycle.Item
	for _, s := range list {
		items = append(items, lifecycle.Item{Title: "socket open: " + s.String(), Attrs: []slog.Attr{
			slog.String("age", age(s.Opened)), slog.Int("peers", s.Peers), slog.String("blocked", cmp.Or(s.Blocked, "no")),
			slog.Uint64("sent", s.Sent), slog.String("last_send", age(s.LastSend)), slog.Uint64("received", s.Received), slog.String("last_recv", age(s.LastRecv))}})
	}
	return items
}

// age is how long ago t was, for people.
func age(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Millisecond).String()
}

func (rt *Runtime) healthItems() []lifecycle.Item {
	h := rt.health()
	items := []lifecycle.Item{{Title: "health", Attrs: []slog.Attr{slog.String("status", h.Status), slog.String("problems", strings.Join(h.Problems, "; "))}}}
	for _, name := range slices.Sorted(maps.Keys(h.Parts)) {
		text, err := json.Marshal(h.Parts[name])
		if err != nil {
			text = fmt.Appendf(nil, "%v", err)
		}
		items = append(items, lifecycle.Item{Title: "health of " + name, Attrs: []slog.Attr{slog.String("state", string(text))}})
	}
	return items
}
