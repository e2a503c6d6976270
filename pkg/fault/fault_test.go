package fault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

func TestTheKindSurvivesWrappingAndTheOutermostCounts(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind fault.Kind
		exit int
	}{
		{nil, fault.KindStopped, 0},
		{errBoom, fault.KindUnhandled, 1},
		{context.Canceled, fault.KindUnhandled, 1},
		{fault.Dependency("db", errBoom), fault.KindDependency, 69},
		{fmt.Errorf("load: %w", fault.Config("set X", errBoom)), fault.KindConfig, 78},
		{errors.Join(errBoom, fault.Usage("bad flag %s", "-x")), fault.KindUsage, 64},
		{&fault.Error{Kind: fault.KindUnclean, Err: fault.Dependency("db", errBoom)}, fault.KindUnclean, 70},
		{&fault.Error{Kind: fault.Kind(200)}, fault.Kind(200), 1},
	} {
		if have := fault.Of(c.err); have != c.kind || fault.ExitCode(c.err) != c.exit {
			t.Errorf("%v: want %s and exit %d, have %s and %d", c.err, c.kind, c.exit, have, fault.ExitCode(c.err))
		}
	}
}

func TestTheTableIsComplete(t *testing.T) {
	names := map[string]bool{}
	for i, r := range fault.Rules() {
		if int(r.Kind) != i || r.Name == "" || r.Meaning == "" || names[r.Name] {
			t.Errorf("row %d: want its own kind, a name of its own and a meaning, have %+v", i, r)
		}
		names[r.Name] = true
		if (r.Exit == fault.ExitClean) != (r.Kind == fault.KindStopped || r.Kind == fault.KindDone) {
			t.Errorf("%s: want exit 0 for an end that was asked for and for nothing else, have %d", r.Name, r.Exit)
		}
	}
	if r := fault.KindDependency.Rule(); r.Report || r.Level != slog.LevelWarn {
		t.Errorf("want a dependency's trouble to make no noise, have %+v", r)
	}
}

func TestErrorsReadAsOperationSubjectCause(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fault.Error{Op: "worker", Subject: "reader", Err: errBoom}, "worker: reader: boom"},
		{fault.Dependency("db", errBoom), "dependency: db: boom"},
		{fault.Config("set X", errBoom), "boom"},
		{&fault.Error{Kind: fault.KindEnded}, "a worker returned although nobody asked it to"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("want %q, have %q", c.want, c.err)
		}
	}
	if fault.Dependency("db", nil) != nil {
		t.Error("want no error of no error")
	}
	if err := fault.Config("set X", fs.ErrNotExist); fault.Hint(err) != "set X" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want the hint and the cause kept, have %q", fault.Hint(err))
	}
}

func TestAPanicBecomesAnErrorWithTheStackOfItsPlace(t *testing.T) {
	for name, v := range map[string]any{"an error": errBoom, "a text": "boom", "nil": nil} {
		err := fault.Recover("victim", func() error { panicHere(v); return nil })
		if fault.Of(err) != fault.KindPanic || !strings.Contains(string(fault.Stack(err)), "panicHere") {
			t.Errorf("%s: want a panic with its stack, have %v\n%s", name, err, fault.Stack(err))
		}
		if strings.Contains(string(fault.Stack(err)), "(0x") || strings.Contains(string(fault.Stack(err)), "({0x") {
			t.Errorf("%s: want no values of arguments, have\n%s", name, fault.Stack(err))
		}
		if v == errBoom && !errors.Is(err, errBoom) {
			t.Errorf("want the error that was panicked with in the tree, have %v", err)
		}
	}
	var m map[string]int
	if err := fault.Recover("victim", func() error { m["x"] = 1; return nil }); fault.Of(err) != fault.KindPanic {
		t.Errorf("want a runtime error recovered, too, have %v", err)
	}
}

func panicHere(v any) { panic(v) }

func TestGoexitIsNotSwallowed(t *testing.T) {
	returned, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		_ = fault.Recover("victim", func() error { runtime.Goexit(); return nil })
		returned = true
	}()
	<-ended
	if returned {
		t.Error("want the goroutine to end, but Recover returned")
	}
}

