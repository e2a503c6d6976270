package zmq_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
)

const python = "/usr/bin/python3" // Debian's, for which there is python3-zmq

// pyzmq starts a script with the module zmq and a socket s that has ended when the test has.
func pyzmq(t *testing.T, script string, args ...string) *bufio.Scanner {
	t.Helper()
	if err := exec.Command(python, "-c", "import zmq").Run(); err != nil {
		t.Skip("no pyzmq for", python, "(apt-get install python3-zmq):", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := exec.CommandContext(ctx, python, append([]string{"-u", "-c", "import sys, zmq\nctx = zmq.Context()\n" + script}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	return bufio.NewScanner(out)
}

// loudContext returns a Context and what it logs, debug included.
func loudContext(t *testing.T) (*zmq.Context, *syncBuffer) {
	var log syncBuffer
	c := zmq.NewContext(zmq.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { end(c) })
	return c, &log
}

const libzmqMessages = 1000

func TestReceivesFromLibzmq(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		if name == "inproc" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, log := loudContext(t)
			pull := newSocket(t, c, t.Context(), zmq.Pull)
			bind(t, pull, ep)
			// It beats, as the old heartbeat wrapper does: empty messages, and ZMTP's own PING, whose answer it wants.
			pyzmq(t, `
s = ctx.socket(zmq.PUSH)
s.setsockopt(zmq.HEARTBEAT_IVL, 50)
s.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
s.connect(sys.argv[1])
for i in range(1000):
    s.send(b"")
    s.send(b"%d " % i + b"x" * i)
s.poll(1500)
s.send_multipart([b"two", b"parts"])
s.send(b"end")
`, pull.Endpoint())
			for i := range libzmqMessages {
				if have := recv(t, pull); have != "" {
					t.Fatalf("want an empty message, have %q", have)
				}
				want := fmt.Sprint(i, " ", strings.Repeat("x", i))
				if have := recv(t, pull); have != want {
					t.Fatalf("want %q, have %q", want, have)
				}
			}
			if have := recv(t, pull); have != "end" {
				t.Errorf("want end, have %q", have)
			}
			if have := info(c, zmq.Pull).Dropped; have != 1 {
				t.Errorf("dropped: want 1, have %d", have)
			}
			if have := strings.Count(log.String(), "peer connected"); have != 1 {
				t.Errorf("connections: want 1 (heartbeats are answered), have %d", have)
			}
		})
	}
}

func TestSendsToLibzmq(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		if name == "inproc" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := pyzmq(t, `
s = ctx.socket(zmq.PULL)
s.setsockopt(zmq.HEARTBEAT_IVL, 50)
s.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
s.bind(sys.argv[1].replace(":0", ":*"))
print(s.getsockopt_string(zmq.LAST_ENDPOINT))
for i in range(1000):
    m = s.recv()
    assert m == b"%d " % i + b"x" * i, m
print("half")
print(s.recv())
`, ep)
			if !out.Scan() {
				t.Fatal("no endpoint")
			}
			c, log := loudContext(t)
			push := newSocket(t, c, t.Context(), zmq.Push)
			connect(t, push, out.Text())
			for i := range libzmqMessages {
				send(t, push, fmt.Sprint(i, " ", strings.Repeat("x", i)))
			}
			if !out.Scan() || out.Text() != "half" {
				t.Fatalf("have %q", out.Text())
			}
			<-time.After(1500 * time.Millisecond) // longer than its heartbeat's patience
			if have := strings.Count(log.String(), "peer connected"); have != 1 {
				t.Errorf("connections: want 1 (heartbeats are answered), have %d", have)
			}
			send(t, push, "")
			if !out.Scan() || out.Text() != "b''" {
				t.Errorf("have %q", out.Text())
			}
		})
	}
}

func TestLibzmqConnectsToABoundPush(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	push := newSocket(t, c, t.Context(), zmq.Push)
	bind(t, push, "tcp://127.0.0.1:0")
	out := pyzmq(t, `
s = ctx.socket(zmq.PULL)
s.connect(sys.argv[1])
print(s.recv())
`, push.Endpoint())
	send(t, push, "hello")
	push.Close() // flushes
	if !out.Scan() || out.Text() != "b'hello'" {
		t.Errorf("have %q", out.Text())
	}
}
