package logging

import (
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// quotaSlots is how many different lines are watched at a time, in 40 KiB. Lines that find their slot taken by one
// that does repeat pass unwatched until that one's window ends.
const quotaSlots = 1024

// quota decides which lines are left out of those that are alike: in a window that begins with the first of them the
// first so many pass. It is a table of fixed size without a goroutine; one timer, set only while lines are being left
// out, reports the numbers when their windows end. A nil quota lets all pass.
type quota struct {
	limit  int           // how many pass in a window
	every  int           // of those beyond it, one in so many passes, too; 0: none
	window time.Duration // how long it lasts
	seed   maphash.Seed
	start  time.Time
	report func(leftOut)
	left   atomic.Uint64 // how many were left out so far

	reporting sync.Mutex // held while numbers are reported, so that close waits for it
	mu        sync.Mutex // guards what follows
	slots     [quotaSlots]slot
	timer     *time.Timer // nil while nothing is left out
	closed    bool
}

type slot struct {
	key  uint64
	end  time.Duration // of the window, since start
	seen int           // in this window; 0 if the slot was never used
	left *leftOut      // nil if all were let pass
}

// leftOut is what is reported of lines that were left out.
type leftOut struct {
	level           slog.Level
	worker, message string
	count           uint64
}

func newQuota(limit, every int, window time.Duration, report func(leftOut)) *quota {
	return &quota{limit: limit, every: every, window: window, seed: maphash.MakeSeed(), start: time.Now(), report: report}
}

// pass returns whether a record may be written. Those are alike whose level, message and attrs are the same; the worker
// only stands in the report.
func (q *quota) pass(level slog.Level, message, worker string, attrs []slog.Attr) bool {
	if q == nil {
		return true
	}
	key := q.hash(level, message, attrs)
	now := time.Since(q.start)

	q.mu.Lock()
	defer q.mu.Unlock()
	s := &q.slots[key%quotaSlots]
	running := s.seen > 0 && now < s.end
	switch {
	case q.closed:
		return true // its number would not be reported
	case s.left != nil && !running:
		return true // its number is about to be reported
	case !running, s.key != key && s.seen == 1:
		*s = slot{key: key, end: now + q.window, seen: 1}
		return true
	case s.key != key:
		return true
	}
	s.seen++
	if s.seen <= q.limit || q.every > 0 && s.seen%q.every == 0 {
		return true
	}
	if s.left == nil {
		s.left = &leftOut{level: level, worker: worker, message: message}
	}
	s.left.count++
	q.left.Add(1)
	if q.timer == nil {
		q.timer = time.AfterFunc(s.end-now, q.sweep)
	}
	return false
}

// sweep reports the numbers of all windows that have ended, and sets the timer for the next one.
func (q *quota) sweep() { q.reportEnded(time.Since(q.start)) }

// close reports all numbers. From then on nothing is left out.
func (q *quota) close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	q.mu.Unlock()
	q.reportEnded(math.MaxInt64)
}

func (q *quota) reportEnded(now time.Duration) {
	q.reporting.Lock()
	defer q.reporting.Unlock()
	for _, o := range q.popEnded(now) {
		q.report(o)
	}
}

func (q *quota) popEnded(now time.Duration) []leftOut {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []leftOut
	next := time.Duration(math.MaxInt64)
	for i := range q.slots {
		switch s := &q.slots[i]; {
		case s.left == nil:
		case s.end <= now:
			list = append(list, *s.left)
			*s = slot{}
		default:
			next = min(next, s.end)
		}
	}
	q.timer = nil
	if next < math.MaxInt64 && !q.closed {
		q.timer = time.AfterFunc(next-now, q.sweep)
	}
	return list
}

// count is how many were left out so far.
func (q *quota) count() uint64 {
	if q == nil {
		return 0
	}
	return q.left.Load()
}