func TestTheGuardTellsEachErrorOnceAndAtItsLevel(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		closing bool
		level   string
		reports int
		ends    int
	}{
		{"an error", errBoom, false, "ERROR", 1, 1},
		{"a dependency", fault.Dependency("db", errBoom), false, "WARN", 0, 1},
		{"a terminated socket", fault.New(fault.KindTerminated, "terminated"), false, "WARN", 0, 1},
		{"an error while closing", errBoom, true, "DEBUG", 0, 0},
		{"a terminated socket while closing", fault.New(fault.KindTerminated, "terminated"), true, "DEBUG", 0, 0},
	} {
		var log bytes.Buffer
		reports, ends := 0, 0
		g := fault.Guard{
			Log:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Closing: func() bool { return c.closing },
			Report:  func(context.Context, *fault.Error) { reports++ },
			End:     func(error) { ends++ },
		}
		err := g.Run(t.Context(), "victim", func(context.Context) error { return c.err })
		if !errors.Is(err, c.err) || reports != c.reports || ends != c.ends || !strings.Contains(log.String(), "level="+c.level) || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%s: want one line of level %s, %d reports, %d ends, have %v, %d, %d:\n%s", c.name, c.level, c.reports, c.ends, err, reports, ends, &log)
		}
	}
}

// heard notes of each record whether it is about what is reported.
type heard struct {
	slog.Handler
	reported []bool
}

func (h *heard) Handle(ctx context.Context, _ slog.Record) error {
	h.reported = append(h.reported, fault.IsReported(ctx))
	return nil
}

func TestTheRecordOfWhatAGuardReportsIsMarked(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		hook func(context.Context, *fault.Error)
		want bool
	}{
		{"an error", errBoom, func(ctx context.Context, _ *fault.Error) {
			if fault.IsReported(ctx) {
				t.Error("want the mark on the record's context alone")
			}
		}, true},
		{"nobody to report to", errBoom, nil, false},
		{"a dependency", fault.Dependency("db", errBoom), func(context.Context, *fault.Error) {}, false},
	} {
		h := &heard{Handler: slog.DiscardHandler}
		fault.Guard{Log: slog.New(logAll{h}), Report: c.hook}.Handle(t.Context(), "victim", c.err)
		if len(h.reported) != 1 || h.reported[0] != c.want {
			t.Errorf("%s: want one record, marked %v, have %v", c.name, c.want, h.reported)
		}
	}
	e := &fault.Error{}
	if !e.Claim() || e.Claim() {
		t.Error("want an error claimed once")
	}
}

// logAll is a handler for all levels.
type logAll struct{ *heard }

func (logAll) Enabled(context.Context, slog.Level) bool { return true }

func TestAnErrorThatPassesTwoGuardsIsReportedOnce(t *testing.T) {
	reports := 0
	g := fault.Guard{Report: func(context.Context, *fault.Error) { reports++ }}
	_ = g.Run(t.Context(), "outer", func(ctx context.Context) error {
		return g.Run(ctx, "inner", func(context.Context) error { panic("boom") })
	})
	if reports != 1 {
		t.Errorf("want 1 report, have %d", reports)
	}
}

// A sentinel is one error for all the times that it happens: each of them is reported, and by one guard alone.
func TestASentinelIsReportedEachTimeItHappens(t *testing.T) {
	for name, sentinel := range map[string]error{"bare": fault.New(fault.KindUnhandled, "unknown"), "wrapped": fmt.Errorf("settle: %w", fault.New(fault.KindUnhandled, "unknown"))} {
		var reports []string
		var ends []error
		g := fault.Guard{Report: func(_ context.Context, e *fault.Error) { reports = append(reports, e.Error()) }, End: func(err error) { ends = append(ends, err) }}
		for range 3 {
			err := g.Run(t.Context(), "outer", func(ctx context.Context) error {
				return g.Run(ctx, "inner", func(context.Context) error { return sentinel })
			})
			if !errors.Is(err, sentinel) || err.Error() != sentinel.Error() || fault.Of(err) != fault.KindUnhandled {
				t.Errorf("%s: want the same error, have %v", name, err)
			}
		}
		if want := slices.Repeat([]string{sentinel.Error()}, 3); !slices.Equal(reports, want) {
			t.Errorf("%s: want %q reported, have %q", name, want, reports)
		}
		if e, ok := errors.AsType[*fault.Error](ends[0]); !ok || e.Claim() {
			t.Errorf("%s: want what ends the process claimed, have %v", name, ends[0])
		}
	}
	once := fault.Permanent(errBoom)
	if fault.Occurred(once) != once || fault.Occurred(errBoom) != errBoom || fault.Occurred(nil) != nil {
		t.Error("want what is no sentinel as it is")
	}
}

func BenchmarkGuard(b *testing.B) {
	g, ctx := fault.Guard{}, context.Background()
	work := func(context.Context) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Run(ctx, "bench", work); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleGuard() {
	g := fault.Guard{End: func(err error) { fmt.Println("the process ends with", fault.ExitCode(err)) }}
	err := g.Run(context.Background(), "loader", func(context.Context) error {
		return fault.Dependency("database", errors.New("connection refused"))
	})
	fmt.Println(err)
	// Output:
	// the process ends with 69
	// dependency: database: connection refused
}
