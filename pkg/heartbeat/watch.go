package heartbeat

import "time"

const (
	// A tick that is late by this part of the timeout means that the whole machine was held up.
	lateShare = 4
	// How many late ticks in a row are forgiven. Without a limit, a host that is always late would never find a hang.
	maxForgiven = 3
)

// Verdict is what a Tick found.
type Verdict int

// The verdicts.
const (
	Fine   Verdict = iota // the deadline is not over yet
	Late                  // the deadline is over, but the watcher itself was held up: not counted
	Missed                // a beat is missing, but not too many in a row
	Hung                  // too many beats are missing in a row
)

// Watch judges one program at a time by its beats.
//
//	Start ──Startup── Timeout ── Timeout ─► Hung (at the first tick after the last of Misses deadlines)
//	          └─missed──┘ └─missed─┘
//
// Each beat sets the deadline to Timeout from now and the missed beats to zero. The times carry Go's monotonic clock, so a
// step of the wall clock changes nothing. One goroutine uses a Watch. Set the fields before Start.
type Watch struct {
	Timeout time.Duration // at least one beat is expected in each; too short blames a busy machine, too long finds a hang late
	Misses  int           // how many in a row are too many, at least 1
	Startup time.Duration // the time for the first beat

	pid      int
	named    bool // the program's beats have its pid: beats without or with another don't count
	started  time.Time
	deadline time.Time
	missed   int
	forgiven int
	beats    uint64
	phase    Phase
	lag      time.Duration
}

// Start begins to judge the program with the pid, which was started now. Beats of the program before don't count any more.
func (w *Watch) Start(now time.Time, pid int) {
	w.pid, w.named, w.started, w.deadline = pid, false, now, now.Add(w.Startup)
	w.missed, w.forgiven, w.beats, w.phase, w.lag = 0, 0, 0, "", 0
}

// Beat processes a beat and returns whether it counts. It counts if it has the program's pid, or if it has none and no beat
// of the program had one. A beat that counts ends the time for the start, with these exceptions:
//   - a beat without a pid within the first Timeout doesn't: it may be the last one of the program before, still in the
//     socket;
//   - a beat in the phase Starting changes no deadline: a start that hangs is found when its time is over;
//   - a beat in the phase Opening begins the time for the start anew.
func (w *Watch) Beat(now time.Time, b Beat) bool {
	if b.PID != w.pid && (b.PID != 0 || w.named) {
		return false
	}
	w.named = w.named || b.PID != 0
	w.beats++
	w.phase = b.Phase
	if b.Phase == Starting {
		return true
	}
	w.missed, w.forgiven = 0, 0
	if b.Phase == Opening {
		w.deadline = now.Add(w.Startup)
		return true
	}
	next := now.Add(w.Timeout)
	early := b.PID == 0 && now.Sub(w.started) < w.Timeout
	if !early || next.After(w.started.Add(w.Startup)) {
		w.deadline = next
	}
	return true
}

// PID returns the pid that was given to Start.
func (w *Watch) PID() int { return w.pid }

// Deadline returns when the next Tick is due.
func (w *Watch) Deadline() time.Time { return w.deadline }

// Tick judges the silence up to now. Call it when the deadline is over, after the beats that have arrived.
//
// If the call is much later than due, the watcher was held up itself: a paused virtual machine, an overloaded host. The
// program most likely was, too, so it gets another Timeout before the beat counts as missed.
func (w *Watch) Tick(now time.Time) Verdict {
	late := now.Sub(w.deadline)
	if late < 0 {
		return Fine
	}
	w.deadline = now.Add(w.Timeout)
	if late > w.Timeout/lateShare {
		w.lag += late
		if w.forgiven < maxForgiven {
			w.forgiven++
			return Late
		}
	}
	w.missed++
	if w.missed >= w.Misses {
		return Hung
	}
	return Missed
}

// Status is what a Watch has seen of the program.
type Status struct {
	Beats  uint64        // that counted
	Missed int           // in a row, up to now
	Phase  Phase         // of the last beat, empty if it had none
	Lag    time.Duration // by which the watcher itself was held up
}

// Status returns what the Watch has seen since Start.
func (w *Watch) Status() Status { return Status{w.beats, w.missed, w.phase, w.lag} }
