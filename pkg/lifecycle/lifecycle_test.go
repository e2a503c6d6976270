package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/trace"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	stack.ShowLabels()
	goleak.VerifyTestMain(m)
}

// journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func obey(ctx context.Context) error { <-ctx.Done(); return nil }

var errBoom = errors.New("boom")

// virtual returns a Life for a bubble of virtual time, where the flight recorder can't run.
func virtual(o Options, dir ...string) *Life {
	l := New(o)
	l.tracing = false
	if len(dir) > 0 {
		l.KeepDumps(dir[0])
	}
	return l
}

func TestTheFirstCauseDecidesTheCode(t *testing.T) {
	stopped := &fault.Error{Kind: fault.KindStopped, Err: errors.New("signal SIGTERM")}
	for _, c := range []struct {
		name   string
		causes []error
		body   func(context.Context) error
		code   int
		kind   string
	}{
		{"asked to stop", []error{stopped}, obey, 0, "stopped"},
		{"body returns", nil, func(context.Context) error { return nil }, 1, "ended"},
		{"stopped without a cause", []error{nil}, obey, 1, "ended"},
		{"done", []error{&fault.Error{Kind: fault.KindDone, Err: errors.New("all is sold")}}, obey, 0, "done"},
		{"body fails", nil, func(context.Context) error { return errBoom }, 1, "unhandled"},
		{"body panics", nil, func(context.Context) error { panic("boom") }, 1, "panic"},
		{"dependency", []error{fault.Dependency("db", errBoom)}, obey, 69, "dependency"},
		{"bad port", nil, func(context.Context) error { return fault.Config("set WEB_ADDR", errBoom) }, 78, "config"},
		{"dependency, then panic", []error{fault.Dependency("db", errBoom), fault.New(fault.KindPanic, "late")}, obey, 69, "dependency"},
		{"error, then a stop", []error{errBoom, stopped}, obey, 1, "unhandled"},
		{"stop, then an error of the body", []error{stopped}, func(ctx context.Context) error { <-ctx.Done(); return errBoom }, 0, "stopped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := virtual(Options{Log: slog.New(slog.DiscardHandler)})
				for i, cause := range c.causes {
					if first := l.Stop(cause); first != (i == 0) {
						t.Errorf("cause %d: want first %v, have %v", i, i == 0, first)
					}
				}
				e := l.Run(c.body)
				if e.Code != c.code || e.Kind != c.kind || !e.Clean {
					t.Errorf("want code %d of kind %s, clean, have %+v", c.code, c.kind, e)
				}
			})
		})
	}
}

func TestAShutdownThatHangsIsExplainedAndThenForced(t *testing.T) {
	stop := &fault.Error{Kind: fault.KindStopped, Err: errors.New("signal SIGTERM")}
	for _, c := range []struct {
		name string
		hang func(l *Life, free chan struct{}) func(context.Context) error // returns the body
		want []string
	}{
		{"a body that doesn't return", func(_ *Life, free chan struct{}) func(context.Context) error {
			return func(context.Context) error { hangHere(free); return nil }
		}, []string{"lifecycle.hangHere", "of=main"}},
		{"a hook that blocks", func(l *Life, free chan struct{}) func(context.Context) error {
			l.OnStop("disk", time.Second, func(context.Context) error { hangHere(free); return nil })
			return obey
		}, []string{`msg="shutdown hook blocks" section=shutdown hook=disk`, "of=hook-disk", "lifecycle.hangHere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				j, free := &journal{}, make(chan struct{})
				var debug time.Duration
				began := time.Now()
				l := virtual(Options{Log: j.logger(), Debug: func() { debug = time.Since(began) },
					Sections: []Section{{"locked", func([]stack.Goroutine) []Item { hangHere(free); return nil }}}}, dir)
				body := c.hang(l, free)
				l.Stop(stop)
				e := l.Run(body)
				if took := time.Since(began); took != 35*time.Second || debug != 30*time.Second {
					t.Errorf("want debug at 30 s and the end at 35 s, have %v and %v", debug, took)
				}
				if e.Code != 70 || e.Clean || e.Kind != "unclean" || e.Cause != "signal SIGTERM" {
					t.Errorf("want an unclean exit 70 of SIGTERM, have %+v", e)
				}
				text := readDump(t, dir)
				for _, want := range append(c.want, "section did not answer") {
					if !strings.Contains(j.String(), want) {
						t.Errorf("want %q in the log, have:\n%s", want, j)
					}
				}
				if !strings.Contains(text, "lifecycle.hangHere(...)") || !strings.Contains(text, "== memory") {
					t.Errorf("want the stack and the memory in the file, have:\n%s", text)
				}
				close(free)
			})
		})
	}
}

