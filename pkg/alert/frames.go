package alert

import (
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/getsentry/sentry-go"
)

// frame is one line of a stack.
type frame struct {
	function string // with its package's path
	file     string
	line     int
}

// parse reads a stack as the Go runtime writes it, innermost first, until the goroutine's creation. After a panic what
// the runtime and the guard put on top is left out.
func parse(stack []byte) (list []frame) {
	lines := strings.Split(string(stack), "\n")
	for i := 0; i+1 < len(lines) && len(list) < maxFrames; i++ {
		where, ok := strings.CutPrefix(lines[i+1], "\t")
		if !ok || strings.HasPrefix(lines[i], "\t") {
			continue
		}
		if strings.HasPrefix(lines[i], "created by ") {
			break
		}
		f := frame{function: lines[i]}
		if n := strings.LastIndexByte(f.function, '('); n > 0 {
			f.function = f.function[:n]
		}
		where, _, _ = strings.Cut(where, " ")
		if n := strings.LastIndexByte(where, ':'); n > 0 {
			f.file = where[:n]
			f.line, _ = strconv.Atoi(where[n+1:])
		}
		if f.function == "panic" {
			list = list[:0]
			continue
		}
		list = append(list, f)
	}
	for len(list) > 0 && strings.HasPrefix(list[0].function, "runtime.") { // the runtime's own panics
		list = list[1:]
	}
	return list
}

// topOf names the place at the top of a stack, empty if there is none.
func topOf(stack []byte) string {
	if len(stack) == 0 {
		return ""
	}
	if list := parse(stack); len(list) > 0 {
		return list[0].function
	}
	return ""
}

// resolve makes frames of program counters, without the log's own.
func resolve(pcs []uintptr) (list []frame) {
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		if f.Function != "" && (len(list) > 0 || !strings.HasPrefix(f.Function, "log/slog.") && !strings.Contains(f.Function, "/pkg/logging.")) {
			list = append(list, frame{f.Function, f.File, f.Line})
		}
		if !more {
			return list
		}
	}
}

// frames returns the stack of d as Sentry wants it: outermost first. Nil if there is none.
func (r *reporter) frames(d draft) *sentry.Stacktrace {
	list := parse(d.stack)
	if len(d.stack) == 0 && len(d.callers) > 0 {
		list = resolve(d.callers)
	}
	if len(list) == 0 {
		return nil
	}
	trace := &sentry.Stacktrace{}
	for _, f := range slices.Backward(list) {
		module, function := split(f.function)
		trace.Frames = append(trace.Frames, sentry.Frame{Function: function, Module: module, Filename: path.Base(f.file), AbsPath: f.file,
			Lineno: f.line,
			InApp:  module == "main" || r.module != "" && (module == r.module || strings.HasPrefix(module, r.module+"/"))})
	}
	return trace
}

// split parts a function's name from its package's path: example.com/shop/pkg/queue.(*Queue).Next.
func split(name string) (module, function string) {
	slash := strings.LastIndexByte(name, '/')
	dot := strings.IndexByte(name[slash+1:], '.')
	if dot < 0 {
		return "", name
	}
	return name[:slash+1+dot], name[slash+1+dot+1:]
}
