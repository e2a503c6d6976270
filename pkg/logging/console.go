package logging

import (
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/lmittmann/tint"
)

// newConsole returns a handler that writes "time app worker [LEVEL] message key=value…" to w, the time in local
// time, keys of groups as group.key.
func newConsole(w io.Writer, id identity, colour bool, cut *atomic.Uint64) slog.Handler {
	arrange := func(l line) slog.Record {
		r := slog.NewRecord(l.Time, l.Level, consolePrefix(id.app, l.worker, l.Level, colour)+escaped(l.Message), 0)
		r.AddAttrs(consoleAttrs(l.attrs)...)
		return r
	}
	handler := func(w io.Writer) slog.Handler {
		return tint.NewTextHandler(w, &tint.Options{
			Level:       anyLevel,
			NoColor:     !colour,
			TimeFormat:  "2006-01-02 15:04:05.000",
			ReplaceAttr: withoutLevel,
		})
	}
	return &output{format: newFormat(handler, arrange, cut), w: w}
}

// withoutLevel leaves the level out where tint puts it: ours stands behind the worker.
func withoutLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

func consolePrefix(app, worker string, level slog.Level, colour bool) string {
	tag := "[" + level.String() + "] "
	if colour {
		code := "\x1b[2m" // faint
		switch {
		case level >= slog.LevelError:
			code = "\x1b[91m" // red
		case level >= slog.LevelWarn:
			code = "\x1b[93m" // yellow
		case level >= slog.LevelInfo:
			code = "\x1b[92m" // green
		}
		tag = code + "[" + level.String() + "]\x1b[0m "
	}
	if app == "" {
		return worker + " " + tag
	}
	return app + " " + worker + " " + tag
}

// consoleAttrs returns attrs such that tint writes them without loss and without raw control characters. With
// strings it does neither: it passes escape sequences in colour, even makes some from escaped text, and cuts a
// string at its first invalid byte without. Bytes it always quotes.
func consoleAttrs(attrs []slog.Attr) []slog.Attr {
	list := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		v := a.Value.Resolve()
		switch v.Kind() {
		case slog.KindGroup:
			v = slog.GroupValue(consoleAttrs(v.Group())...)
		case slog.KindString, slog.KindAny:
			if s := valueText(v); isPlain(s) {
				v = slog.StringValue(s)
			} else {
				v = slog.AnyValue([]byte(s))
			}
		}
		list[i] = slog.Attr{Key: name(a.Key), Value: v}
	}
	return list
}
