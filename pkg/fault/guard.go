package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"example.com/base-app/pkg/stack"
)

// maxStack bounds the stack that is kept of a panic: a hundred frames and more, and still a message that travels.
const maxStack = 64 << 10

// Guard runs functions so that whatever ends them becomes one classified error, is logged once at its kind's
// level, and goes where it must. The zero Guard only recovers and classifies.
//
// runtime.Goexit is not swallowed: the goroutine ends, and whoever started it must notice (the nanny does).
type Guard struct {
	Log *slog.Logger // where the end is logged; nil: nowhere

	// Closing says whether the process shuts down. From then on errors are the shutdown's echo: they are logged at
	// debug and nothing is reported. Nil means never.
	Closing func() bool

	Report func(context.Context, *Error) // told of each error whose kind wants it; must not block. Nil: nobody
	End    func(error)                   // told of each error, to end the process. Nil: the process goes on
}

// Run calls fn and returns its error, or a panic as an *Error with its stack. The subject names who failed, in the log and
// in the error of a panic. Run blocks as long as fn does.
func (g Guard) Run(ctx context.Context, subject string, fn func(context.Context) error) error {
	err := Occurred(Recover(subject, func() error { return fn(ctx) }))
	if err != nil {
		g.Handle(ctx, subject, err)
	}
	return err
}

// Handle does with err what Run does with an error: log, report, end. It is for errors that were caught elsewhere.
func (g Guard) Handle(ctx context.Context, subject string, err error) {
	err = Occurred(err)
	e := classified(subject, err)
	rule := e.Kind.Rule()
	if g.Closing != nil && g.Closing() {
		if g.Log != nil {
			g.Log.DebugContext(ctx, "ended while shutting down", "subject", subject, "kind", rule.Name, "error", err)
		}
		return
	}
	reports := rule.Report && g.Report != nil
	if g.Log != nil {
		about := ctx
		if reports {
			about = Reported(ctx)
		}
		g.Log.Log(about, rule.Level, "failed", attributes(subject, e, err)...)
	}
	if reports && e.Claim() {
		g.Report(ctx, e)
	}
	if g.End != nil {
		g.End(err)
	}
}

type reportedKey struct{}

// Reported returns a context for the log record of an error that its caller reports himself: who makes reports of log
// records leaves that one out. A Guard with a Report logs with it.
func Reported(ctx context.Context) context.Context {
	return context.WithValue(ctx, reportedKey{}, true)
}

// IsReported tells whether ctx is for such a record.
func IsReported(ctx context.Context) bool { return ctx.Value(reportedKey{}) != nil }

func attributes(subject string, e *Error, err error) []any {
	list := []any{"subject", subject, "kind", e.Kind.String(), "error", err}
	if e.Hint != "" {
		list = append(list, "hint", e.Hint)
	}
	if len(e.Stack) > 0 {
		list = append(list, "stack", string(e.Stack))
	}
	return list
}

// Recover calls fn and turns a panic into an *Error of KindPanic with the stack of the place that panicked.
// Errors pass through as they are.
func Recover(subject string, fn func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		cause, ok := v.(error)
		if !ok {
			cause = fmt.Errorf("%v", v)
		}
		err = &Error{Kind: KindPanic, Op: "panic", Subject: subject, Err: cause, Stack: here()}
	}()
	return fn()
}

// here returns the stack of the calling goroutine, which during a recover still holds the frames that panicked. The
// values of arguments are left out: they can be secrets.
func here() []byte {
	buf := make([]byte, maxStack)
	return []byte(stack.Scrub(string(buf[:runtime.Stack(buf, false)])))
}

// classified returns the Error in err's tree, or err as an unhandled one.
func classified(subject string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: KindUnhandled, Subject: subject, Err: err}
}