func hangHere(c <-chan struct{}) { <-c }

func readDump(t *testing.T, dir string) string {
	t.Helper()
	list, _ := filepath.Glob(filepath.Join(dir, "dumps", "*.txt"))
	if len(list) != 1 {
		t.Fatalf("want one dump, have %q", list)
	}
	text, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheFlightRecordersTraceStandsBesideTheDump(t *testing.T) {
	dir := t.TempDir()
	await := func(what string, holds func() bool) {
		for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("want %s", what)
				return
			}
		}
	}
	// The dump waits until the recorder runs, however slow the machine is.
	recording := func() { await("the flight recorder to start", trace.IsEnabled) }
	l := New(Options{Log: slog.New(slog.DiscardHandler), Grace: 20 * time.Millisecond, Debug: recording})
	l.KeepDumps(dir)
	l.OnStop("release", time.Second, func(context.Context) error {
		await("a trace", func() bool {
			list, _ := filepath.Glob(filepath.Join(dir, "dumps", "*.trace"))
			if len(list) != 1 {
				return false
			}
			info, err := os.Stat(list[0])
			return err == nil && info.Size() > 0
		})
		return nil
	})
	if e := l.Run(func(context.Context) error { return nil }); !e.Clean {
		t.Errorf("want a clean end, have %+v", e)
	}
	list, _ := filepath.Glob(filepath.Join(dir, "dumps", "*.trace"))
	if len(list) != 1 {
		t.Fatalf("want one trace, have %q", list)
	}
	if data, err := os.ReadFile(list[0]); err != nil || !bytes.HasPrefix(data, []byte("go 1.")) {
		t.Errorf("want a Go execution trace, have %d bytes, %v", len(data), err)
	}
}

func TestAStuckWorkerIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		l := virtual(Options{Log: slog.New(slog.DiscardHandler), Grace: 100 * time.Millisecond}, dir)
		l.Stop(&fault.Error{Kind: fault.KindStuck, Op: "worker", Subject: "victim", Err: errBoom})
		began := time.Now()
		e := l.Run(func(context.Context) error { hangHere(free); return nil })
		if took := time.Since(began); took != time.Second || e.Code != 1 || e.Worker != "victim" || e.Clean {
			t.Errorf("want exit 1 after a second, blaming victim, have %v, %+v", took, e)
		}
		readDump(t, dir)
		close(free)
	})
}

func TestASecondSignalEndsAtOnceWithTheDump(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, free, hup := &Signals{c: make(chan os.Signal, signalQueue)}, make(chan struct{}), make(chan struct{}, 1)
		l := virtual(Options{Log: slog.New(slog.DiscardHandler), Signals: s, Hangup: func() { hup <- struct{}{} }}, dir)
		began := time.Now()
		s.c <- syscall.SIGHUP
		go func() {
			<-hup
			s.c <- syscall.SIGINT
			<-l.Context().Done()
			s.c <- syscall.SIGTERM
		}()
		e := l.Run(func(context.Context) error { hangHere(free); return nil })
		if e.Code != 70 || e.Cause != "signal SIGINT" || time.Since(began) > 2*lastWords {
			t.Errorf("want exit 70 of SIGINT at once, have %+v after %v", e, time.Since(began))
		}
		if text := readDump(t, dir); !strings.Contains(text, "a second SIGTERM") {
			t.Errorf("want the dump to say why, have:\n%s", text)
		}
		close(free)
	})
}

