package base

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/zmq"
)

// coreSections is what the state dump shows of the runtime beyond stacks, files and memory.
func (rt *Runtime) coreSections() {
	rt.Dump("workers", func(all []stack.Goroutine) []lifecycle.Item { return workerItems(rt.nanny.Workers(), all) })
	rt.Dump("sockets", func([]stack.Goroutine) []lifecycle.Item { return socketItems(rt.ZMQ.Sockets()) })
	rt.Dump("health", func([]stack.Goroutine) []lifecycle.Item { return rt.healthItems() })
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
			slog.Uint64("sent", s.Sent), slog.String("last_send", age(s.LastSend)),
			slog.Uint64("received", s.Received), slog.String("last_recv", age(s.LastRecv))}})
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
	items := []lifecycle.Item{{Title: "health", Attrs: []slog.Attr{
		slog.String("status", h.Status), slog.String("problems", strings.Join(h.Problems, "; "))}}}
	for _, name := range slices.Sorted(maps.Keys(h.Parts)) {
		text, err := json.Marshal(h.Parts[name])
		if err != nil {
			text = fmt.Appendf(nil, "%v", err)
		}
		items = append(items, lifecycle.Item{Title: "health of " + name, Attrs: []slog.Attr{slog.String("state", string(text))}})
	}
	return items
}
