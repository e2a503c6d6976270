package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
)

func TestThePanicButton(t *testing.T) {
	p := start(t, folder(t), "--", "puppet", "pid:pids", "beat:100ms", "catch:0", "say:ready", "hang")
	p.ready()
	first := p.life(1)
	if have, want := p.command(0, "kill", "--reason", "it sends \x1b[31mnonsense\n"), fmt.Sprintf("killed pid %d\n", first); have != want {
		t.Errorf("want %q, have %q", want, have)
	}
	p.life(2)
	p.await(`Order to execute: it sends \[31mnonsense`)
	p.await(`Error = Killed by order: it sends \[31mnonsense, 137 \(SIGKILL\)`)
	if r := p.reportOf(1); r.Reason != aberrant || r.Cause != "Killed by order: it sends [31mnonsense" || r.PID != first || r.OOM {
		t.Errorf("have %s", &r)
	}
	if alive(first) {
		t.Error("two copies are alive")
	}
	if s := p.status(); s.Reasons[aberrant] != 1 || s.Restarts != 1 || s.State != "running" || s.PID != p.life(2) {
		t.Errorf("have %+v", s)
	}
	p.await(`(?s)ready.*ready`)
	if out := p.command(0, "dump"); !strings.Contains(out, "asked pid") {
		t.Errorf("have %q", out)
	}
	p.await("caught user defined signal 1")
	if out := p.command(0, "status"); !strings.Contains(out, "1: dying 0, never dying 0, aberrant 1") {
		t.Errorf("have %q", out)
	}
	if out := p.command(0, "stop", "--reason", "enough"); !strings.Contains(out, "stopping pid") {
		t.Errorf("have %q", out)
	}
	p.await("Order to stop: enough")
	p.exits(0)
}

func TestADumpDoesNotKillWhatDoesNotKnowTheSignal(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "sleep", "1000")
	p.await("Running")
	if out := p.command(64, "dump"); !strings.Contains(out, "does not handle USR1") {
		t.Errorf("have %q", out)
	}
	if s := p.status(); s.Restarts != 0 || s.State != "running" {
		t.Errorf("have %+v", s)
	}
}

func TestAnOrderWithoutAMonitorEndsAtOnce(t *testing.T) {
	p := &proc{t: t, dir: folder(t)}
	for _, what := range []string{"kill", "stop", "dump", "status"} {
		begin := time.Now()
		if out := p.command(69, what); !strings.Contains(out, "no monitor answers there") {
			t.Errorf("have %q", out)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
}

func TestAnOrderToAMonitorThatIsStoppedEndsInTime(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "say:ready", "hang")
	p.ready()
	p.signal(syscall.SIGSTOP)
	begin := time.Now()
	p.command(69, "kill", "--timeout", "0.1")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestTheSocketsAreTheOwnersAlone(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "say:ready", "hang")
	p.ready()
	for _, f := range []string{"heartbeat", "command", "command.ctl"} {
		info, err := os.Lstat(filepath.Join(p.dir, f))
		if err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s: want a socket with 0600, have %v, %v", f, info.Mode(), err)
		}
	}
}

func TestAFolderThatIsMadeForTheSocketsIsTheOwnersAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "tcp://" + l.Addr().String()
	l.Close()
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "-t", "0", "-b", "ipc://run/monitor/heartbeat", "-c", addr, "--token-file", "token", "--data-dir", "mine", "--", "puppet", "say:ready", "hang")
	p.ready()
	for _, f := range []string{"run", "run/monitor", "mine"} { // the last one has the socket of the acknowledged orders
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o700 {
			t.Errorf("%s: want a folder with 0700, have %v", f, info.Mode())
		}
	}
}

func TestAKillWithoutAReasonSaysSo(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "pid:pids", "say:ready", "hang")
	p.ready()
	p.command(0, "kill", "--reason", " ")
	p.life(2)
	p.await(`Order to execute: no reason given\n`)
	if r := p.reportOf(1); r.Cause != "Killed by order: no reason given" {
		t.Errorf("have %s", &r)
	}
}

