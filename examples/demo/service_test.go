package demo_test

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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what takes a fraction of it, on a machine with nothing else to do.
const patience = 60 * time.Second

// programs are built once, into a folder that TestMain removes.
var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "demo"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "./service1", "./service2", "./load")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, text)
	}
	return dir, nil
})

func build(t *testing.T) (dir string) {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// service is one that runs, and what it logged.
type service struct {
	name  string
	url   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when all is read and it has ended

	mu   sync.Mutex
	logs []line
}

// line is a log record.
type line struct {
	Message   string `json:"msg"`
	Level     string `json:"level"`
	App       string `json:"app"`
	RequestID string `json:"request_id"`
	TraceID   string `json:"trace_id"`
	URL       string `json:"url"`
	Subject   string `json:"subject"`
	Stack     string `json:"stack"`
	text      string
}

// start starts a service on a free port, and waits until it listens.
func start(t *testing.T, dir, name string, env ...string) *service {
	t.Helper()
	s := &service{name: name, ended: make(chan struct{}), cmd: exec.Command(filepath.Join(dir, name))}
	s.cmd.Env = append([]string{"APP_NAME=" + name, "WEB_ADDR=127.0.0.1:0", "DATA_DIR=" + t.TempDir(), "LOG_FORMAT=json", "SYSLOG_ADDRESS=off",
		"PATH=" + os.Getenv("PATH")}, env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		s.read(out)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if t.Failed() {
			t.Logf("%s logged:\n%s", name, s.text())
		}
	})
	s.url = s.find(t, "the address", func(l line) bool { return l.Message == "listening" }).URL
	return s
}

func (s *service) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		l := line{text: lines.Text()}
		_ = json.Unmarshal(lines.Bytes(), &l) // what is no record has only its text
		s.mu.Lock()
		s.logs = append(s.logs, l)
		s.mu.Unlock()
	}
}

// lines returns the lines so far that are wanted.
func (s *service) lines(want func(line) bool) (list []line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		if want(l) {
			list = append(list, l)
		}
	}
	return list
}

func (s *service) text() string {
	var b strings.Builder
	for _, l := range s.lines(func(line) bool { return true }) {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

// find waits for a line.
func (s *service) find(t *testing.T, what string, want func(line) bool) (l line) {
	t.Helper()
	eventually(t, s.name+" logs "+what, func() bool {
		list := s.lines(want)
		if len(list) > 0 {
			l = list[0]
		}
		return len(list) > 0
	})
	return l
}

// of returns what a service logs of one request, once that is over.
func (s *service) of(t *testing.T, requestID string) []line {
	t.Helper()
	ours := func(l line) bool { return l.RequestID == requestID }
	s.find(t, "the end of request "+requestID, func(l line) bool { return ours(l) && l.Message == "request" })
	return s.lines(ours)
}

// stop ends the service as an operator does.
func (s *service) stop(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatalf("%s does not stop", s.name)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s: want exit code 0, have %d", s.name, code)
	}
}

// answer is one.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *service) ask(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	return s.askURL(t, method, s.url+path, body, header...)
}

// metrics are what Prometheus is told, with exemplars.
func (s *service) metrics(t *testing.T) string {
	t.Helper()
	url := s.find(t, "where its metrics are", func(l line) bool { return l.Message == "serving metrics" }).URL
	return s.askURL(t, "GET", url, "", "Accept: application/openmetrics-text; version=1.0.0").body
}

func (s *service) askURL(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s %s: %v", s.name, method, url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(bytes.TrimSpace(text))}
}

// get returns the status of path.
func (s *service) get(t *testing.T, path string) int {
	t.Helper()
	return s.ask(t, "GET", path, "").status
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ask(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
