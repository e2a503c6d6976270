// Package fault classifies errors. Each error has one Kind, and one table (Rules) decides by it the log level, whether it
// is reported to the error tracker, whether a retry makes sense, and the exit code if it ends the process. The kind is
// attached once, at the boundary where it is known, and survives wrapping with %w.
//
// Guard runs a function and turns its error or its panic into one such error.
package fault

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// Kind is the class of an error.
type Kind uint8

// The kinds. An error that nobody classified has the zero value.
const (
	KindUnhandled  Kind = iota // an error that nobody expected
	KindPanic                  // a panic that a guard recovered
	KindEnded                  // a worker that returned although nobody asked it to
	KindStuck                  // a worker that made no progress within its deadline
	KindDependency             // something outside this process failed
	KindUnclean                // a stop that was asked for and did not end in time
	KindConfig                 // a setting or the surroundings (port, folder, lock) are wrong
	KindUsage                  // the command line is wrong
	KindTerminated             // a call that returned because its socket context was terminated
	KindPermanent              // an event that can't be handled, however often it is tried
	KindStopped                // somebody asked the process to stop
	KindDone                   // the app said that its work is done
)

// Rule is what follows from a Kind.
type Rule struct {
	Kind    Kind
	Name    string     // as it stands in logs, last_exit.json and the docs
	Level   slog.Level // at which it is logged, outside of a shutdown
	Report  bool       // whether it is reported to the error tracker
	Retry   bool       // whether doing the same again can help
	Exit    int        // the process's exit code if it is the first cause
	Meaning string
}

// Exit codes are an interface: supervisors, scripts and people act on them.
const (
	ExitClean      = 0  // asked to stop, and stopped cleanly: nobody restarts it
	ExitUnhandled  = 1  // an unhandled error, a panic, a dead or stuck worker
	ExitUsage      = 64 // bad command line: a restart can't mend it
	ExitDependency = 69 // a dependency failed
	ExitUnclean    = 70 // asked to stop, but the end had to be forced
	ExitConfig     = 78 // bad configuration: a restart can't mend it
)

var rules = [...]Rule{
	KindUnhandled:  {KindUnhandled, "unhandled", slog.LevelError, true, true, ExitUnhandled, "an error that nobody expected"},
	KindPanic:      {KindPanic, "panic", slog.LevelError, true, false, ExitUnhandled, "a panic, with its stack"},
	KindEnded:      {KindEnded, "ended", slog.LevelError, true, true, ExitUnhandled, "a worker returned although nobody asked it to"},
	KindStuck:      {KindStuck, "stuck", slog.LevelError, true, false, ExitUnhandled, "a worker made no progress within its deadline"},
	KindDependency: {KindDependency, "dependency", slog.LevelWarn, false, true, ExitDependency, "something outside this process failed"},
	KindUnclean:    {KindUnclean, "unclean", slog.LevelError, true, false, ExitUnclean, "a stop that was asked for had to be forced"},
	KindConfig: {KindConfig, "config", slog.LevelError, false, false, ExitConfig,
		"a setting, or what it names (port, folder, file), is wrong"},
	KindUsage: {KindUsage, "usage", slog.LevelError, false, false, ExitUsage, "the command line is wrong"},
	KindTerminated: {KindTerminated, "terminated", slog.LevelWarn, false, false, ExitUnhandled,
		"a socket call was ended by the end of its context"},
	KindPermanent: {KindPermanent, "permanent", slog.LevelError, true, false, ExitUnhandled,
		"an event can't be handled, however often it is tried"},
	KindDone:    {KindDone, "done", slog.LevelInfo, false, false, ExitClean, "the app said that its work is done"},
	KindStopped: {KindStopped, "stopped", slog.LevelInfo, false, false, ExitClean, "somebody asked the process to stop"},
}

// Rules returns the table, one row per kind.
func Rules() []Rule { return append([]Rule(nil), rules[:]...) }

// Rule returns the row of k. An unknown kind is treated as unhandled.
func (k Kind) Rule() Rule {
	if int(k) >= len(rules) {
		k = KindUnhandled
	}
	return rules[k]
}

// String returns the kind's name in the table.
func (k Kind) String() string { return k.Rule().Name }

// Error is an error of a known kind.
type Error struct {
	Kind    Kind
	Op      string // what was being done, or empty
	Subject string // the worker's or the dependency's name, or empty
	Hint    string // what a person can do about it, or empty
	Stack   []byte // where it happened, for panics and stuck workers
	Err     error  // the cause

	reported atomic.Bool // keeps one error from being reported by every guard that it passes
	sentinel bool        // made by New: the same error is returned again and again
}

// Error returns "op: subject: cause"; the hint and the stack are not part of it.
func (e *Error) Error() string {
	var b strings.Builder
	for _, s := range []string{e.Op, e.Subject} {
		if s != "" {
			b.WriteString(s)
			b.WriteString(": ")
		}
	}
	if e.Err == nil {
		b.WriteString(e.Kind.Rule().Meaning)
	} else {
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Claim returns true if e was not reported yet; the caller must then report it. For a sentinel it always returns true: to
// have each occurrence reported once, pass on the result of Occurred.
func (e *Error) Claim() bool { return e.sentinel || e.reported.CompareAndSwap(false, true) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind with a text of its own, for use as a sentinel.
func New(kind Kind, text string) error {
	return &Error{Kind: kind, Err: errors.New(text), sentinel: true}
}

// ErrDropped is in the tree of the error of a loss that was ordered (pkg/chaos): the work is done, and its result is lost.
var ErrDropped = errors.New("an injected loss")

// Occurred returns err as one occurrence, which can be claimed once. If err is a sentinel or wraps one, it is wrapped in an
// Error of its own with the same kind, text and hint. Any other error is returned as it is.
func Occurred(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.sentinel {
		return &Error{Kind: e.Kind, Hint: e.Hint, Err: err}
	}
	return err
}

// Dependency returns the error of a dependency called name that failed with err. It returns nil if err is nil.
func Dependency(name string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindDependency, Op: "dependency", Subject: name, Err: err}
}

// Permanent marks err as one that a retry can't help: an event whose handler returns it becomes a dead letter at once. It
// returns nil if err is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindPermanent, Err: err}
}

// Config returns the error of a setting that is wrong, or of something that a setting names. The hint says what to do.
func Config(hint string, err error) error {
	return &Error{Kind: KindConfig, Hint: hint, Err: err}
}

// Usage returns the error of a wrong command line.
func Usage(format string, args ...any) error {
	return &Error{Kind: KindUsage, Err: fmt.Errorf(format, args...)}
}

// Of returns the kind of err: that of the outermost Error in its tree, KindUnhandled if there is none. A nil error
// is KindStopped: nothing went wrong.
func Of(err error) Kind {
	if err == nil {
		return KindStopped
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindUnhandled
}

// Hint returns what a person can do about err, empty if unknown.
func Hint(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}

// Stack returns where err happened, nil if unknown.
func Stack(err error) []byte {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Stack
	}
	return nil
}

// ExitCode returns the code of a process whose first cause was err.
func ExitCode(err error) int { return Of(err).Rule().Exit }
