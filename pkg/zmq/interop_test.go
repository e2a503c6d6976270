package zmq_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/base-app/pkg/zmq"
)

const python = "/usr/bin/python3" // Debian's, for which there is python3-zmq

// pyzmq starts a script that has the module zmq and a context ctx. Its process ends with the test at the latest.
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

// loudContext returns a Context and what it logs, debug included. It is patient with a handshake: a peer that is
// refused after it has begun to send has lost what it sent.
func loudContext(t *testing.T) (*zmq.Context, *syncBuffer) {
	var log syncBuffer
	c := zmq.NewContext(zmq.Options{HandshakeTimeout: patience,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { end(c) })
	return c, &log
}

// heartbeats makes libzmq's socket s send a PING every 50 ms. The time that it waits for an answer is longer than the
// test: with a short one, a machine that stands still for as long would break the connection, and messages would be
// lost on it. That a PING is answered shows on the wire.
var heartbeats = fmt.Sprintf(`
s.setsockopt(zmq.HEARTBEAT_IVL, 50)
s.setsockopt(zmq.HEARTBEAT_TIMEOUT, %d)
`, 2*patience.Milliseconds())

// wiretap passes the connections to one endpoint on, and counts the answers to heartbeats that our side sends. It
// returns the endpoint to connect to instead.
func wiretap(t *testing.T, endpoint string, oursIsBound bool) (front string, pongs *atomic.Int64) {
	t.Helper()
	network, addr, _ := strings.Cut(endpoint, "://")
	if network == "ipc" {
		network = "unix"
	}
	at := "127.0.0.1:0"
	if network == "unix" {
		at = addr + ".tap"
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pongs = new(atomic.Int64)
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial(network, addr)
			if err != nil {
				near.Close()
				continue
			}
			ours, theirs := far, near
			if !oursIsBound {
				ours, theirs = near, far
			}
			go pass(ours, theirs, func([]byte) {})
			var tail []byte
			go pass(theirs, ours, func(b []byte) {
				const pong = "\x04PONG" // the name of a command, with its length
				tail = append(tail, b...)
				pongs.Add(int64(bytes.Count(tail, []byte(pong))))
				tail = bytes.Clone(tail[len(tail)-min(len(tail), len(pong)-1):]) // one may come in two pieces
			})
		}
	}()
	return strings.Split(endpoint, "://")[0] + "://" + l.Addr().String(), pongs
}

// pass copies one direction of a connection, and shows each piece before it is written.
func pass(to, from net.Conn, show func([]byte)) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		show(buf[:n])
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
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
			front, pongs := wiretap(t, pull.Endpoint(), true)
			// It beats, as the old heartbeat wrapper does: empty messages, and ZMTP's own PING, whose answer it wants.
			pyzmq(t, "s = ctx.socket(zmq.PUSH)"+heartbeats+`
s.connect(sys.argv[1])
for i in range(1000):
    s.send(b"")
    s.send(b"%d " % i + b"x" * i)
s.send_multipart([b"two", b"parts"])
s.send(b"end")
s.poll() # to the end of the test: whether an interpreter that ends delivers what it sent differs between versions
`, front)
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
			eventually(t, "a heartbeat is answered", func() bool { return pongs.Load() > 0 })
			if have := strings.Count(log.String(), "peer connected"); have != 1 {
				t.Errorf("connections: want 1, have %d", have)
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
			out := pyzmq(t, "s = ctx.socket(zmq.PULL)"+heartbeats+`
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
			front, pongs := wiretap(t, out.Text(), false)
			connect(t, push, front)
			for i := range libzmqMessages {
				send(t, push, fmt.Sprint(i, " ", strings.Repeat("x", i)))
			}
			if !out.Scan() || out.Text() != "half" {
				t.Fatalf("have %q", out.Text())
			}
			eventually(t, "a heartbeat is answered", func() bool { return pongs.Load() > 0 })
			if have := strings.Count(log.String(), "peer connected"); have != 1 {
				t.Errorf("connections: want 1, have %d", have)
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
