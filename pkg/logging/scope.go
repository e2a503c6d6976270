package logging

import (
	"context"
	"log/slog"
	"slices"

	"example.com/base-app/pkg/fault"
)

// scope is what a logger collected by With and WithGroup: the attributes of the innermost open group, and the scope
// around it. The zero scope is the top level, empty. A scope never changes.
type scope struct {
	name  string // of the group, empty at the top level
	attrs []slog.Attr
	outer *scope // nil at the top level
}

func (s scope) with(attrs []slog.Attr) scope {
	s.attrs = slices.Concat(s.attrs, attrs)
	return s
}

func (s scope) group(name string) scope {
	if name == "" {
		return s
	}
	return scope{name: name, outer: &s}
}

// collect returns the attributes of the scope and of r, those in open groups nested in them.
func (s scope) collect(r slog.Record) []slog.Attr {
	list := make([]slog.Attr, 0, len(s.attrs)+r.NumAttrs())
	list = append(list, s.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		list = append(list, a)
		return true
	})
	for at := &s; at.outer != nil; at = at.outer {
		list = slices.Concat(at.outer.attrs, []slog.Attr{{Key: at.name, Value: slog.GroupValue(list...)}})
	}
	return list
}

// scoped gives a handler of flat records its WithAttrs and WithGroup.
type scoped struct {
	next  slog.Handler
	scope scope
}

func (h scoped) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h scoped) Handle(ctx context.Context, r slog.Record) error {
	flat := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	flat.AddAttrs(h.scope.collect(r)...)
	return h.next.Handle(ctx, flat)
}

func (h scoped) WithAttrs(attrs []slog.Attr) slog.Handler {
	return scoped{h.next, h.scope.with(attrs)}
}

func (h scoped) WithGroup(name string) slog.Handler {
	return scoped{h.next, h.scope.group(name)}
}

// putAll puts attrs into a top-level list: values are resolved, groups without a name inlined, names of ours kept
// free, bytes made text (JSON would show base64).
func putAll(list, attrs []slog.Attr) []slog.Attr {
	for _, a := range attrs {
		list = putOne(list, a)
	}
	return list
}

func putOne(list []slog.Attr, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return list
	case a.Key == "" && a.Value.Kind() == slog.KindGroup:
		return putAll(list, a.Value.Group())
	case isOurs(a.Key):
		a.Key += "_"
	}
	if a.Value.Kind() == slog.KindAny {
		if b, ok := a.Value.Any().([]byte); ok {
			a.Value = slog.StringValue(string(b))
		}
	}
	return put(list, a)
}

// put adds a to list, or replaces the attribute with its key: no key stands twice in a line, since many readers of
// JSON refuse that or take either.
func put(list []slog.Attr, a slog.Attr) []slog.Attr {
	for i := range list {
		if list[i].Key == a.Key {
			list[i] = a
			return list
		}
	}
	return append(list, a)
}

// isOurs returns whether every line has a field of that name, or may have.
func isOurs(key string) bool {
	switch key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, "app", "device", "version", "commit", "deployment", truncatedKey:
		return true
	}
	return false
}

// putHint adds what a person can do about an error in list, unless the caller did.
func putHint(list []slog.Attr) []slog.Attr {
	hint := ""
	for _, a := range list {
		if a.Key == "hint" {
			return list
		}
		if hint == "" && a.Value.Kind() == slog.KindAny {
			if err, ok := a.Value.Any().(error); ok {
				hint = hintOf(err)
			}
		}
	}
	if hint == "" {
		return list
	}
	return append(list, slog.String("hint", hint))
}

// hintOf is fault.Hint for an error that may be a nil pointer with methods that don't expect it.
func hintOf(err error) (hint string) {
	defer func() {
		if recover() != nil {
			hint = ""
		}
	}()
	return fault.Hint(err)
}
