package logging

import (
	"hash/maphash"
	"log/slog"
	"math"
	"time"
)

// Of a line that repeats, ten in ten seconds are logged: a burst is seen as one, and a loop that fails each millisecond
// fills no disk. That is a line a second on average, and a number every ten seconds, soon enough for a person who watches.
const (
	repeatLimit  = 10
	repeatWindow = 10 * time.Second
)

// newDedup leaves out repeated lines. A line is a repeat if its level, message and attributes (the worker is one) are those
// of an earlier one.
func newDedup(report func(leftOut)) *quota {
	return newQuota(repeatLimit, 0, repeatWindow, report)
}

// hash returns what is the same for identical lines. The seed is the process's own, so that no outsider can make
// two lines meet.
func (q *quota) hash(level slog.Level, message string, attrs []slog.Attr) uint64 {
	var h maphash.Hash
	h.SetSeed(q.seed)
	writeUint(&h, uint64(level))
	writeString(&h, message)
	writeAttrs(&h, attrs)
	return h.Sum64()
}

func writeAttrs(h *maphash.Hash, attrs []slog.Attr) {
	writeUint(h, uint64(len(attrs)))
	for _, a := range attrs {
		writeString(h, a.Key)
		v := a.Value.Resolve()
		writeUint(h, uint64(v.Kind()))
		switch v.Kind() {
		case slog.KindBool:
			if v.Bool() {
				h.WriteByte(1)
			} else {
				h.WriteByte(0)
			}
		case slog.KindDuration:
			writeUint(h, uint64(v.Duration()))
		case slog.KindFloat64:
			writeUint(h, math.Float64bits(v.Float64()))
		case slog.KindInt64:
			writeUint(h, uint64(v.Int64()))
		case slog.KindUint64:
			writeUint(h, v.Uint64())
		case slog.KindTime:
			writeUint(h, uint64(v.Time().UnixNano()))
		case slog.KindGroup:
			writeAttrs(h, v.Group())
		default:
			writeString(h, valueText(v))
		}
	}
}

func writeString(h *maphash.Hash, s string) {
	writeUint(h, uint64(len(s)))
	h.WriteString(s)
}

func writeUint(h *maphash.Hash, n uint64) {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	h.Write(b[:])
}
