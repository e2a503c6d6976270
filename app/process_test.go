package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/control"
)

// command returns the program, not started, with a data folder of its own.
func command(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("app")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off", "GORACE=" + noRaceSleep}, env...)...)
	return cmd
}

// end waits for the process; one that doesn't end is asked for its stacks.
func end(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer) syscall.WaitStatus {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	_ = cmd.Wait()
	if !late.Stop() {
		t.Fatalf("no end within %v:\n%s", patience, out)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

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
		answer, err := client.Post(url+"/events", "application/json", strings.NewReader(`{}`))
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
	cmd, url, _ := unread(t, dir, "broken", "LOG_LEVEL=debug", "APP_SAMPLE_EVENT=false", "HANDLER_TIMEOUT=300ms", "PROGRESS_DEADLINE=500ms")
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
		answer, err := http.Post(url+"/events", "application/json", strings.NewReader(`{}`))
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

// The control socket answers from the first moment on, while the rest is still being built.
func TestTheStateCanBeAskedForWhileStarting(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		var out bytes.Buffer
		cmd := command(t, dir)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		client := control.NewClient(filepath.Join(dir, "data", "control.sock"))
		answered := 0
		for deadline := time.Now().Add(patience); answered < 20 && time.Now().Before(deadline); {
			if client.Get(t.Context(), "/status", nil) == nil {
				answered++
			}
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if status := end(t, cmd, &out); status.ExitStatus() != 0 || answered < 20 { // a data race exits with 66
			t.Fatalf("want 20 answers and exit 0, have %d, %v:\n%s", answered, status, &out)
		}
	}
}

// What is no event is answered with a problem document, and the pipeline never sees it.
func TestBadInputIsRefusedAndNeverReachesThePipeline(t *testing.T) {
	var out bytes.Buffer
	cmd := command(t, t.TempDir(), "APP_SAMPLE_EVENT=false")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if m := regexp.MustCompile(`"url":"([^"]*)"`).FindStringSubmatch(lines.Text()); m != nil {
				url <- m[1]
			}
		}
	}()
	base := <-url
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for _, c := range []struct {
		name, body, header string
		status             int
		detail             string
	}{
		{"empty", "", "", 400, "empty"},
		{"not JSON", "hello", "", 400, ""},
		{"an array", `[{}]`, "", 400, "object"},
		{"two objects", `{}{}`, "", 400, ""},
		{"cut short", `{"a":`, "", 400, ""},
		{"duplicate key", `{"a":1,"a":2}`, "", 400, "a"},
		{"duplicate key, escaped", `{"a":1,"\u0061":2}`, "", 400, "a"},
		{"deeply nested", deep, "", 400, "deep"},
		{"not UTF-8", "{\"a\":\"\xff\xfe\"}", "", 400, ""},
		{"lone surrogate", `{"a":"\ud800"}`, "", 400, ""},
		{"oversize", `{"a":"` + strings.Repeat("x", maxEvent) + `"}`, "", 413, ""},
		{"wrong type", `{}`, "Content-Type:text/plain", 415, "application/json"},
		{"id with a space", `{"id":"a b"}`, "", 400, "id"},
		{"id is a number", `{"id":7}`, "", 400, "id"},
		{"id is null", `{"id":null}`, "", 400, "id"},
		{"id too long", `{"id":"` + strings.Repeat("x", 200) + `"}`, "", 400, "id"},
		{"id is an object", `{"id":{}}`, "", 400, "id"},
		{"two ids", `{"id":"a"}`, "Idempotency-Key:b", 400, "differ"},
		{"key with a dot", `{}`, "Idempotency-Key:a.b", 400, "id"},
	} {
		req, err := http.NewRequest(http.MethodPost, base+"/events", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if name, value, ok := strings.Cut(c.header, ":"); ok {
			req.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var p struct{ Detail, Request_ID string }
		err = json.NewDecoder(answer.Body).Decode(&p)
		answer.Body.Close()
		if answer.StatusCode != c.status || err != nil || !strings.Contains(p.Detail, c.detail) || p.Request_ID == "" ||
			answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: want %d with %q in a problem document with the request id, have %d, %+v, %v", c.name, c.status, c.detail, answer.StatusCode, p, err)
		}
	}
	// Headers that are merely passed on don't hurt, and "ID" is not "id".
	for i, header := range []string{"Baggage:\xff", "Traceparent:\xff", "Baggage:" + strings.Repeat("b", 20<<10), "Traceparent:00-x"} {
		id := fmt.Sprintf("sound-%d", i)
		name, value, _ := strings.Cut(header, ":")
		req, err := http.NewRequest(http.MethodPost, base+"/events", strings.NewReader(`{"id":"`+id+`","ID":5}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, name: {value}}
		if status, text := do(t, req); status != http.StatusAccepted {
			t.Errorf("%q: want it accepted, have %d: %s", header, status, text)
			continue
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			req, err := http.NewRequest(http.MethodGet, base+"/events/"+id, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, text := do(t, req); strings.Contains(text, `"processed"`) {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("%q: want it processed, have %s", header, text)
			}
		}
	}
	answer, err := http.Get(base + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if !bytes.Contains(text, []byte(`"accepted":4`)) || !bytes.Contains(text, []byte(`"status":"ok"`)) {
		t.Errorf("want only the four sound ones accepted and the app well, have %s", text)
	}
	if kib := residentOf(t, cmd.Process.Pid); kib > 200<<10 { // the race detector multiplies memory by five to ten
		t.Errorf("want its memory bounded, have %d KiB", kib)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-read
	if status := end(t, cmd, &out); status.ExitStatus() != 0 {
		t.Errorf("want exit 0, have %v", status)
	}
}

// do sends a request and returns the answer's status and text.
func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// residentOf returns the memory of a process in KiB.
func residentOf(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no VmRSS")
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
