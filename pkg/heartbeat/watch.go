package heartbeat

import "time"

const (
	// A tick that comes this part of the timeout late was held up together with everything else on the machine.
	lateShare = 4
	// How many late ticks in a row are forgiven. Without an end a host that is always late would never find a hang.
	maxForgiven = 3
)

// Verdict is what a Tick found.
type Verdict int

// The verdicts.
const (
	Fine   Verdict = iota // the deadline is not over yet
	Late                  // the deadline is over, but the watcher itself was held up: not counted
	Missed                // a beat is missing, and more may
	Hung                  // as many as allowed are missing
)

// Watch judges one program at a time by its beats.
//
//	Start ──Startup── Timeout ── Timeout ─► Hung (at the first tick after the last of Misses deadlines)
//	          └─missed──┘ └─missed─┘
//
// Each beat makes the deadline Timeout from now and forgets what was missed. Its times carry Go's monotonic clock, so
// a step of the wall clock is nothing to it. It belongs to one goroutine. Set the fields before Start.
type Watch struct {
	Timeout time.Duration // one beat at least is expected in each; too short blames a busy machine, too long finds a hang late
	Misses  int           // how many in a row are too many, at least 1
	Startup time.Duration // the time for the first beat

	pid      int
	named    bool // the program tells its pid: others' beats don't count
	started  time.Time
	deadline time.Time
	missed   int
	forgiven int
	beats    uint64
	phase    Phase
	lag      time.Duration
}

// Start begins to judge the program with the pid, started now. Beats of the one before don't count any more.
func (w *Watch) Start(now time.Time, pid int) {
	w.pid, w.named, w.started, w.deadline = pid, false, now, now.Add(w.Startup)
	w.missed, w.forgiven, w.beats, w.phase, w.lag = 0, 0, 0, "", 0
}

// Beat takes a beat and returns whether it counts: it tells the program's pid, or none as long as the program has
// not told its own. It ends the time for the start, unless it is nobody's and comes within the first Timeout: it may be
// the last of the program before, still in the socket. One that says that the program is starting changes no deadline:
// a start that hangs is found when its time is over. One that says that it opens its data begins that time anew.
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
// Called much later than due, the watcher was held up itself: a paused virtual machine, an overloaded host. The
// program was too, most likely, so it gets another Timeout before the beat counts as missed.
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

// Status is what a Watch knows of the program.
type Status struct {
	Beats  uint64        // that counted
	Missed int           // in a row, up to now
	Phase  Phase         // of the last beat, empty if it said none
	Lag    time.Duration // by which the watcher itself was held up
}

// Status returns what is known since Start.
func (w *Watch) Status() Status { return Status{w.beats, w.missed, w.phase, w.lag} }
