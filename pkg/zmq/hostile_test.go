package zmq_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
)

// TestHostilePeers sends a bound PULL what no honest PUSH sends. The one who does so loses the connection; the
// process lives, memory stays bounded, and an honest client that comes and sends at the same time does not notice.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	greeted := func(parts ...[]byte) []byte { return slices.Concat(append([][]byte{greeting}, parts...)...) }
	cases := []struct {
		name   string
		says   []byte
		repeat []byte // for as long as it is let
		stays  bool   // the connection stays open
		gets   string // among what comes back
		warns  string // in the log
	}{
		{name: "http", says: []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" + strings.Repeat(" ", 64)), warns: "invalid ZMTP"},
		{name: "noise", repeat: bytes.Repeat([]byte{0xa5}, 4096), warns: "invalid ZMTP"},
		{name: "an old version", says: []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01" + strings.Repeat("\x00", 53)), warns: "version"},
		{name: "truncated metadata", says: greeted(truncatedReady), warns: "malformed handshake"},
		{name: "the wrong type", says: greeted(ready("SUB")), warns: "not compatible"},
		{name: "a message instead of READY", says: greeted([]byte("\x00\x01x")), warns: "invalid frame"},
		{name: "2^62 bytes before READY", says: greeted(frame(0, 1<<62)), warns: "over the limit"},
		{name: "a command of 8 GiB before READY", says: greeted(frame(4, 8<<30)), warns: "command of 8589934592 bytes"},
		{name: "2^62 bytes", says: greeted(ready("PUSH"), frame(0, 1<<62)), warns: "over the limit"},
		{name: "2^64-1 bytes", says: greeted(ready("PUSH"), frame(0, 1<<64-1)), warns: "over the limit"},
		{name: "8 GiB", says: greeted(ready("PUSH"), frame(0, 8<<30)), warns: "over the limit"},
		{name: "one byte too many", says: greeted(ready("PUSH"), frame(0, limit+1)), warns: "over the limit"},
		{name: "endless parts", says: greeted(ready("PUSH")), repeat: append(frame(1, 4096), make([]byte, 4096)...), warns: "over the limit"},
		{name: "endless empty parts", says: greeted(ready("PUSH")), repeat: bytes.Repeat([]byte{1, 0}, 2048), warns: "over the limit"},
		{name: "a command of many parts", says: greeted(ready("PUSH"), []byte("\x05\x05\x04PING")), warns: "flags 0x5"},
		{name: "unknown flags", says: greeted(ready("PUSH"), []byte("\x40\x01x")), warns: "flags 0x40"},
		{name: "a heartbeat", says: greeted(ready("PUSH"), ping), stays: true, gets: "\x04PONGcontext"},
		{name: "a short heartbeat", says: greeted(ready("PUSH"), command("\x04PING")), stays: true},
		{name: "an unknown command", says: greeted(ready("PUSH"), command("\x04WHAT")), stays: true},
		{name: "several parts", says: greeted(ready("PUSH"), []byte("\x01\x01a\x00\x01b")), stays: true, warns: "several parts"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			c := zmq.NewContext(zmq.Options{
				MaxMessage: limit, HandshakeTimeout: time.Hour, // so that a slow machine's honest client is not refused
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
			})
			t.Cleanup(func() { end(c) })
			pull := newSocket(t, c, t.Context(), zmq.Pull)
			bind(t, pull, "tcp://127.0.0.1:0")
			honest := newSocket(t, c, t.Context(), zmq.Push)

			conn, err := net.Dial("tcp", strings.TrimPrefix(pull.Endpoint(), "tcp://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(tc.says); err != nil {
				t.Fatal(err)
			}
			for tc.repeat != nil && err == nil {
				_, err = conn.Write(tc.repeat) // until the other side has enough of it
			}
			connect(t, honest, pull.Endpoint())
			send(t, honest, "")
			send(t, honest, "honest")

			if !tc.stays {
				if _, err := io.Copy(io.Discard, conn); errIsTimeout(err) {
					t.Error("the connection stays open")
				}
			}
			if tc.gets != "" {
				have := make([]byte, 256)
				for n := 0; !bytes.Contains(have[:n], []byte(tc.gets)); {
					k, err := conn.Read(have[n:])
					if n += k; err != nil {
						t.Fatalf("want %q, have %q: %v", tc.gets, have[:n], err)
					}
				}
			}
			for _, want := range []string{"", "honest"} {
				if have := recv(t, pull); have != want {
					t.Errorf("want %q, have %q", want, have)
				}
			}
			if tc.warns != "" {
				eventually(t, "log has "+tc.warns, func() bool { return strings.Contains(log.String(), tc.warns) })
			} else if log.String() != "" {
				t.Errorf("have log %s", log.String())
			}
			if tc.name == "several parts" {
				eventually(t, "counted", func() bool { return info(c, zmq.Pull).Dropped == 1 })
			}
			if n := info(c, zmq.Pull).Received; n != 2 {
				t.Errorf("received: want 2, have %d", n)
			}
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			if have := mem.HeapInuse; have > 256<<20 {
				t.Errorf("heap: want less than 256 MiB, have %d", have)
			}
		})
	}
}

func errIsTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestSilentPeersDelayNobody(t *testing.T) {
	t.Parallel()
	c := zmq.NewContext(zmq.Options{Log: quiet(), HandshakeTimeout: time.Hour})
	defer end(c)
	pull := newSocket(t, c, t.Context(), zmq.Pull)
	bind(t, pull, "tcp://127.0.0.1:0")
	for range 20 {
		silent, err := net.Dial("tcp", strings.TrimPrefix(pull.Endpoint(), "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	push := newSocket(t, c, t.Context(), zmq.Push)
	connect(t, push, pull.Endpoint())
	send(t, push, "through")
	if have := recv(t, pull); have != "through" {
		t.Errorf("have %q", have)
	}
}

func TestPeersAreBounded(t *testing.T) {
	t.Parallel()
	c := zmq.NewContext(zmq.Options{Log: quiet(), HandshakeTimeout: time.Hour})
	defer end(c)
	pull := newSocket(t, c, t.Context(), zmq.Pull)
	bind(t, pull, "tcp://127.0.0.1:0")
	const want = 256
	refused := 0
	for range want + 5 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(pull.Endpoint(), "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, make([]byte, 64)); err != nil { // the greeting of those who are let in
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("refused: want 5, have %d", refused)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContext(t)
			push, pull := pair(t, c, ep)
			ep := pull.Endpoint()
			for _, want := range []string{"one", "two", "three"} {
				send(t, push, want)
				if have := recv(t, pull); have != want {
					t.Fatalf("want %q, have %q", want, have)
				}
				pull.Close()
				eventually(t, "peer gone", func() bool { return info(c, zmq.Push).Peers == 0 })
				pull = newSocket(t, c, t.Context(), zmq.Pull)
				bind(t, pull, ep)
			}
		})
	}
}

// What Send accepted and the connection did not take reaches the next peer, in order, nothing twice.
func TestWhatAPeerDidNotTakeGoesToTheNext(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContext(t)
			push, pull := pair(t, c, ep)
			const total = 2000
			sent := make(chan error, 1)
			go func() {
				msg := make([]byte, 10_000)
				for i := range total {
					msg[0], msg[1] = byte(i>>8), byte(i)
					if err := push.Send(context.Background(), msg); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			last, lost := -1, 0
			for last < total-1 {
				msg := recv(t, pull)
				at := int(msg[0])<<8 | int(msg[1])
				if at <= last || len(msg) != 10_000 {
					t.Fatalf("after %d comes %d with %d bytes", last, at, len(msg))
				}
				lost += at - last - 1
				last = at
				if last == 500 {
					ep = pull.Endpoint()
					pull.Close()
					pull = newSocket(t, c, t.Context(), zmq.Pull)
					bind(t, pull, ep)
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			// Lost is what the buffers of the connection and the dead peer held: 200 KiB of ours; the kernel's, on ipc and tcp,
			// are of a size that it chooses.
			if name == "inproc" && lost > 40 {
				t.Errorf("lost %d", lost)
			}
		})
	}
}
