package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// monitorAt counts heartbeats, as a monitor would take them.
func monitorAt(t *testing.T) (addr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nw")
	if err != nil {
		t.Fatal(err)
	}
	addr = "ipc://" + filepath.Join(dir, "heartbeat")
	s, err := zmq.NewContext(zmq.Options{}).Bind(t.Context(), zmq.Pull, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); os.RemoveAll(dir) })
	return addr
}

func TestTheSameSeedDoesTheSame(t *testing.T) {
	addr := monitorAt(t)
	for seed, want := range map[string]struct {
		code int
		last string
	}{
		"18725": {255, "Randomly crashing ..."}, // the one of docs/monitor.md
		"1":     {0, "Enough work ..."},
	} {
		t.Setenv("MONITOR_RESTARTS", "0")
		var first, second bytes.Buffer
		args := []string{"--seed", seed, "--longest", "1us", "--addr", addr}
		code := run(args, &first)
		if again := run(args, &second); code != want.code || again != code || work(&first) != work(&second) {
			t.Errorf("seed %s: want %d, have %d and %d:\n%s\n%s", seed, want.code, code, again, &first, &second)
		}
		if !strings.HasSuffix(strings.TrimSpace(first.String()), want.last) {
			t.Errorf("seed %s: want %q, have %s", seed, want.last, &first)
		}
	}
}

// work is what the worker said of its work. Whether the monitor answered in time is the machine's doing.
func work(out *bytes.Buffer) string {
	var b strings.Builder
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "No monitor") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A monitor that did not answer at first gets the beats once it does.
func TestAMonitorThatComesLateHearsIt(t *testing.T) {
	dir, err := os.MkdirTemp("", "nw")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addr := "ipc://" + filepath.Join(dir, "heartbeat")
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"--seed", "744", "--longest", "1us", "--addr", addr}, w) // it lives for 23 turns
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() || !strings.Contains(lines.Text(), "No monitor") {
		t.Fatalf("have %q", lines.Text())
	}
	s, err := zmq.NewContext(zmq.Options{}).Bind(t.Context(), zmq.Pull, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	heard := make(chan error, 1)
	go func() { _, err := s.Recv(t.Context()); heard <- err }()
	for lines.Scan() { // it goes on only as it is read
	}
	if code := <-done; code != 0 {
		t.Errorf("want 0, have %d", code)
	}
	select {
	case err := <-heard:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no beat came")
	}
}

func TestItWorksWithoutAMonitor(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"--seed", "18725", "--longest", "1us", "--addr", "ipc://" + t.TempDir() + "/nobody"}, &out); code != exitCrash {
		t.Errorf("want %d, have %d: %s", exitCrash, code, &out)
	}
	if !strings.Contains(out.String(), "No monitor") {
		t.Errorf("have %s", &out)
	}
}

func TestABadFlagIsABadCommandLine(t *testing.T) {
	if code := run([]string{"--colour"}, &bytes.Buffer{}); code != 64 {
		t.Errorf("want 64, have %d", code)
	}
}
