// Package stack reads goroutine stacks for the log: one piece for each goroutine, with the worker that it belongs to,
// without argument values (they are addresses at best and secrets at worst), and short enough for one log record.
//
// The format is the Go runtime's, of runtime.Stack, of a crash and of SIGQUIT, so Parse can also read what another
// process printed. Worker labels appear only after ShowLabels, or with GODEBUG=tracebacklabels=1.
package stack

import (
	"context"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
)

// Label is the key of the pprof label that holds a worker's name.
const Label = "worker"

const (
	// maxAll bounds the bytes that All reads: 16 MiB are about 16,000 goroutines.
	maxAll = 16 << 20
	// MaxText bounds the text of one goroutine, in bytes, so that it fits into one log record of 4 KiB with its other fields.
	MaxText = 3 << 10
)

// Goroutine is one goroutine's stack.
type Goroutine struct {
	ID     uint64 `json:"id"`
	State  string `json:"state"`            // "running", "chan receive, 3 minutes", …
	Worker string `json:"worker,omitempty"` // the worker that it runs for, empty if none
	Text   string `json:"text"`             // the frames, innermost first; at most MaxText bytes, the middle left out

	root bool // it called Labelled itself
}

// ShowLabels makes the runtime print labels in stacks, also in those of a crash, from now on and in the processes that it
// starts. It sets GODEBUG, since tracebacklabels can't be set at build time.
func ShowLabels() {
	const setting = "tracebacklabels=1"
	old := os.Getenv("GODEBUG")
	if strings.Contains(old, "tracebacklabels=") {
		return
	}
	if old != "" {
		old += ","
	}
	os.Setenv("GODEBUG", old+setting)
}

// Labelled calls fn with the worker's label on the goroutine and on all that it starts.
func Labelled(ctx context.Context, worker string, fn func(context.Context)) {
	pprof.Do(ctx, pprof.Labels(Label, worker), fn)
}

// All returns every goroutine's stack, the caller's first. It stops the world for a moment.
func All() []Goroutine {
	for size := 256 << 10; ; size *= 4 {
		buf := make([]byte, min(size, maxAll))
		if n := runtime.Stack(buf, true); n < len(buf) || len(buf) == maxAll {
			return Parse(buf[:n])
		}
	}
}

// Of returns the stacks in all that belong to the worker. The first is its own: the goroutine that called Labelled.
func Of(worker string, all []Goroutine) []Goroutine {
	var list []Goroutine
	for _, g := range all {
		if g.Worker != worker {
			continue
		}
		list = append(list, g)
		if g.root {
			list[0], list[len(list)-1] = g, list[0]
		}
	}
	return list
}

// rootFrame is on the stack of a goroutine that called Labelled, and not on the stacks of those that it started.
const rootFrame = "/pkg/stack.Labelled("

var (
	header = regexp.MustCompile(`^goroutine (\d+) (?:gp=\S+ m=.*? )?\[(.*)\]:$`)
	labels = regexp.MustCompile(` labels:\{(.*)\}$`)
	worker = regexp.MustCompile(`(?:^|, )"` + Label + `": ("(?:[^"\\]|\\.)*")`)
)

// Parse reads the goroutines in a dump of the Go runtime. It leaves out lines that belong to none.
func Parse(dump []byte) []Goroutine {
	var list []Goroutine
	for block := range strings.SplitSeq(string(dump), "\n\n") {
		lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
		for i, line := range lines {
			m := header.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			id, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				break
			}
			g := Goroutine{ID: id, State: m[2], Text: text(lines[i+1:]), root: strings.Contains(block, rootFrame)}
			if l := labels.FindStringSubmatch(g.State); l != nil {
				g.State = strings.TrimSuffix(g.State, l[0])
				if w := worker.FindStringSubmatch(l[1]); w != nil {
					g.Worker, _ = strconv.Unquote(w[1])
				}
			}
			list = append(list, g)
			break
		}
	}
	return list
}

// text joins the frames without their arguments. If the text is longer than MaxText, it leaves out the middle: the
// innermost frames show where the goroutine hangs, the outermost whose it is.
func text(frames []string) string {
	for i, f := range frames {
		frames[i] = scrub(f)
	}
	whole := strings.Join(frames, "\n")
	if len(whole) <= MaxText {
		return whole
	}
	const mark = "\n\t…\n"
	head := whole[:MaxText*2/3-len(mark)]
	head = head[:strings.LastIndexByte(head, '\n')+1]
	tail := whole[len(whole)-MaxText/3:]
	tail = tail[strings.IndexByte(tail, '\n')+1:]
	return strings.TrimSuffix(head, "\n") + mark + tail
}

var arguments = regexp.MustCompile(`\((?:0x|\{|\.\.\.|_|"|[0-9]|nil)[^\t]*\)$`)

// Scrub removes the argument values from every frame of a dump, and leaves the rest as it is.
func Scrub(dump string) string {
	lines := strings.Split(dump, "\n")
	for i, l := range lines {
		lines[i] = scrub(l)
	}
	return strings.Join(lines, "\n")
}

func scrub(line string) string {
	if strings.HasPrefix(line, "\t") {
		return line
	}
	return arguments.ReplaceAllString(line, "(...)")
}
