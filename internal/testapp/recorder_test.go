package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/event"
)

// handledFile is where the program `recording` notes each event that it has handled; it outlives the process.
const handledFile = "handled"

// runRecording runs the app with a handler that notes what it has handled.
func runRecording(rt *base.Runtime, _ *config) error {
	f, err := os.OpenFile(handledFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return runWith(rt, func(_ context.Context, e event.Event) error {
		_, err := f.WriteString(e.ID + "\n")
		return err
	})
}

// recorder is the app at one address and in one folder, through many lives.
type recorder struct {
	t    *testing.T
	dir  string
	env  []string
	addr string
	path string

	cmd   *exec.Cmd
	ended chan struct{}
}

func newRecorder(t *testing.T, dir string, env ...string) *recorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path, err := exec.LookPath("recording")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, dir: dir, addr: l.Addr().String(), path: path}
	r.env = append(append(os.Environ(), "WEB_ADDR="+r.addr, "SYSLOG_ADDRESS=off", "LOG_LEVEL=warn", "WEB_RATE=0", "GORACE="+noRaceSleep), env...)
	t.Cleanup(func() { r.kill() })
	return r
}

func (r *recorder) start() {
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.cmd, r.ended = exec.Command(r.path), make(chan struct{})
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.dir, r.env, log, log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.ended) }()
}

// log is what the last life said.
func (r *recorder) log() string {
	text, _ := os.ReadFile(filepath.Join(r.dir, "log"))
	return string(text)
}

func (r *recorder) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// stop ends it in order.
func (r *recorder) stop() {
	r.t.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Signal(syscall.SIGQUIT) })
	<-r.ended
	if code := r.cmd.ProcessState.ExitCode(); !late.Stop() || code != 0 {
		r.t.Errorf("want exit 0 in time, have %d:\n%s", code, r.log())
	}
}

func (r *recorder) get(path string) (int, string) {
	answer, err := http.Get("http://" + r.addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// ready waits until the app takes events.
func (r *recorder) ready() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		status, text := r.get("/readyz")
		if status == http.StatusOK {
			return
		}
		select {
		case <-r.ended:
			r.t.Fatalf("it ended instead of getting ready:\n%s", r.log())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not ready: %d %s\n%s", status, text, r.log())
		}
	}
}
