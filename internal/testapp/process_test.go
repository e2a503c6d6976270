package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
	cmd := command(t, t.TempDir())
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
		{"oversize", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, "", 413, ""},
		{"wrong type", `{}`, "Content-Type:text/plain", 415, "application/json"},
		{"id with a space", `{"id":"a b"}`, "", 400, "id"},
		{"id is a number", `{"id":7}`, "", 400, "id"},
		{"id is null", `{"id":null}`, "", 400, "id"},
		{"id too long", `{"id":"` + strings.Repeat("x", 200) + `"}`, "", 400, "id"},
		{"id is an object", `{"id":{}}`, "", 400, "id"},
		{"type is a number", `{"type":7}`, "", 400, "the member \"type\" is not a string"},
		{"type is null", `{"type":null}`, "", 400, "type"},
		{"type too long", `{"type":"` + strings.Repeat("x", 300) + `"}`, "", 400, "at most 255 bytes"},
		{"type with a newline", `{"type":"a\nb"}`, "", 400, "control"},
		{"no type", `{}`, "", 422, `"order.created", "order.paid"`},
		{"a type that nobody handles", `{"type":"order.cancelled"}`, "", 422, `no handler takes events of the type "order.cancelled"`},
		{"a type of the template's", `{"type":"base.nothing"}`, "", 422, "no handler"},
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
		req, err := http.NewRequest(http.MethodPost, base+"/events", strings.NewReader(`{"id":"`+id+`","ID":5,"type":"order.created","Type":7}`))
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
