package logging

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
)

// newJSON returns a handler that writes {"time","level","msg","app","worker","device",…} to w, the time in UTC.
func newJSON(w io.Writer, id identity, cut *atomic.Uint64) slog.Handler {
	return &output{format: jsonFormat(id, cut), w: w}
}

func jsonFormat(id identity, cut *atomic.Uint64) *format {
	arrange := func(l line) slog.Record {
		at := l.Time
		if !at.IsZero() {
			at = at.UTC()
		}
		r := slog.NewRecord(at, l.Level, l.Message, 0)
		if id.app != "" {
			r.AddAttrs(slog.String("app", id.app))
		}
		r.AddAttrs(slog.String(workerKey, l.worker))
		r.AddAttrs(id.rest...)
		r.AddAttrs(spelled(l.attrs)...)
		return r
	}
	f := newFormat(func(w io.Writer) slog.Handler {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: anyLevel})
	}, arrange, cut)
	f.finish = escapeControls
	return f
}

// spelled returns attrs with durations as text, 1.5s, as the console shows them. slog would write nanoseconds, and who
// indexes lines wants one type of a field: text is what else stands there.
func spelled(attrs []slog.Attr) []slog.Attr {
	var list []slog.Attr // nil while nothing is to be changed, as in most lines
	for i, a := range attrs {
		switch v := a.Value.Resolve(); v.Kind() {
		case slog.KindDuration:
			a.Value = slog.StringValue(v.Duration().String())
		case slog.KindGroup:
			a.Value = slog.GroupValue(spelled(v.Group())...)
		default:
			continue
		}
		if list == nil {
			list = slices.Clone(attrs)
		}
		list[i] = a
	}
	if list == nil {
		return attrs
	}
	return list
}

// escapeControls escapes DEL and the C1 controls, which encoding/json passes on: some terminals act upon them, and
// some readers take NEL (U+0085) for the end of a line. They can stand only within strings.
func escapeControls(b []byte) []byte {
	clean := true
	for i, c := range b {
		if c == 0x7f || c == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0 {
			clean = false
			break
		}
	}
	if clean {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == 0x7f:
			out = append(out, `\u007f`...)
		case b[i] == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0:
			i++
			out = fmt.Appendf(out, `\u%04x`, b[i])
		default:
			out = append(out, b[i])
		}
	}
	return out
}
