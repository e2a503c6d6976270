package lifecycle

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
)

const (
	// keepDumps is how many dumps stay in the data folder: enough for a bad night.
	keepDumps = 10
	// sectionTime is how long a section may take: it may wait for a lock that a hung goroutine holds.
	sectionTime = 500 * time.Millisecond
	// recordAfter is how long a shutdown must last before the flight recorder starts: a quick one does without.
	recordAfter = 250 * time.Millisecond
	recordBytes = 4 << 20 // the newest part of the trace, some seconds of a busy process
	maxFiles    = 200     // open files that are listed one by one
	// private is the mode of dumps and crashes, for the owner alone: traces and arguments can hold secrets.
	private = 0o600
)

// Section is a part of the dump. It gets the stacks of all goroutines, so that an item can show its own.
type Section struct {
	Name  string
	Items func(all []stack.Goroutine) []Item
}

// Item is one entry of the dump: one record in the log, one paragraph in the file.
type Item struct {
	Title string
	Attrs []slog.Attr
	Stack *stack.Goroutine // nil if there is none
}

func item(title string, keysAndValues ...any) Item {
	var r slog.Record
	r.Add(keysAndValues...)
	it := Item{Title: title}
	r.Attrs(func(a slog.Attr) bool { it.Attrs = append(it.Attrs, a); return true })
	return it
}

// Dump writes the state of the process to the log and to the folder dumps of the data folder, and returns the
// file's path. It holds the reason, the sections (workers, sockets, …), what delays a shutdown, open files, memory, and
// every goroutine. Dump blocks as long as the log and the disk do, and for half a second per section at most.
func (l *Life) Dump(why string) (string, error) { return l.dump(why, nil) }

func (l *Life) dump(why string, r *recorder) (string, error) {
	parts, path, err := l.keep(why, r)
	if err != nil {
		l.opts.Log.Error("the dump could not be written to the data folder", "error", err)
	}
	l.dumpToLog(parts, path)
	return path, err
}

// keep collects a dump and writes it to the data folder. It releases the lock before anything is logged: the log may
// hang, and the next dump must not wait for it.
func (l *Life) keep(why string, r *recorder) (parts []part, path string, err error) {
	l.dumping.Lock()
	defer l.dumping.Unlock()
	parts = l.collect(why, stack.All())
	if l.dir != "" {
		path, err = dumpToFile(l.dir, parts, r)
	}
	if l.Closing() {
		l.isKept()
	}
	return parts, path, err
}

// part is a section with its answer.
type part struct {
	name  string
	items []Item
	level slog.Level
}

func (l *Life) collect(why string, all []stack.Goroutine) []part {
	level := slog.LevelInfo
	head := []any{"why", why, "uptime", time.Since(l.began).Round(time.Millisecond).String(), "pid", os.Getpid(),
		"goroutines", len(all)}
	if l.Closing() {
		level = slog.LevelWarn
		l.mu.Lock()
		head = append(head, "closing_for", time.Since(l.closed).Round(time.Millisecond).String())
		l.mu.Unlock()
		cause := context.Cause(l.ctx)
		head = append(head, "cause", cause, "kind", fault.Of(cause).String())
	}
	first := Section{"dump", func([]stack.Goroutine) []Item { return []Item{item("state dump", head...)} }}
	sections := append([]Section{first}, l.sections...)
	sections = append(sections,
		Section{"shutdown", l.delays},
		Section{"files", func([]stack.Goroutine) []Item { return files() }},
		Section{"memory", func([]stack.Goroutine) []Item { return memory() }})
	var parts []part
	for _, s := range sections {
		parts = append(parts, part{s.Name, ask(s, all), level})
	}
	return append(parts, part{"goroutines", goroutines(all), slog.LevelDebug})
}

// ask returns a section's items, or one that says that the section panicked or didn't answer in time.
func ask(s Section, all []stack.Goroutine) []Item {
	answer := make(chan []Item, 1)
	go func() {
		var items []Item
		if err := fault.Recover(s.Name, func() error { items = s.Items(all); return nil }); err != nil {
			items = []Item{item("section failed", "section", s.Name, "error", err)}
		}
		answer <- items
	}()
	timer := time.NewTimer(sectionTime)
	defer timer.Stop()
	select {
	case items := <-answer:
		return items
	case <-timer.C:
		return []Item{item("section did not answer, something in it is locked", "section", s.Name, "waited", sectionTime.String())}
	}
}

// delays returns an item for each hook that has not ended, with its stack if it runs.
func (l *Life) delays(all []stack.Goroutine) []Item {
	items := l.pendingHooks()
	for i, it := range items {
		if own := stack.Of(hookLabel(it.Attrs[0].Value.String()), all); len(own) > 0 {
			items[i].Stack = &own[0]
		}
	}
	return items
}

