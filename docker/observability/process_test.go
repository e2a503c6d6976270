package observability_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds what takes seconds, on a machine that others keep busy.
const patience = 2 * time.Minute

// folder is where the programs are, built once.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "observability"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

var build = sync.OnceValue(func() error {
	for _, c := range []struct{ module, pkg, name string }{{root, "./internal/testapp", "app"}, {root + "/examples/demo", "./service1", "service1"}} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(folder, c.name), c.pkg)
		cmd.Dir = c.module
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, text)
		}
	}
	return nil
})

// programs returns the folder of the template's app and of service1 of the demo.
func programs(t *testing.T) (dir string) {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return folder
}

// installed returns the path of a program of Debian's packages prometheus and prometheus-alertmanager. Only where nobody
// promised them the test is left out.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("no %s here, and CI is to install it", name)
	case runtime.GOOS != "linux":
		t.Skipf("no %s here: it comes with Prometheus and Alertmanager", name)
	default:
		t.Skipf("no %s here: apt-get install prometheus prometheus-alertmanager", name)
	}
	return path
}

// eventually polls for a state.
func eventually(t *testing.T, what string, reached func() bool, otherwise func() string) {
	t.Helper()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(patience); !reached(); <-look.C {
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v: %s", what, patience, otherwise())
		}
	}
}

// browser asks; a try that hangs is not waited for.
var browser = http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// process is a child, and what it printed.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when all is read and it has ended
	mu    sync.Mutex
	text  []string
}

func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.text = append(p.text, lines.Text())
			p.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, out) // a line that is too long ends the scanner
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(cmd.Path), strings.Join(p.text, "\n"))
		}
	})
	return p
}

// find waits for a line that is wanted.
func (p *process) find(t *testing.T, what string, wanted func(line string) bool) (found string) {
	t.Helper()
	eventually(t, what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, l := range p.text {
			if wanted(l) {
				found = l
				return true
			}
		}
		return false
	}, func() string { return "it printed no such line" })
	return found
}

// service is an app of the template that runs.
type service struct {
	*process
	data, url, metricsURL string
}

// record is a log line.
type record struct {
	Message   string `json:"msg"`
	Level     string `json:"level"`
	URL       string `json:"url"`
	ID        string `json:"id"`
	RequestID string `json:"request_id"`
	TraceID   string `json:"trace_id"`
	Stack     string `json:"stack"`
}

// start starts a program on free ports, and waits until it listens.
func start(t *testing.T, dir, name string, env ...string) *service {
	t.Helper()
	s := &service{data: t.TempDir()}
	cmd := exec.Command(filepath.Join(dir, name))
	cmd.Env = append([]string{"APP_NAME=" + name, "WEB_ADDR=127.0.0.1:0", "DATA_DIR=" + s.data, "LOG_FORMAT=json", "SYSLOG_ADDRESS=off", "PATH=" + os.Getenv("PATH")}, env...)
	s.process = launch(t, cmd)
	s.metricsURL = s.record(t, "serving metrics").URL
	s.url = s.record(t, "listening").URL
	return s
}

// record waits for a line with that message.
func (s *service) record(t *testing.T, message string) (r record) {
	t.Helper()
	s.find(t, fmt.Sprintf("the line %q", message), func(line string) bool {
		r = record{}
		return json.Unmarshal([]byte(line), &r) == nil && r.Message == message
	})
	return r
}

// stop ends the app as an operator does.
func (s *service) stop(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("it doesn't stop")
	}
}

// fetch returns the body of an answer.
func fetch(t *testing.T, url string) string {
	t.Helper()
	answer, err := browser.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *service) get(t *testing.T, path string) { t.Helper(); fetch(t, s.url+path) }

func (s *service) metrics(t *testing.T) string { t.Helper(); return fetch(t, s.metricsURL) }

// post sends an event, which must be taken.
func (s *service) post(t *testing.T, body string) {
	t.Helper()
	answer, err := browser.Post(s.url+"/events", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		t.Fatalf("want the event accepted, have %s", answer.Status)
	}
}

// ctl gives an order by the app's own command.
func (s *service) ctl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.cmd.Path, append([]string{"ctl"}, args...)...)
	cmd.Env = []string{"DATA_DIR=" + s.data, "SYSLOG_ADDRESS=off"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("app ctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}
