package logging

import (
	"context"
	"log/slog"
	"slices"

	"example.com/base-app/pkg/worker"
)

// workerKey is the attribute with the worker that logs. The front puts it first in each record that it hands on.
const workerKey = "worker"

// noWorker stands in the lines of goroutines that no nanny tracks, and that have no name of their own.
const noWorker = "main"

type contextKey struct{}

// With returns a context whose attributes stand in each record that is logged with it (InfoContext and the like),
// at the top level, outside of any group. Of two with the same key the later one wins, also over an outer With; an
// attribute of the logger or of the record itself wins over both.
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	return context.WithValue(ctx, contextKey{}, putAll(slices.Clone(Attrs(ctx)), attrs))
}

// Attrs returns the attributes that With has put into ctx. They are not to be changed.
func Attrs(ctx context.Context) []slog.Attr {
	list, _ := ctx.Value(contextKey{}).([]slog.Attr)
	return list
}

// front is the handler that users hold. It decides what is logged, and gives each record what it has of its
// origin; the outputs behind it take flat records and know nothing of levels, contexts, samples and repeats.
type front struct {
	log   *Log
	scope scope
}

func (h *front) Enabled(_ context.Context, level slog.Level) bool { return level >= h.log.min.Level() }

func (h *front) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn && !h.log.sample.pass(r.Level, r.Message, noWorker, nil) {
		return nil // before anything is made of it: what is left out shall cost little
	}
	var store [16]slog.Attr // most records have fewer
	list := append(store[:0], slog.String(workerKey, workerName(ctx)))
	list = putAll(list, Attrs(ctx))
	if h.scope.outer == nil {
		list = putAll(list, h.scope.attrs)
		r.Attrs(func(a slog.Attr) bool { list = putOne(list, a); return true })
	} else {
		list = putAll(list, h.scope.collect(r))
	}
	list = putHint(list)
	if r.Level < slog.LevelError && !h.log.dedup.pass(r.Level, r.Message, list[0].Value.String(), list) {
		return nil
	}
	flat := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	flat.AddAttrs(list...)
	if h.log.observe != nil {
		h.log.observe(ctx, flat)
	}
	return h.log.write(ctx, h.log.all, flat)
}

func workerName(ctx context.Context) string {
	if n := worker.FromContext(ctx).Name(); n != "" {
		return n
	}
	return noWorker
}

func (h *front) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &front{log: h.log, scope: h.scope.with(attrs)}
}

func (h *front) WithGroup(name string) slog.Handler {
	return &front{log: h.log, scope: h.scope.group(name)}
}
