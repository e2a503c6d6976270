// Package lifecycle gives a process one way to end. Whatever wants it to end (a signal, a dead worker, an error)
// closes the latch, once: the first cause wins. It is printed last, decides the exit code and is logged at the next start.
//
//	            Stop(cause), TERM, INT                       body and hooks are through
//	running ──────────────────────────► closing ─────────────────────────────────────► ended: the cause's code
//	                                      │  │ Grace (30 s)
//	                                      │  └──► dump: who delays it, with stacks ──► after 5 s more, forced: 70
//	                                      └─ a second TERM or INT: dump and forced at once
//
// With Options.Delay a TERM or INT closes the latch only after a while. During it the context Leaving has ended, so that
// load balancers notice, and everything else goes on. The grace counts from the signal. Another signal closes the latch
// at once, and so does any other cause.
//
// While closing, the context of Run's body has ended. When the body has returned, the hooks run, last registered
// first, each with a budget. Nobody waits for a worker that was found stuck: the dump is written at once, and the
// end comes within a second. The goroutine that calls Run only waits for timers and channels, so that the forced end
// comes even when every lock is held and nobody reads the log. Only main exits: Run returns the code.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
)

const (
	// DefaultGrace is how long a shutdown may take before the dump is written. The supervisors above wait longer, in
	// steps of 5 s each, so that the dump is out before anyone kills.
	DefaultGrace = 30 * time.Second
	// forceAfter is the time between the dump and the forced end: enough to write it to a slow disk.
	forceAfter = 5 * time.Second
	// stuckAfter is how long the end may take once a worker is known to be stuck: waiting for it is no use.
	stuckAfter = time.Second
	// lastWords is how long to wait for the log after the end is decided: the log may be what hangs.
	lastWords = 500 * time.Millisecond
	// saveTime is how long last_exit.json may take. With lastWords it still ends before the monitor kills.
	saveTime = 3 * time.Second
)

// Options configures a Life.
type Options struct {
	Log     *slog.Logger  // nil: slog.Default()
	Grace   time.Duration // until the dump; the forced end follows 5 s later; 0: DefaultGrace
	Signals *Signals      // made by Arm; nil: no signal is handled
	Hangup  func()        // called for SIGHUP
	// Delay is called at the first TERM or INT. It returns how long to go on before the latch closes, at most half of Grace.
	// It must not block. Nil: the latch closes at once.
	Delay func() time.Duration
	Debug func() // called before the dump of a slow shutdown: switch the log to debug

	// Sections are parts of the dump beside those that this package writes. Each is asked in a goroutine of its own; if
	// it doesn't answer within half a second, the dump says so instead.
	Sections []Section
}

// Life is one run of a process.
type Life struct {
	opts   Options
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc

	leaving context.Context // ends before ctx does, or with it
	leave   context.CancelFunc

	mu     sync.Mutex
	asked  time.Time // when a signal began a delay; zero: none did
	closed time.Time
	hooks  []*hook
	flaw   error // the first thing that went wrong while closing; nil: the end is clean so far

	explained context.Context // ends when the dump of a slow shutdown is kept
	isKept    context.CancelFunc

	dumping  sync.Mutex // one dump at a time; guards dir and sections
	dir      string     // where dumps go; empty: to the log alone
	sections []Section
	tracing  bool // whether the flight recorder runs; tests in virtual time can't have it
}

// New returns a Life that runs, with an open latch.
func New(o Options) *Life {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	l := &Life{opts: o, began: time.Now(), tracing: true, sections: o.Sections}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.leaving, l.leave = context.WithCancel(l.ctx)
	l.explained, l.isKept = context.WithCancel(context.Background())
	return l
}

// KeepDumps makes later dumps go to the folder dumps in the data folder dir, too.
func (l *Life) KeepDumps(dir string) {
	l.dumping.Lock()
	defer l.dumping.Unlock()
	l.dir = dir
}

// AddSection adds s to the dumps, from now on.
func (l *Life) AddSection(s Section) {
	l.dumping.Lock()
	defer l.dumping.Unlock()
	l.sections = append(l.sections, s)
}

// Context returns the context that ends when the latch closes; context.Cause returns the first cause.
func (l *Life) Context() context.Context { return l.ctx }

// Closing returns whether the latch has closed.
func (l *Life) Closing() bool { return l.ctx.Err() != nil }