// The log may be what hangs: a pipe that nobody reads.
func TestALogThatBlocksDoesNotHoldUpTheEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		l := virtual(Options{Log: slog.New(blocked{slog.DiscardHandler, free}), Signals: &Signals{c: make(chan os.Signal)}}, dir)
		l.OnStop("talker", time.Second, func(context.Context) error { l.opts.Log.Info("blocks"); return nil })
		l.Stop(errAsked)
		began := time.Now()
		e := l.Run(obey)
		if took := time.Since(began); e.Code != 70 || took != 35*time.Second {
			t.Errorf("want the forced end after 35 s, have %+v after %v", e, took)
		}
		readDump(t, dir)
		close(free)
	})
}

// blocked is a log handler that hangs. It holds no lock while it does: virtual time stands still for those who wait for one.
type blocked struct {
	slog.Handler
	free <-chan struct{}
}

func (b blocked) Enabled(context.Context, slog.Level) bool  { return true }
func (b blocked) Handle(context.Context, slog.Record) error { <-b.free; return nil }

func TestDumpsAreBoundedInNumber(t *testing.T) {
	dir := t.TempDir()
	l := New(Options{Log: slog.New(slog.DiscardHandler)})
	l.KeepDumps(dir)
	defer l.Stop(errAsked)
	dumps := filepath.Join(dir, "dumps")
	if err := os.MkdirAll(dumps, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * keepDumps {
		for _, ext := range []string{"txt", "trace"} {
			if err := os.WriteFile(filepath.Join(dumps, fmt.Sprintf("2000%04d.%s", i, ext)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	path, err := l.Dump("test")
	if err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dumps, "*"))
	if want := 2*(keepDumps-1) + 1; len(left) != want {
		t.Errorf("want %d files left, have %q", want, left)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("want the newest kept: %v", err)
	}
}

// Whoever asked for a dump before may still wait for the log.
func TestADumpDoesNotWaitForTheLogOfAnother(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		l := virtual(Options{Log: slog.New(blocked{slog.DiscardHandler, free})}, dir)
		for range 2 {
			go func() { _, _ = l.Dump("test") }()
			time.Sleep(time.Second) // the names have milliseconds
		}
		if list, _ := filepath.Glob(filepath.Join(dir, "dumps", "*.txt")); len(list) != 2 {
			t.Errorf("want two dumps, have %q", list)
		}
		l.Stop(errAsked)
		close(free)
	})
}

func TestDumpsAndCrashesAreTheOwnersAlone(t *testing.T) {
	f, err := OpenFolder(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.CatchCrash(); err != nil {
		t.Fatal(err)
	}
	l := New(Options{Log: slog.New(slog.DiscardHandler)})
	defer l.Stop(errAsked)
	l.KeepDumps(f.Dir)
	if _, err := l.Dump("test"); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(f.Dir, "*", "*"))
	folders, _ := filepath.Glob(filepath.Join(f.Dir, "[dc]*"))
	if len(files) != 2 || len(folders) != 2 {
		t.Fatalf("want a dump and a crash file, have %q in %q", files, folders)
	}
	for _, path := range append(files, folders...) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("want %s the owner's alone, have %v, %v", path, info.Mode(), err)
		}
	}
}

