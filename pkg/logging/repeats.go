package logging

import (
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A line is a repeat if its level, message and attributes (the worker is one) are those of an earlier one. Ten in
// ten seconds let a burst be seen as one, and keep a loop that fails each millisecond from filling a disk: one line
// a second on average, and a number every ten seconds, soon enough for a person who watches.
const (
	repeatLimit  = 10
	repeatWindow = 10 * time.Second
)

// repeatSlots is how many different lines are watched at a time, in 40 KiB. Lines that find their slot taken by one
// that does repeat pass unwatched until that one's window ends.
const repeatSlots = 1024

// repeats decides which lines are left out. It is a table of fixed size without a goroutine; one timer, set only
// while lines are being left out, tells the numbers when their windows end.
type repeats struct {
	seed       maphash.Seed
	start      time.Time
	tell       func(leftOut)
	suppressed atomic.Uint64

	telling sync.Mutex // held while telling, so that close waits for it
	mu      sync.Mutex // guards what follows
	slots   [repeatSlots]slot
	timer   *time.Timer // nil while nothing is left out
	closed  bool
}

type slot struct {
	key  uint64
	end  time.Duration // of the window, since start
	seen int           // in this window; 0 if the slot was never used
	left *leftOut      // nil if all were let pass
}

// leftOut is what is told of lines that were left out.
type leftOut struct {
	level           slog.Level
	worker, message string
	count           uint64
}

func newRepeats(tell func(leftOut)) *repeats {
	return &repeats{seed: maphash.MakeSeed(), start: time.Now(), tell: tell}
}

// pass tells whether a record may be written. The first of attrs is the worker.
func (r *repeats) pass(level slog.Level, message string, attrs []slog.Attr) bool {
	key := r.hash(level, message, attrs)
	now := time.Since(r.start)

	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[key%repeatSlots]
	running := s.seen > 0 && now < s.end
	switch {
	case r.closed:
		return true // nobody would tell the number
	case s.left != nil && !running:
		return true // its number is about to be told
	case !running, s.key != key && s.seen == 1:
		*s = slot{key: key, end: now + repeatWindow, seen: 1}
		return true
	case s.key != key:
		return true
	}
	s.seen++
	if s.seen <= repeatLimit {
		return true
	}
	if s.left == nil {
		s.left = &leftOut{level: level, worker: attrs[0].Value.String(), message: message}
	}
	s.left.count++
	r.suppressed.Add(1)
	if r.timer == nil {
		r.timer = time.AfterFunc(s.end-now, r.sweep)
	}
	return false
}

// sweep tells the numbers of all windows that have ended, and sets the timer for the next one.
func (r *repeats) sweep() { r.tellEnded(time.Since(r.start)) }

// close tells all numbers. From then on nothing is left out.
func (r *repeats) close() {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.tellEnded(math.MaxInt64)
}

func (r *repeats) tellEnded(now time.Duration) {
	r.telling.Lock()
	defer r.telling.Unlock()
	for _, o := range r.takeEnded(now) {
		r.tell(o)
	}
}

func (r *repeats) takeEnded(now time.Duration) []leftOut {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []leftOut
	next := time.Duration(math.MaxInt64)
	for i := range r.slots {
		switch s := &r.slots[i]; {
		case s.left == nil:
		case s.end <= now:
			list = append(list, *s.left)
			*s = slot{}
		default:
			next = min(next, s.end)
		}
	}
	r.timer = nil
	if next < math.MaxInt64 && !r.closed {
		r.timer = time.AfterFunc(next-now, r.sweep)
	}
	return list
}

// hash returns what is the same for identical lines. The seed is the process's own, so that nobody outside can make
// two lines meet.
func (r *repeats) hash(level slog.Level, message string, attrs []slog.Attr) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
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
			writeString(h, text(v))
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
