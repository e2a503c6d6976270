package queue_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
)

func TestAStartSaysInOneLineHowItWent(t *testing.T) {
	p := embedded(t)
	q := p.open(t)
	publish(t, q, makeSome("x", 3)...)
	end(t, q)
	var log logged
	p.open(t, func(o *queue.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); len(lines) != 1 || !strings.Contains(lines[0], `msg="queue: open" waiting=3 lost=0 interrupted=0 clean=true took=`) {
		t.Errorf("want one line, have %s", log.String())
	}
	var dump bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&dump, 1); err != nil || !strings.Contains(dump.String(), `"worker":"queue-server"`) {
		t.Errorf("want the server's goroutines labelled, have %v, %s", err, dump.String())
	}
}

func TestAfterACleanEndTheFilesAreNotReadAtTheStart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		p := embedded(t)
		q := p.open(t)
		publish(t, q, makeSome("x", 3)...)
		end(t, q)
		path := filepath.Join(p.dirs(), "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[at(data, "x1")+60] ^= 1 // who reads it sees this
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !clean {
			if err := os.WriteFile(filepath.Join(p.dirs(), "inflight"), bytes.Repeat([]byte(" "), 192), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log logged
		q = p.open(t, log.into)
		if log.has("lost records") == clean {
			t.Errorf("clean %v: want the files read or not, have %s", clean, log.String())
		}
		ack(t, q, nextID(t, q, "x0", 1))
	}
}

// A server that came too late is ended, and keeps the folder's lock until then.
func TestAnOpenThatIsInterruptedLeavesNothingBehind(t *testing.T) {
	for _, clean := range []bool{true, false} {
		p := embedded(t)
		q := p.open(t)
		publish(t, q, makeSome("x", 3)...)
		end(t, q)
		if !clean {
			if err := os.WriteFile(filepath.Join(p.dirs(), "inflight"), bytes.Repeat([]byte(" "), 192), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if q, err := queue.Open(ctx, p.options()); fault.Of(err) != fault.KindDependency {
			t.Errorf("want a dependency's error, have %v", err)
			if err == nil {
				end(t, q)
			}
		}
		until(t, "the folder is free again", func() bool {
			var err error
			q, err = tryOpen(p.options())
			return err == nil
		})
		for _, e := range makeSome("x", 3) {
			ack(t, q, nextID(t, q, e.ID, 1))
		}
		end(t, q)
	}
}
