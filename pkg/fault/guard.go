package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"example.com/base-app/pkg/stack"
)

// maxStack bounds the stack of a panic, in bytes: room for more than a hundred frames, and still small enough to send.
const maxStack = 64 << 10

// Guard runs functions. It turns a function's error or panic into one classified error, logs it once at the level of its
// kind, and calls Report and End. The zero Guard only recovers and classifies.
//
// It does not stop runtime.Goexit: the goroutine ends, and its starter must notice that, as the nanny does.
type Guard struct {
	Log *slog.Logger // where the end is logged; nil: nowhere

	// Closing returns whether the process shuts down. Then errors are only a result of the shutdown: they are logged at
	// debug, and not reported. Nil: it never shuts down.
	Closing func() bool

	Report func(context.Context, *Error) // called for each error whose rule has Report; must not block. Nil: none
	End    func(error)                   // called for each error, to end the process. Nil: the process goes on
}

// Run calls fn and returns its error, or its panic as an *Error with the stack. The subject names the function in the log
// and in the error of a panic. Run blocks as long as fn does.
func (g Guard) Run(ctx context.Context, subject string, fn func(context.Context) error) error {
	err := Occurred(Recover(subject, func() error { return fn(ctx) }))
	if err != nil {
		g.Handle(ctx, subject, err)
	}
	return err
}

// Handle logs and reports err and calls End, as Run does with its function's error. It is for errors from elsewhere.
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

// Reported returns a context for the log record of an error that the caller reports itself: code that turns log records
// into reports leaves this record out. A Guard with a Report logs with it.
func Reported(ctx context.Context) context.Context {
	return context.WithValue(ctx, reportedKey{}, true)
}

// IsReported returns whether ctx is one of Reported.
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