// Over tcp everybody on the machine can connect, so an order begins with the token.
func TestOverTCPAnOrderNeedsTheToken(t *testing.T) {
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "tcp://" + l.Addr().String()
	l.Close()
	p := start(t, dir, "-t", "0", "-c", addr, "--token-file", "token", "--", "puppet", "pid:pids", "say:ready", "hang")
	p.ready()
	push, err := zmq.NewContext(zmq.Options{}).Connect(t.Context(), zmq.Push, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close()
	for _, msg := range []string{"", "sesam", "open sesame", "Sesame now"} {
		if err := push.Send(t.Context(), []byte(msg)); err != nil {
			t.Fatal(err)
		}
	}
	if err := push.Send(t.Context(), []byte("sesame the right one")); err != nil {
		t.Fatal(err)
	}
	p.await("Order to execute: the right one\n")
	p.life(2)
	if n := strings.Count(p.log(), "Order to execute"); n != 1 {
		t.Errorf("want one order, have %d:\n%s", n, p.log())
	}
	p.command(0, "-c", addr, "stop") // the acknowledged ones have a socket in the data folder
	p.exits(143)
}

// The original's clients, with Debian's pyzmq: PUSH of an empty message to either address.
func TestTheOriginalsPythonClients(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import zmq").Run() != nil {
		t.Skip("python3-zmq is not installed: the original's clients can't be tried")
	}
	dir := folder(t)
	for name, text := range map[string]string{
		"worker.py": `
import os, sys, time, zmq
sock = zmq.Context().socket(zmq.PUSH)
sock.connect('ipc://heartbeat')
print('[worker] life', os.environ['MONITOR_RESTARTS'], flush=True)
for i in range(10 if os.environ['MONITOR_RESTARTS'] == '0' else 10**6):
    time.sleep(0.1)
    sock.send(b'')
print('[worker] Enough ...', flush=True)
time.sleep(1000)
`,
		"cmd_kill.py": `
import zmq
def kill(): # what it returns from is closed in order, and waits for the message to be gone
    context = zmq.Context()
    sock = context.socket(zmq.PUSH)
    sock.connect('ipc://command')
    sock.send(b'')
kill()
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, dir, "-v", "-t", "1", "--startup-grace", "20", "--", python, "worker.py")
	p.await(`Got heartbeat`)
	p.await(`(?s)\[worker\] Enough.*Missing a timeout \.\.\..*Missing a timeout \.\.\..*Killing off the process \.\.\.`)
	p.await(`Error = Missed 2 heartbeats, 131 \(SIGQUIT\)`)
	p.await(`(?s)\[worker\] life 1.*Got heartbeat`)
	kill := exec.Command(python, "cmd_kill.py")
	kill.Dir = dir
	if out, err := kill.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.await(`Order to execute`)
	p.await(`Error = Killed by order, 137 \(SIGKILL\)`)
	p.await(`\[worker\] life 2`)
	p.signal(syscall.SIGTERM)
	p.exits(143)
}

// Garbage, floods, huge frames and silent clients change nothing.
func TestHostileClientsChangeNothing(t *testing.T) {
	p := start(t, folder(t), "-t", "2", "--", "puppet", "pid:pids", "beat:50ms", "catch:0", "say:ready", "hang")
	p.ready()
	first := p.life(1)
	eventually(t, "beats", func() bool { return p.status().Beats > 0 })
	small := resident(t, p.cmd.Process.Pid)
	var conns []net.Conn
	greeting := append(append([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0}, []byte("NULL")...), make([]byte, 48)...)
	for _, addr := range []string{"heartbeat", "command", "command.ctl"} {
		for _, first := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 1<<16), greeting[:10], greeting,
			append(bytes.Clone(greeting), 0x06, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)} {
			for range 5 {
				c, err := net.DialTimeout("unix", filepath.Join(p.dir, addr), patience)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = c.Write(first)
				conns = append(conns, c)
			}
		}
	}
	sockets := zmq.NewContext(zmq.Options{})
	push, err := sockets.Connect(t.Context(), zmq.Push, "ipc://"+p.dir+"/heartbeat")
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close()
	for i := range 20000 { // none is from the program, so none counts
		msg := []byte(fmt.Sprintf("beat pid=%d n=1 phase=running", first+1+i%7))
		if i%3 == 0 {
			msg = []byte("beat me")
		}
		if err := push.Send(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	_ = push.Send(t.Context(), make([]byte, 1<<20))
	before := p.status().Beats
	eventually(t, "the program's beats go on", func() bool { return p.status().Beats > before+5 })
	s := p.status()
	if s.PID != first || s.Restarts != 0 {
		t.Errorf("have %+v\n%s", s, p.log())
	}
	grown := resident(t, p.cmd.Process.Pid)
	if grown > small+40<<10 { // the race detector multiplies what a connection takes
		t.Errorf("the monitor has grown from %d to %d KiB", small, grown)
	}
	t.Logf("%d hostile connections, %d KiB resident before, %d KiB with them", len(conns), small, grown)
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// A flood of orders is no busy loop: those for one life count once, and restarts pause.
func TestAFloodOfOrdersDoesNotEndTheMonitor(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--budget", "2/60s", "--backoff", "0.2", "--", "puppet", "pid:pids", "catch:0", "say:ready", "hang")
	p.ready()
	push, err := zmq.NewContext(zmq.Options{}).Connect(t.Context(), zmq.Push, "ipc://"+p.dir+"/command")
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close()
	for range 10000 {
		if err := push.Send(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	p.life(2)
	if n := p.status().Restarts; n > 5 {
		t.Errorf("%d restarts", n)
	}
	eventually(t, "it runs", func() bool { return p.status().State == "running" })
}

func resident(t testing.TB, pid int) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}
