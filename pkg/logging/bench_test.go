package logging_test

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"example.com/base-app/pkg/logging"
)

func bench(b *testing.B, o logging.Options, record func(*slog.Logger, int)) {
	o.App, o.Device, o.Version, o.Commit, o.Deployment, o.Out = "shop", "pi", "1.2.3", "abc123", "d7", io.Discard
	if o.Syslog == "" {
		o.Syslog = "off"
	}
	l, err := logging.New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close(b.Context())
	l.Started()
	log := l.Logger().With("component", "bench")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		record(log, i)
	}
}

func different(l *slog.Logger, i int) { l.Info("event sold", "item", "a pen", "n", i, "ok", true) }
func same(l *slog.Logger, _ int)      { l.Info("event sold", "item", "a pen", "n", 1, "ok", true) }
func debug(l *slog.Logger, _ int)     { l.Debug("event sold", "item", "a pen") }

func BenchmarkJSON(b *testing.B)       { bench(b, logging.Options{Format: "json"}, different) }
func BenchmarkConsole(b *testing.B)    { bench(b, logging.Options{Format: "console"}, different) }
func BenchmarkDisabled(b *testing.B)   { bench(b, logging.Options{Format: "json"}, debug) }
func BenchmarkSuppressed(b *testing.B) { bench(b, logging.Options{Format: "json"}, same) }
func BenchmarkSampled(b *testing.B) {
	bench(b, logging.Options{Format: "json", Sample: 1000}, different)
}

func BenchmarkJSONAndSyslog(b *testing.B) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	bench(b, logging.Options{Format: "json", Syslog: "udp://" + conn.LocalAddr().String()}, different)
}

// BenchmarkPlainSlog is the yardstick: slog.JSONHandler with the same fields and nothing of ours.
func BenchmarkPlainSlog(b *testing.B) {
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)).With("app", "shop", "worker", "main", "device", "pi",
		"version", "1.2.3", "commit", "abc123", "deployment", "d7", "component", "bench")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		different(log, i)
	}
}