// goroutines returns an item for each stack, those with a worker's name first.
func goroutines(all []stack.Goroutine) []Item {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b stack.Goroutine) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Worker, b.Worker))
	})
	var items []Item
	for _, g := range sorted {
		items = append(items, Item{Title: "goroutine", Stack: &g})
	}
	return items
}

func rank(g stack.Goroutine) int {
	if g.Worker != "" {
		return 0
	}
	return 1
}

func files() []Item {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []Item{item("open files are not to be had", "error", err)}
	}
	var list []string
	for _, e := range entries[:min(len(entries), maxFiles)] {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, e.Name()+" "+to)
		}
	}
	return []Item{item("open files", "count", len(entries), "files", strings.Join(list, ", "))}
}

func memory() []Item {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	resident := "unknown"
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				resident = strings.TrimSpace(v)
			}
		}
	}
	return []Item{item("memory", "resident", resident, "heap_bytes", m.HeapAlloc, "heap_objects", m.HeapObjects,
		"from_system_bytes", m.Sys, "collections", m.NumGC)}
}

func (l *Life) dumpToLog(parts []part, path string) {
	for _, p := range parts {
		for _, it := range p.items {
			attrs := append([]slog.Attr{slog.String("section", p.name)}, it.Attrs...)
			if g := it.Stack; g != nil {
				attrs = append(attrs, slog.String("of", g.Worker), slog.Uint64("goroutine", g.ID), slog.String("in", g.State),
					slog.String("stack", g.Text))
			}
			l.opts.Log.LogAttrs(context.Background(), p.level, it.Title, attrs...)
		}
	}
	if path != "" {
		l.opts.Log.Warn("state dump written", "file", path)
	}
}

func dumpToFile(dir string, parts []part, r *recorder) (string, error) {
	dir = filepath.Join(dir, "dumps")
	if err := os.MkdirAll(dir, private|0o100); err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}
	prune(dir, keepDumps-1)
	path := filepath.Join(dir, fmt.Sprintf("%s-%d.txt", time.Now().UTC().Format("20060102T150405.000Z"), os.Getpid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, private)
	if err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, p := range parts {
		fmt.Fprintf(w, "== %s\n", p.name)
		for _, it := range p.items {
			writeItem(w, it)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return "", fmt.Errorf("dump: %w", err)
	}
	if r != nil {
		if err := r.save(strings.TrimSuffix(path, ".txt") + ".trace"); err != nil {
			return path, fmt.Errorf("dump: the flight recorder's trace: %w", err)
		}
	}
	return path, f.Sync()
}

func writeItem(w io.Writer, it Item) {
	fmt.Fprint(w, it.Title)
	for _, a := range it.Attrs {
		fmt.Fprintf(w, " %s=%v", a.Key, a.Value)
	}
	fmt.Fprintln(w)
	if g := it.Stack; g != nil {
		fmt.Fprintf(w, "goroutine %d [%s] %s\n%s\n\n", g.ID, g.State, g.Worker, g.Text)
	}
}

// prune removes the oldest dumps until keep are left. A dump is a text and perhaps a trace of the same name.
func prune(dir string, keep int) {
	texts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(texts) <= keep {
		return
	}
	slices.Sort(texts) // the names begin with the time
	for _, old := range texts[:len(texts)-keep] {
		os.Remove(old)
		os.Remove(strings.TrimSuffix(old, ".txt") + ".trace")
	}
}

// recorder is the flight recorder of a shutdown. It starts recordAfter after the latch has closed: only a shutdown that
// takes long needs an explanation, and a recorder that is always on halves the pipeline's speed.
type recorder struct {
	mu     sync.Mutex // FlightRecorder's methods must not be called at once
	flight *trace.FlightRecorder
}

func (l *Life) startRecorder(done <-chan struct{}) *recorder {
	if !l.tracing {
		return nil
	}
	r := &recorder{flight: trace.NewFlightRecorder(trace.FlightRecorderConfig{
		MinAge: l.opts.Grace + forceAfter, MaxBytes: recordBytes})}
	go func() {
		timer := time.NewTimer(min(recordAfter, l.opts.Grace/2))
		defer timer.Stop()
		select {
		case <-done:
			return
		case <-timer.C:
		}
		r.start() // if somebody else is tracing, the dump has no trace
		<-done
		r.stop()
	}()
	return r
}

func (r *recorder) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.flight.Start()
}

func (r *recorder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flight.Stop()
}

// save writes the trace so far, if the recorder runs.
func (r *recorder) save(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.flight.Enabled() {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, private)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = r.flight.WriteTo(f)
	return err
}
