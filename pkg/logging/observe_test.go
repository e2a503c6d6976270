package logging_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/worker"
)

// Whoever hears records gets them as the outputs do, and before them: an output that blocks hides nothing.
func TestHearIsToldOfEachRecordBeforeItIsWritten(t *testing.T) {
	var have []string
	out := &buffer{}
	l, written := open(t, logging.Options{Observe: func(ctx context.Context, r slog.Record) {
		text := r.Level.String() + " " + r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		have = append(have, text)
		if strings.Contains(out.String(), r.Message) {
			t.Errorf("want %q heard before it is written", r.Message)
		}
		if list := logging.Attrs(ctx); len(list) != 1 || list[0].Key != "request_id" {
			t.Errorf("want what the context carries, have %v", list)
		}
	}})
	out = written
	ctx := logging.With(worker.NewContext(t.Context(), worker.New("reader")), slog.String("request_id", "r1"))
	l.Logger().DebugContext(ctx, "below the level")
	l.Logger().With("a", 1).WithGroup("g").WarnContext(ctx, "grouped", "b", 2)
	l.Logger().ErrorContext(ctx, "wrong", "error", "boom")
	want := []string{"WARN grouped worker=reader request_id=r1 a=1 g=[b=2]", "ERROR wrong worker=reader request_id=r1 error=boom"}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("want\n%s\nhave\n%s", strings.Join(want, "\n"), strings.Join(have, "\n"))
	}
	if logging.Attrs(t.Context()) != nil {
		t.Error("want none of a context without")
	}
}
