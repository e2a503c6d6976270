//go:build long

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A signal may come at any moment of the start. It ends the process in time, with code 0, or by the signal itself
// before main has taken it over; and it leaves nothing behind that is in the next start's way.
func TestASignalAtAnyMomentOfTheStartEndsCleanly(t *testing.T) {
	rounds, hands := 300, 3
	if testing.Short() {
		rounds = 30
	}
	longest := startTime(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[string]int{}
	for hand := range hands {
		dir := t.TempDir()
		wg.Go(func() {
			for i := hand; i < rounds && !t.Failed(); i += hands {
				how := signalAtStart(t, dir, []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[i/hands%2], rand.N(longest*3/2))
				mu.Lock()
				count[how]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d signals within %v of the start: %v", rounds, longest*3/2, count)
}

// startTime measures how long a start takes here and now.
func startTime(t *testing.T) time.Duration {
	cmd := command(t, t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), `"msg":"started"`) {
	}
	took := time.Since(began)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, stdout)
	if status := end(t, cmd, &bytes.Buffer{}); status.ExitStatus() != 0 {
		t.Fatalf("want exit 0, have %v", status)
	}
	return took
}

func signalAtStart(t *testing.T, dir string, s syscall.Signal, after time.Duration) (how string) {
	var out bytes.Buffer
	cmd := command(t, dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return "not started"
	}
	<-time.After(after)
	_ = cmd.Process.Signal(s)
	sent := time.Now()
	status := end(t, cmd, &out)
	if took := time.Since(sent); took > 5*time.Second {
		t.Errorf("%v after %v: the end took %v:\n%s", s, after, took, &out)
	}
	switch {
	case status.Signaled() && status.Signal() == s && out.Len() == 0:
		how = "killed before main"
	case status.Exited() && status.ExitStatus() == 0:
		how = "stopped cleanly"
		if last, err := os.ReadFile(filepath.Join(dir, "data", "last_exit.json")); err != nil || !bytes.Contains(last, fmt.Appendf(nil, `"pid": %d,`, cmd.Process.Pid)) {
			t.Errorf("%v after %v: want this run's last exit saved, have %s, %v", s, after, last, err)
		}
	default:
		t.Errorf("%v after %v: want exit 0, or the signal before the first output, have %v:\n%s", s, after, status, &out)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "data", "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, "data", ".*"))
	queued, _ := filepath.Glob(filepath.Join(dir, "data", "queue", "*"))
	for _, path := range append(append(left, hidden...), queued...) {
		switch filepath.Base(path) {
		case "lock", "last_exit.json", "crashes", "queue", "jetstream":
		case "inflight":
			if text, err := os.ReadFile(path); err != nil || len(bytes.TrimSpace(text)) > 0 && string(bytes.TrimSpace(text)) != "clean" {
				t.Errorf("%v after %v: want nothing in %s, have %s, %v", s, after, path, bytes.TrimSpace(text), err)
			}
		default:
			t.Errorf("%v after %v: %s was left behind:\n%s", s, after, path, &out)
		}
	}
	return how
}
