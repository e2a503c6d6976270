package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/worker"
)

// recording returns a log that a hears, and the context of a worker and a request.
func recording(b *testing.B, a *Alerts) (*slog.Logger, context.Context) {
	l, err := logging.New(logging.Options{Out: io.Discard, Format: "json", Syslog: "off", Observe: a.Record, Level: slog.LevelInfo})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close(context.Background()) })
	l.Started()
	ctx := logging.With(worker.NewContext(b.Context(), worker.New("reader")), slog.String("request_id", "0199c0de-7abc-7def-8123-456789abcdef"),
		slog.String("trace_id", "0af7651916cd43dd8448eb211c80319c"), slog.String("span_id", "b7ad6b7169203331"))
	return l.Logger(), ctx
}

// silent are Alerts with Sentry that send nothing: what is measured is what the caller pays.
func silent(b *testing.B, o Options) *Alerts {
	a, err := New(identified(o))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { abandon(b, a) })
	return a
}

const benchDSN = "http://public@127.0.0.1:1/42"

// What an ERROR record costs the one who logs it, its line included, with fifty lines before it to be shown.
func BenchmarkCaptureRecord(b *testing.B) {
	for name, o := range map[string]Options{"sentry": {DSN: benchDSN}, "files": {Dir: b.TempDir()}} {
		b.Run(name, func(b *testing.B) {
			a := silent(b, o)
			log, ctx := recording(b, a)
			for range keptCrumbs {
				log.InfoContext(ctx, "before", "n", 1)
			}
			err := fmt.Errorf("settle: %w", errors.New("no such order"))
			b.ReportAllocs()
			for b.Loop() {
				log.ErrorContext(ctx, "it failed", "error", err, "id", "e-4711", "delivery", 3)
			}
		})
	}
}

// What a panic that a guard reports costs beyond the line.
func BenchmarkCapturePanic(b *testing.B) {
	a := silent(b, Options{DSN: benchDSN})
	_, ctx := recording(b, a)
	err, _ := errors.AsType[*fault.Error](fault.Recover("reader", func() error { explode(); return nil }))
	b.ReportAllocs()
	for b.Loop() {
		a.Report(ctx, err)
	}
}

// What a line below ERROR costs, without anybody who hears it, with nothing set, and with Sentry.
func BenchmarkLine(b *testing.B) {
	for name, a := range map[string]*Alerts{"not observed": nil, "nothing set": silent(b, Options{Dir: b.TempDir()}), "sentry": silent(b, Options{DSN: benchDSN})} {
		b.Run(name, func(b *testing.B) {
			o := logging.Options{Out: io.Discard, Format: "json", Syslog: "off", Level: slog.LevelInfo}
			if a != nil {
				o.Observe = a.Record
			}
			l, err := logging.New(o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = l.Close(context.Background()) }()
			l.Started()
			log, n := l.Logger(), 0
			b.ReportAllocs()
			for b.Loop() {
				n++ // no repeat
				log.InfoContext(b.Context(), "request", "method", "GET", "path", "/events", "status", 202, "n", n)
			}
		})
	}
}