// Explained returns the context that ends when the dump of a slow shutdown has been written to the data folder. Who closes by
// force what others forgot waits for it: the dump shall show what was open. It does not end with a shutdown that is quick.
func (l *Life) Explained() context.Context { return l.explained }

// Flaw makes the end an unclean one, because of what went wrong while the process closes. The first flaw is kept. It turns the
// code 0 into 70, and no other.
func (l *Life) Flaw(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flaw == nil {
		l.flaw = err
	}
}

// Stop closes the latch because of cause, and returns whether this was the first cause. It never blocks. Clean ends have a
// cause of fault.KindStopped or fault.KindDone; a nil cause is an end that nobody asked for.
func (l *Life) Stop(cause error) bool {
	if cause == nil {
		cause = ended("stopped without a cause")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Closing() {
		return false
	}
	l.closed = time.Now()
	l.cancel(cause)
	return true
}

func ended(what string) error {
	return &fault.Error{Kind: fault.KindEnded, Hint: "say Done(reason) if the work is done", Err: errors.New(what)}
}

// Returned is Stop for the return of what the app runs: without an error that is an end that nobody asked for, too.
func (l *Life) Returned(err error) {
	if err == nil {
		err = ended("run returned although nobody asked it to")
	}
	l.Stop(err)
}

// Run calls body, in a goroutine of its own, with the Life's context. It blocks until the process may exit: until body
// and the hooks have returned, or the end is forced. Body's error closes the latch if nothing did before; so does its return
// without one, which is an end that nobody asked for. Run is called once.
func (l *Life) Run(body func(context.Context) error) Exit {
	done := make(chan struct{})
	defer close(done)
	second := make(chan os.Signal, 1)
	if l.opts.Signals != nil {
		go l.listen(l.opts.Signals, second, done)
	}
	orderly := make(chan struct{})
	go func() {
		defer close(orderly)
		defer l.runHooks()
		err := errors.New("the main goroutine was ended by runtime.Goexit")
		defer func() { l.Returned(err) }()
		stack.Labelled(l.ctx, "main", func(ctx context.Context) {
			err = fault.Recover("main", func() error { return body(ctx) })
		})
	}()
	<-l.ctx.Done()
	cause := context.Cause(l.ctx)
	announced := make(chan struct{})
	go func() { defer close(announced); l.announce(cause) }()
	recorder := l.startRecorder(done)

	grace := l.opts.Grace - l.spent()
	dump, force := time.NewTimer(grace), time.NewTimer(grace+forceAfter)
	defer dump.Stop()
	defer force.Stop()
	var explained <-chan struct{}
	if fault.Of(cause) == fault.KindStuck {
		explained = l.explain(cause.Error(), recorder)
		dump.Stop()
		force.Reset(stuckAfter)
	}
	for {
		select {
		case <-dump.C:
			explained = l.explain(fmt.Sprintf("the shutdown takes longer than %v", l.opts.Grace), recorder)
		case <-orderly:
			wait(announced, lastWords) // so that the caller's line is the last
			if explained != nil {
				wait(explained, lastWords)
			}
			return l.exit(cause, true)
		case s := <-second:
			wait(l.explain(fmt.Sprintf("a second %s while shutting down", name(s)), recorder), 2*lastWords)
			return l.exit(cause, false)
		case <-force.C:
			return l.exit(cause, false)
		}
	}
}

// announce logs why the process ends. The log may block, so announce has a goroutine of its own.
func (l *Life) announce(cause error) {
	l.opts.Log.Info("shutting down", "cause", cause, "kind", fault.Of(cause).String())
}

// explain switches to debug and writes the dump; the channel closes when it is written.
func (l *Life) explain(why string, r *recorder) <-chan struct{} {
	written := make(chan struct{})
	go func() {
		defer close(written)
		if l.opts.Debug != nil {
			l.opts.Debug()
		}
		l.dump(why, r)
	}()
	return written
}

// wait waits until c closes, for d at most.
func wait(c <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}

// Save calls fn in a goroutine of its own and waits for it, for three seconds at most: after a forced end the
// supervisors above wait longer. It is for saving the exit, which the next start reads, on a slow disk, too.
func Save(fn func()) { bounded(fn, saveTime) }

// Print calls fn in a goroutine of its own and waits for it, for half a second at most. It is for the last lines of the
// log, which may be what hangs.
func Print(fn func()) { bounded(fn, lastWords) }

func bounded(fn func(), d time.Duration) {
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	wait(done, d)
}
