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

// sampleWindow is how long a sample lasts: a number of what was left out comes once in it for each message, which is
// seldom enough to be no flood itself.
const sampleWindow = time.Minute

// thinnerSlots is how many different lines are watched at a time, in 40 KiB. Lines that find their slot taken by one
// that does repeat pass unwatched until that one's window ends.
const thinnerSlots = 1024

// thinner decides which lines are left out of those that are alike: in a window that begins with the first of them the
// first so many pass. It is a table of fixed size without a goroutine; one timer, set only while lines are being left
// out, tells the numbers when their windows end.
type thinner struct {
	limit  int           // how many pass in a window
	every  int           // of those beyond it, one in so many passes, too; 0: none
	window time.Duration // how long it lasts
	seed   maphash.Seed
	start  time.Time
	tell   func(leftOut)
	left   atomic.Uint64 // how many were left out so far

	telling sync.Mutex // held while telling, so that close waits for it
	mu      sync.Mutex // guards what follows
	slots   [thinnerSlots]slot
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

// newRepeats leaves out lines that are the same, their attributes included.
func newRepeats(tell func(leftOut)) *thinner {
	return &thinner{limit: repeatLimit, window: repeatWindow, seed: maphash.MakeSeed(), start: time.Now(), tell: tell}
}

// newSampling leaves out lines that have the same level and message, whatever their attributes: of each, n in a minute
// pass, and beyond that one in n. It is nil, which lets all pass, if n is 0.
func newSampling(n int, tell func(leftOut)) *thinner {
	if n <= 0 {
		return nil
	}
	return &thinner{limit: n, every: n, window: sampleWindow, seed: maphash.MakeSeed(), start: time.Now(), tell: tell}
}

// pass tells whether a record may be written. Those are alike whose level, message and attrs are the same; the worker is
// only told.
func (t *thinner) pass(level slog.Level, message, worker string, attrs []slog.Attr) bool {
	if t == nil {
		return true
	}
	key := t.hash(level, message, attrs)
	now := time.Since(t.start)

	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[key%thinnerSlots]
	running := s.seen > 0 && now < s.end
	switch {
	case t.closed:
		return true // nobody would tell the number
	case s.left != nil && !running:
		return true // its number is about to be told
	case !running, s.key != key && s.seen == 1:
		*s = slot{key: key, end: now + t.window, seen: 1}
		return true
	case s.key != key:
		return true
	}
	s.seen++
	if s.seen <= t.limit || t.every > 0 && s.seen%t.every == 0 {
		return true
	}
	if s.left == nil {
		s.left = &leftOut{level: level, worker: worker, message: message}
	}
	s.left.count++
	t.left.Add(1)
	if t.timer == nil {
		t.timer = time.AfterFunc(s.end-now, t.sweep)
	}
	return false
}

// sweep tells the numbers of all windows that have ended, and sets the timer for the next one.
func (t *thinner) sweep() { t.tellEnded(time.Since(t.start)) }

// close tells all numbers. From then on nothing is left out.
func (t *thinner) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.tellEnded(math.MaxInt64)
}

func (t *thinner) tellEnded(now time.Duration) {
	t.telling.Lock()
	defer t.telling.Unlock()
	for _, o := range t.takeEnded(now) {
		t.tell(o)
	}
}

func (t *thinner) takeEnded(now time.Duration) []leftOut {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []leftOut
	next := time.Duration(math.MaxInt64)
	for i := range t.slots {
		switch s := &t.slots[i]; {
		case s.left == nil:
		case s.end <= now:
			list = append(list, *s.left)
			*s = slot{}
		default:
			next = min(next, s.end)
		}
	}
	t.timer = nil
	if next < math.MaxInt64 && !t.closed {
		t.timer = time.AfterFunc(next-now, t.sweep)
	}
	return list
}

// count is how many were left out so far.
func (t *thinner) count() uint64 {
	if t == nil {
		return 0
	}
	return t.left.Load()
}

// hash returns what is the same for identical lines. The seed is the process's own, so that nobody outside can make
// two lines meet.
func (t *thinner) hash(level slog.Level, message string, attrs []slog.Attr) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
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