func TestCrashesAreToldOnceAndBoundedInNumber(t *testing.T) {
	dir := t.TempDir()
	crashes := filepath.Join(dir, "crashes")
	if err := os.MkdirAll(crashes, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * keepCrashes {
		if err := os.WriteFile(filepath.Join(crashes, fmt.Sprintf("2000%04d.txt", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "panic: boom\n\ngoroutine 7 [running]:\nmain.f(0xdeadbeef)\n\t/src/main.go:9 +0x1\n"
	if err := os.WriteFile(filepath.Join(crashes, crashing), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := f.CatchCrash()
	if err != nil || c == nil || c.Cause != "panic: boom" || !strings.Contains(c.Stack, "main.f(...)") {
		t.Fatalf("want the crash, without its arguments, have %+v, %v", c, err)
	}
	if kept, err := os.ReadFile(c.File); err != nil || string(kept) != text {
		t.Errorf("want it kept whole, have %q, %v", kept, err)
	}
	if left, _ := filepath.Glob(filepath.Join(crashes, "2*.txt")); len(left) != keepCrashes {
		t.Errorf("want %d kept, have %d", keepCrashes, len(left))
	}
	if c, err := f.CatchCrash(); c != nil || err != nil {
		t.Errorf("want it told once, have %+v, %v", c, err)
	}
}

func TestCleanupRemovesWhatIsOld(t *testing.T) {
	dir := t.TempDir()
	for path, age := range map[string]time.Duration{
		"dumps/old.txt": 48 * time.Hour, "dumps/old.trace": 48 * time.Hour, "dumps/new.txt": time.Hour,
		"errors/2001.json": 48 * time.Hour, "crashes/2001.txt": 48 * time.Hour, "crashes/monitor-1.json": 48 * time.Hour, "crashes/running.txt": 48 * time.Hour, "last_exit.json": 48 * time.Hour,
	} {
		full, when := filepath.Join(dir, path), time.Now().Add(-age)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, nil, 0o600), os.Chtimes(full, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Cleanup(dir, 24*time.Hour); n != 5 || err != nil {
		t.Errorf("want 5 files removed, have %d, %v", n, err)
	}
	for _, path := range []string{"dumps/new.txt", "crashes/running.txt", "last_exit.json"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Errorf("want it kept: %v", err)
		}
	}
	if n, err := Cleanup(filepath.Join(dir, "nowhere"), time.Hour); n != 0 || err != nil {
		t.Errorf("want no error where there is nothing, have %d, %v", n, err)
	}
}

func TestTheFolderHasOneOwnerAndTellsHowTheLastEnded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open := func() *Folder {
		t.Helper()
		f, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	one := open()
	if _, vanished, first := one.Previous(); vanished || !first {
		t.Errorf("want a first start, have vanished %v, first %v", vanished, first)
	}
	if _, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler)); fault.Of(err) != fault.KindConfig || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("want the second refused as a matter of configuration, with the owner's pid, have %v", err)
	}
	one.Close() // as kill -9 does, in the middle of saving
	if err := os.WriteFile(filepath.Join(dir, "."+lastExit+"-123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	two := open()
	if e, vanished, first := two.Previous(); !vanished || first || e.Run != one.Run {
		t.Errorf("want to hear that %s vanished, have %+v, %v, %v", one.Run, e, vanished, first)
	}
	if err := SaveExit(dir, Exit{Run: two.Run, Code: 69, Kind: "dependency", Cause: "db"}); err != nil {
		t.Fatal(err)
	}
	two.Close()

	three := open()
	if e, vanished, first := three.Previous(); vanished || first || e.Code != 69 || e.Cause != "db" {
		t.Errorf("want to hear of code 69, have %+v, %v, %v", e, vanished, first)
	}
	three.Close() // nothing saved: what is in last_exit.json is an older run's

	four := open()
	defer four.Close()
	if e, vanished, _ := four.Previous(); !vanished || e.Run != three.Run {
		t.Errorf("want to hear that %s vanished, have %+v, %v", three.Run, e, vanished)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("want no temporary file left, have %q", left)
	}
}

func TestAFolderThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/base-app"} {
		_, err := OpenFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
		if fault.Of(err) != fault.KindConfig || !strings.Contains(err.Error(), dir) || fault.Hint(err) == "" {
			t.Errorf("%s: want an error of configuration with the path and a hint, have %v", dir, err)
		}
	}
	if _, err := LoadExit(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want ErrNotExist, have %v", err)
	}
}

func Example() {
	l := New(Options{Log: slog.New(slog.DiscardHandler)})
	l.OnStop("queue", time.Second, func(context.Context) error { fmt.Println("queue closed"); return nil })
	exit := l.Run(func(ctx context.Context) error {
		return fault.Dependency("database", errors.New("connection refused"))
	})
	fmt.Println(exit.Code, exit.Cause)
	// Output:
	// queue closed
	// 69 dependency: database: connection refused
}
