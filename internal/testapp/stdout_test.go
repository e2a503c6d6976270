//go:build long

package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unread starts a program whose standard output is read until it has started, and then no more. clog posts events until
// the pipe (64 KiB, a hundred debug lines) is full and the workers hang in it: several have no answer in a row then, which
// on a slow machine one may have for other reasons.
func unread(t *testing.T, dir, program string, env ...string) (cmd *exec.Cmd, url string, stdout io.Closer) {
	t.Helper()
	cmd = command(t, dir, env...)
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = path
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), `"msg":"started"`) {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	return cmd, url, out
}

func clog(url string) {
	client := http.Client{Timeout: 500 * time.Millisecond}
	for failed, late := 0, time.Now().Add(patience); failed < 3 && time.Now().Before(late); {
		answer, err := client.Post(url+"/events", "application/json", strings.NewReader(`{"type":"order.created"}`))
		if failed++; err == nil {
			failed = 0
			answer.Body.Close()
		}
	}
}

// A standard output that nobody reads any more blocks every worker that logs, and whoever asked for a dump. The
// shutdown still ends, explained in the data folder, with 70.
func TestAStandardOutputThatNobodyReadsDoesNotHoldUpTheEnd(t *testing.T) {
	dir := t.TempDir()
	cmd, url, _ := unread(t, dir, "app", "LOG_LEVEL=debug", "SHUTDOWN_GRACE=200ms")
	clog(url)
	_ = cmd.Process.Signal(syscall.SIGUSR1)
	dumps := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			list, _ := filepath.Glob(filepath.Join(dir, "data", "dumps", "*.txt"))
			if len(list) == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("want %d dumps in the data folder, have %q", n, list)
			}
		}
	}
	dumps(1)
	began := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	status := end(t, cmd, &bytes.Buffer{})
	if took := time.Since(began); status.ExitStatus() != 70 || took < 5*time.Second || took > 8*time.Second {
		t.Errorf("want exit 70 after 5.2 s and the last words, have %v after %v", status, took)
	}
	dumps(2)
	last, err := os.ReadFile(filepath.Join(dir, "data", "last_exit.json"))
	if err != nil || !bytes.Contains(last, []byte(`"code": 70`)) {
		t.Errorf("want code 70 in last_exit.json, have %s, %v", last, err)
	}
}

func TestAStuckWorkerEndsTheProcessThoughNobodyReadsTheLog(t *testing.T) {
	dir := t.TempDir()
	cmd, url, _ := unread(t, dir, "broken", "LOG_LEVEL=debug", "HANDLER_TIMEOUT=300ms", "PROGRESS_DEADLINE=500ms")
	clog(url)
	status := end(t, cmd, &bytes.Buffer{}) // the relay or the processor hangs in the log
	if status.ExitStatus() != 1 {
		t.Errorf("want exit 1, have %v", status)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "data", "dumps", "*.txt")); len(list) != 1 {
		t.Errorf("want a dump in the data folder, have %q", list)
	}
}

// Whoever read the log is gone: the app outlives it.
func TestALogThatIsGoneIsOutlived(t *testing.T) {
	dir := t.TempDir()
	cmd, url, stdout := unread(t, dir, "app", "LOG_LEVEL=debug")
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		answer, err := http.Post(url+"/events", "application/json", strings.NewReader(`{"type":"order.created"}`))
		if err != nil || answer.StatusCode != http.StatusAccepted {
			t.Fatalf("event %d: want it accepted, have %v, %v", i, answer, err)
		}
		answer.Body.Close()
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if status := end(t, cmd, &bytes.Buffer{}); status.ExitStatus() != 0 {
		t.Errorf("want exit 0, have %v", status)
	}
	if last, err := os.ReadFile(filepath.Join(dir, "data", "last_exit.json")); err != nil || !bytes.Contains(last, []byte(`"code": 0`)) {
		t.Errorf("want a clean end, have %s, %v", last, err)
	}
}

// The data folder may be on a disk that is gone, the log's pipe full from the first line on.
func TestAStartThatHangsCanBeEnded(t *testing.T) {
	dir := t.TempDir()
	crashes := filepath.Join(dir, "data", "crashes")
	if err := os.MkdirAll(crashes, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(crashes, "running.txt"), 0o600); err != nil { // opening it hangs
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := command(t, dir, "SHUTDOWN_GRACE=100ms")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "data", "control.sock")); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	began := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	status := end(t, cmd, &out)
	if took := time.Since(began); status.ExitStatus() != 70 || took > 8*time.Second {
		t.Errorf("want exit 70 after 5.1 s, have %v after %v:\n%s", status, took, &out)
	}
}
