//go:build e2e

// Package e2e tests the container the way its users break it: with a real engine, real compose, real supervisord and
// cron, kill -9 from inside, and, where a tool can play it, a power cut and a reboot of the host. Run it with make e2e.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	root = "../.."
	// patience bounds every wait for something that takes seconds.
	patience = 90 * time.Second
	// commandTime bounds one command; the longest is a stop with its grace.
	commandTime = 2 * time.Minute
	// The two images under test: of the small fork that all tests of the template drive, and of one that doesn't end.
	image, stubborn = "base-app:e2e", "base-app:e2e-stubborn"
)

func TestMain(m *testing.M) {
	if err := exec.Command("docker", "version").Run(); err != nil {
		fmt.Println("no Docker engine answers, and these tests need one")
		os.Exit(1)
	}
	for image, pkg := range map[string]string{image: "./internal/testapp", stubborn: "./docker/e2e/stubborn"} {
		cmd := exec.Command("docker", "build", "-q", "--build-arg", "PACKAGE="+pkg, "--build-arg", "VERSION=e2e", "-t", image, root)
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Printf("the image can't be built: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// stack is one compose project, gone at the end of its test.
type stack struct {
	t     *testing.T
	name  string
	dir   string // the project's folder, where .env is looked for; empty: the repository
	files []string
	env   []string
	port  string
}

// newStack prepares a project with the given overlay, which may be empty. IMAGE chooses the image.
func newStack(t *testing.T, overlay string, env ...string) *stack {
	t.Helper()
	s := &stack{t: t, name: "e2e-" + strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]`).ReplaceAllString(t.Name(), "")), port: freePort(t)}
	s.files = []string{filepath.Join(root, "docker-compose.yml")}
	if overlay != "" {
		path := filepath.Join(t.TempDir(), "overlay.yml")
		if err := os.WriteFile(path, []byte(overlay), 0o644); err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, path)
	}
	s.env = append(append(os.Environ(), "IMAGE="+image, "HOST_PORT="+s.port), env...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the container's log:\n%s", tail(s.logs(), 40))
		}
		_, _ = s.try("compose", "down", "-v", "-t", "1")
	})
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// try runs docker, or docker compose for this project, and returns what it printed.
func (s *stack) try(args ...string) (string, error) {
	if args[0] == "compose" {
		full := []string{"compose", "-p", s.name}
		if s.dir != "" {
			full = append(full, "--project-directory", s.dir)
		}
		for _, f := range s.files {
			full = append(full, "-f", f)
		}
		args = append(full, args[1:]...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *stack) docker(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// up starts the container and waits until it is healthy.
func (s *stack) up() {
	s.t.Helper()
	s.docker("compose", "up", "-d", "--no-build", "--wait")
}

func (s *stack) id() string {
	s.t.Helper()
	return s.docker("compose", "ps", "-aq", "app")
}

// inspect formats a field of the container.
func (s *stack) inspect(format string) string {
	s.t.Helper()
	return s.docker("inspect", "-f", format, s.id())
}

// inside runs a command in the container.
func (s *stack) inside(args ...string) string {
	s.t.Helper()
	return s.docker(append([]string{"compose", "exec", "-T", "app"}, args...)...)
}

// logs returns what the container has printed, all its lives long; compose's own command would add control characters.
func (s *stack) logs() string {
	id, _ := s.try("compose", "ps", "-aq", "app")
	out, _ := s.try("logs", strings.TrimSpace(id))
	return out
}

// tail returns the last lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// until waits for something to become true.
func (s *stack) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// awaitLog waits until text stands in the log at least n times.
func (s *stack) awaitLog(text string, n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%q in the log, %d times", text, n), func() bool { return strings.Count(s.logs(), text) >= n })
}

func (s *stack) url(path string) string { return "http://127.0.0.1:" + s.port + path }

var client = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// request sends a request and returns the status, 0 if there was no answer.
func (s *stack) request(method, path, body string) (int, string) {
	req, err := http.NewRequest(method, s.url(path), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// process posts an event, again and again until it is accepted, and waits until it is processed.
func (s *stack) process(id string) {
	s.t.Helper()
	s.until("event "+id+" accepted", func() bool {
		status, _ := s.request("POST", "/events", `{"type":"order.created","id":"`+id+`"}`)
		return status == 202
	})
	s.until("event "+id+" processed", func() bool {
		_, text := s.request("GET", "/events/"+id, "")
		return strings.Contains(text, `"processed"`)
	})
}

// pid returns the process id, inside the container, of a process whose command line begins with text.
func (s *stack) pid(text string) string {
	s.t.Helper()
	for line := range strings.Lines(s.inside("sh", "-c", `for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr '\0' ' ' <$p/cmdline 2>/dev/null)"; done`)) {
		id, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(command, text) {
			return id
		}
	}
	s.t.Fatalf("no process %s", text)
	return ""
}

// hostPIDs returns the process ids, on the host, of the processes whose command line begins with text.
func (s *stack) hostPIDs(text string) (pids []int) {
	s.t.Helper()
	for line := range strings.Lines(s.docker("top", s.id(), "-eo", "pid,args")) {
		id, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(id); err == nil && strings.HasPrefix(strings.TrimSpace(command), text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

const (
	theApp        = "/usr/local/bin/app"
	theMonitor    = "/usr/local/bin/monitor"
	theCron       = "/usr/local/bin/supercronic"
	theListener   = "/usr/local/bin/listener"
	theSupervisor = "/usr/bin/python3 /usr/bin/supervisord"
)

func (s *stack) kill(signal, text string) {
	s.t.Helper()
	out, err := s.try("compose", "exec", "-T", "app", "sh", "-c", "kill -"+signal+" "+s.pid(text))
	if err != nil && text != theSupervisor { // with which the container may be gone before the shell has ended
		s.t.Fatalf("kill -%s %s: %v: %s", signal, text, err, out)
	}
}

// restarted waits until the container was started anew, and is healthy, and returns how often docker restarted it.
func (s *stack) restarted(before string) {
	s.t.Helper()
	s.until("the container starts anew", func() bool {
		return s.inspect("{{.State.StartedAt}}") != before && s.inspect("{{.State.Running}}") == "true"
	})
	s.until("healthy again", func() bool { return s.inspect("{{.State.Health.Status}}") == "healthy" })
}

// lastExit reads last_exit.json from the volume, whether the container runs or not.
func (s *stack) lastExit() (e struct {
	Code  int
	Cause string
	Clean bool
}) {
	s.t.Helper()
	text := s.docker("run", "--rm", "--entrypoint", "cat", "-v", s.name+"_data:/data", image, "/data/last_exit.json")
	if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&e); err != nil {
		s.t.Fatalf("last_exit.json: %v in %s", err, text)
	}
	return e
}
