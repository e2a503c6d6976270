package logging_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/base-app/pkg/logging"
)

const limit = 4096

type panics struct{}

func (panics) Error() string { panic("error of an error") }

type valuer struct{ v slog.Value }

func (v valuer) LogValue() slog.Value { return v.v }

func TestNoValueBreaksALine(t *testing.T) {
	nasty := "a\nb\r\x1b[2J\x7f\u0085\u2028\u009b1m\x00\xff�\t\"quoted\" \\x1b[31m"
	for _, format := range []string{"json", "console"} {
		l, out := open(t, logging.Options{Format: format, App: "a\nb c", Device: nasty})
		l.Logger().With("worker", nasty).Info(nasty, nasty, nasty, "bytes", []byte(nasty), "error", errors.New(nasty),
			"any", struct{ A string }{nasty}, slog.Group(nasty, nasty, nasty), "valuer", valuer{slog.StringValue(nasty)},
			"panics", panics{}, "raw", json.RawMessage("{\"a\":\n\"\u0085\"}"))
		checkLine(t, out.String())
	}
}

func checkLine(t *testing.T, s string) {
	t.Helper()
	if len(s) > limit {
		t.Errorf("%d bytes", len(s))
	}
	if !strings.HasSuffix(s, "\n") || strings.Count(s, "\n") != 1 {
		t.Errorf("not one line: %q", s)
	}
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	for _, r := range strings.TrimSuffix(s, "\n") {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			t.Errorf("%U in %q", r, s)
			return
		}
	}
}

func TestConsoleStringsComeBackByUnquote(t *testing.T) {
	l, out := open(t, logging.Options{Format: "console"})
	for _, want := range []string{"", "a b", `"`, "a\nb", "\x1b[31mred", "half\xff", "with � in it", `C:\x1b[2J b`, "ünï", "="} {
		l.Logger().Info("m", "k", want)
		line := out.lines()[len(out.lines())-1]
		have := line[strings.Index(line, "k=")+2:]
		if s, err := strconv.Unquote(have); err == nil {
			have = s
		}
		if have != want {
			t.Errorf("want %q, have %q", want, have)
		}
	}
}

// A number of nanoseconds beside "1.5s" would be one field of two types.
func TestADurationIsText(t *testing.T) {
	took := 1500 * time.Millisecond
	for _, format := range []string{"json", "console"} {
		l, out := open(t, logging.Options{Format: format})
		log := l.Logger().With("by_logger", took)
		log.WithGroup("g").Info("m", "took", took, "valuer", valuer{slog.DurationValue(took)}, slog.Group("deeper", "took", took, "n", 7))
		log.Info("m", "took", took, "long", strings.Repeat("x", 2*limit))
		if s := out.String(); strings.Count(s, "1.5s") != 6 || strings.Contains(s, "1500000000") || !strings.Contains(s, "7") {
			t.Errorf("%s: want each duration as text, have\n%s", format, s)
		}
	}
}

func TestStackIsReadableText(t *testing.T) {
	l, out := open(t, logging.Options{Format: "json"})
	l.Logger().Info("m", "stack", []byte("goroutine 1:\nmain.main()"))
	if have := object(t, out.lines()[0])["stack"]; have != "goroutine 1:\nmain.main()" {
		t.Errorf("have %v", have)
	}
}

func TestLongRecordsAreCutVisibly(t *testing.T) {
	long := strings.Repeat("ä", 1<<17)
	control := strings.Repeat("\x01", 9000)
	many := make([]any, 0, 4000)
	for i := range 2000 {
		many = append(many, "key"+strconv.Itoa(i), i)
	}
	names := logging.Options{App: long, Device: control, Version: long, Commit: long, Deployment: long}
	for _, c := range []struct {
		what, msg string
		o         logging.Options
		args      []any
		atLeast   int // bytes of the line: the room is used
		marked    bool
	}{
		{"message", long, logging.Options{}, []any{"k", 1}, 3000, true},
		{"string", "m", logging.Options{}, []any{"k", long, "n", 1}, 3000, true},
		{"error", "m", logging.Options{}, []any{"k", errors.New(long)}, 3000, true},
		{"bytes", "m", logging.Options{}, []any{"k", []byte(long)}, 3000, true},
		{"struct", "m", logging.Options{}, []any{"k", struct{ A, B string }{long, long}}, 3000, true},
		{"group", "m", logging.Options{}, []any{slog.Group("g", "k", long, "l", long)}, 2000, true},
		{"controls", control, logging.Options{}, []any{"k", control}, 1000, true},
		{"many attributes", "m", logging.Options{}, many, 1000, false},
		{"everything", control, names, []any{"worker", long, long, control, "k", control, "g", slog.GroupValue(slog.Group("g", many...))}, 200, true},
	} {
		for _, format := range []string{"json", "console"} {
			o := c.o
			o.Format = format
			l, out := open(t, o)
			l.Logger().Info(c.msg, c.args...)
			s := out.String()
			checkLine(t, s)
			if len(s) < c.atLeast {
				t.Errorf("%s %s: only %d bytes are left", c.what, format, len(s))
			}
			if !regexp.MustCompile(`"truncated":true}\n$| truncated=true\n$`).MatchString(s) {
				t.Errorf("%s %s: not said: %q", c.what, format, s[len(s)-100:])
			}
			if c.marked && !regexp.MustCompile(`…\[\+\d+ bytes\]`).MatchString(s) {
				t.Errorf("%s %s: no mark: %q", c.what, format, s)
			}
			if have := l.Stats().Truncated; have != 1 {
				t.Errorf("%s %s: counted %d", c.what, format, have)
			}
			if format == "json" {
				object(t, s)
			}
		}
	}
}

func TestRecordThatJustFitsIsWhole(t *testing.T) {
	size := func(extra int) (int, bool) {
		l, out := open(t, logging.Options{Format: "json"})
		r := slog.NewRecord(time.Date(2026, 1, 2, 15, 4, 5, 6, time.UTC), slog.LevelInfo, "m", 0)
		r.Add("k", strings.Repeat("x", extra))
		if err := l.Logger().Handler().Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return len(out.String()), strings.Contains(out.String(), "truncated")
	}
	fixed, _ := size(0)
	if n, cut := size(limit - fixed); n != limit || cut {
		t.Errorf("one of %d bytes is written in %d, truncated %v", limit, n, cut)
	}
	if n, cut := size(limit - fixed + 1); n > limit || !cut {
		t.Errorf("one of %d bytes is written in %d, truncated %v", limit+1, n, cut)
	}
}

func FuzzOneRecordIsOneLine(f *testing.F) {
	f.Add("message", "key", "value", 3)
	f.Add("m\n", "\x1b[2J", "\xff\u0085", 400)
	f.Add("", "", strings.Repeat("é", 3000), 1)
	f.Fuzz(func(t *testing.T, msg, key, value string, n int) {
		for _, format := range []string{"json", "console"} {
			l, out := open(t, logging.Options{Format: format, App: key, Device: value})
			args := []any{key, value, "any", []string{value, key}, slog.Group(value, key, msg)}
			for i := range max(0, min(n, 50)) {
				args = append(args, strconv.Itoa(i)+key, value)
			}
			l.Logger().With("worker", value).Info(msg, args...)
			checkLine(t, out.String())
			if format == "json" {
				object(t, out.String())
			}
		}
	})
}
