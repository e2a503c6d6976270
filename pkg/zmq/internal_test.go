package zmq

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"
)

func FuzzBatch(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendMessage(appendMessage(nil, nil), []byte("hello")))
	f.Add([]byte{5, 'x'})
	f.Add(bytes.Repeat([]byte{0xff}, 11))
	f.Add(binary.AppendUvarint(nil, 1<<63))
	f.Fuzz(func(t *testing.T, batch []byte) {
		var again []byte
		n := 0
		for rest := batch; len(rest) > 0; n++ {
			msg, next, ok := nextMessage(rest)
			if !ok {
				break
			}
			if len(next) >= len(rest) {
				t.Fatal("no progress")
			}
			if cap(msg) != len(msg) {
				t.Fatal("a message can grow into the next")
			}
			again = appendMessage(again, msg)
			rest = next
		}
		if have := countMessages(batch); have != n {
			t.Errorf("messages: want %d, have %d", n, have)
		}
		if have := countMessages(again); have != n {
			t.Errorf("messages after a round trip: want %d, have %d", n, have)
		}
	})
}

// canned is a connection on which a peer has said all that it will.
type canned struct {
	net.Conn
	said    io.Reader
	answers bytes.Buffer
}

func (c *canned) Read(p []byte) (int, error)  { return c.said.Read(p) }
func (c *canned) Write(p []byte) (int, error) { return c.answers.Write(p) }
func (c *canned) Close() error                { return nil }

// FuzzWire lets the library read what a peer may say after its greeting, through the guard.
func FuzzWire(f *testing.F) {
	const limit = 4096
	hello := append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL"), make([]byte, 48)...)
	ready := []byte("\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH")
	f.Add(ready)
	f.Add(append(slices.Clip(ready), "\x00\x05hello\x01\x01a\x00\x01b\x04\x0e\x04PING\x00\x64context\x00\x00"...))
	f.Add([]byte("\x04\x13\x05READY\x0bSocket-Type\x00"))
	f.Add(append(slices.Clip(ready), "\x02\x40\x00\x00\x00\x00\x00\x00\x00"...))
	f.Add(append(slices.Clip(ready), "\x02\xff\xff\xff\xff\xff\xff\xff\xff"...))
	f.Add(append(slices.Clip(ready), "\x06\x00\x00\x00\x00\x00\x00\x00\x06\x04PING"...))
	f.Fuzz(func(t *testing.T, says []byte) {
		c := NewContext(Options{MaxMessage: limit, HandshakeTimeout: time.Hour})
		s := newSocket(c, Pull, nil)
		conn := &canned{said: io.MultiReader(bytes.NewReader(hello), bytes.NewReader(says))}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := s.introduce(conn, true)
		for err == nil {
			var msg zmq4.Msg
			if msg, err = p.zmtp.RecvMsg(); err != nil {
				break
			}
			size := 0
			for _, frame := range msg.Frames {
				size += len(frame)
			}
			if size > limit || msg.Type == zmq4.CmdMsg {
				t.Errorf("let through: %d bytes, type %d", size, msg.Type)
			}
		}
		runtime.ReadMemStats(&after)
		if have := after.TotalAlloc - before.TotalAlloc; have > 1<<20+100*uint64(len(says)) {
			t.Errorf("allocated %d bytes for %d", have, len(says))
		}
	})
}

// The library takes a frame's length at its word; this is what the guard is for.
func TestGuardStandsBeforeTheLibrary(t *testing.T) {
	says := "\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH" + "\x02\x40\x00\x00\x00\x00\x00\x00\x00"
	hello := "\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL" + string(make([]byte, 48))
	raw := func() (panicked any) {
		defer func() { panicked = recover() }()
		conn, err := zmq4.Open(&canned{said: bytes.NewReader([]byte(hello + says))}, null.Security(), zmq4.Pull, nil, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.RecvMsg()
		return nil
	}
	if raw() == nil {
		t.Error("the library mends this itself now")
	}
	s := newSocket(NewContext(Options{}), Pull, nil)
	p, err := s.introduce(&canned{said: bytes.NewReader([]byte(hello + says))}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.zmtp.RecvMsg(); !errors.Is(err, errPeer) {
		t.Errorf("want %v, have %v", errPeer, err)
	}
}

func TestPipeKeepsOrderWithinItsBound(t *testing.T) {
	a, b := newPipe()
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * 7 / 5)
	}
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%70_001)
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
		a.Close()
	}()
	var have []byte
	buf := make([]byte, 33_333)
	for {
		n, err := b.Read(buf[:1+len(have)%len(buf)])
		have = append(have, buf[:n]...)
		b.in.mu.Lock()
		if have := len(b.in.ring); have > pipeBytes {
			t.Errorf("ring: want at most %d, have %d", pipeBytes, have)
		}
		b.in.mu.Unlock()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(want, have) {
		t.Error("other bytes came out than went in")
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("want %v, have %v", io.ErrClosedPipe, err)
	}
}

func TestPipeBlocksWhenFullUntilItsReaderGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, pipeBytes+1))
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatal("took more than its bound:", err)
		default:
		}
		b.Close()
		if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("want %v, have %v", io.ErrClosedPipe, err)
		}
	})
}

// brittle is a connection to a PULL that breaks after some more bytes.
type brittle struct {
	canned
	left int
}

func (c *brittle) Write(p []byte) (int, error) {
	n, _ := c.answers.Write(p[:min(len(p), c.left)])
	c.left -= n
	if n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// Wherever a connection breaks, the next one gets exactly the messages that the first did not take whole.
func TestWhatABrokenConnectionDidNotTakeIsSentOnce(t *testing.T) {
	const (
		hello    = "\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL"
		ready    = "\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PULL"
		messages = 40
		size     = 1000 // more than the buffer holds in all
	)
	says := hello + string(make([]byte, 64-len(hello))) + ready
	for _, breaksAt := range []int{0, 1, 8, 9, 500, 1009, 1010, 20_000, messages*(9+size) - 1} {
		s := newSocket(NewContext(Options{}), Push, nil)
		for i := range messages {
			s.pending = appendMessage(s.pending, bytes.Repeat([]byte{byte(i)}, size))
		}
		var taken []byte // the first byte of each message that a connection took
		over := make(chan struct{})
		for _, left := range []int{breaksAt, 1 << 20} {
			conn := &brittle{canned: canned{said: bytes.NewReader([]byte(says))}, left: 1 << 20}
			p, err := s.introduce(conn, true)
			if err != nil {
				t.Fatal(err)
			}
			conn.answers.Reset()
			conn.left = left
			if left > breaksAt {
				close(over) // so that write ends when nothing is left
			}
			if err := s.write(p, over); (err != nil) != (left == breaksAt) {
				t.Fatalf("at %d: %v", breaksAt, err)
			}
			for conn.answers.Len() >= 9+size {
				taken = append(taken, conn.answers.Next(9 + size)[9])
			}
		}
		want := make([]byte, messages)
		for i := range want {
			want[i] = byte(i)
		}
		if !bytes.Equal(want, taken) {
			t.Errorf("broken after %d bytes: want each message once, have %d", breaksAt, taken)
		}
	}
}

// Within the process a batch is one frame: a connection that breaks before its last byte has taken nothing of it,
// whether it broke in the writer's buffer or behind it.
func TestABatchThatABrokenConnectionDidNotTakeWholeIsSentOnce(t *testing.T) {
	says := "\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL" + string(make([]byte, 48)) + "\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PULL"
	for _, size := range []int{1, 200, 2 * pipeBuffer} {
		batch := appendMessage(nil, bytes.Repeat([]byte("x"), size))
		frame := frameBytes(len(batch))
		for _, breaksAt := range []int{0, 1, frame - 1} {
			s := newSocket(NewContext(Options{}), Push, nil)
			s.batched, s.pending = true, bytes.Clone(batch)
			over := make(chan struct{})
			var have []byte
			for _, left := range []int{breaksAt, 1 << 20} {
				conn := &brittle{canned: canned{said: bytes.NewReader([]byte(says))}, left: 1 << 20}
				p, err := s.introduce(conn, true)
				if err != nil {
					t.Fatal(err)
				}
				conn.answers.Reset()
				conn.left = left
				if left > breaksAt {
					close(over) // so that write ends when nothing is left
				}
				if err := s.write(p, over); (err != nil) != (left == breaksAt) {
					t.Fatalf("at %d of %d: %v", breaksAt, frame, err)
				}
				have = conn.answers.Bytes()
			}
			if !bytes.HasSuffix(have, batch) || len(have) != frame {
				t.Errorf("broken after %d of %d bytes: want the whole batch sent again, have %d bytes", breaksAt, frame, len(have))
			}
		}
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	c := NewContext(Options{})
	for range 100 {
		pull, _ := c.Socket(t.Context(), Pull)
		push, _ := c.Socket(t.Context(), Push)
		if err := errors.Join(pull.Bind(t.Context(), "inproc://x"), push.Connect(t.Context(), "inproc://x")); err != nil {
			t.Fatal(err)
		}
		push.Send(t.Context(), []byte("x"))
		for _, s := range []*Socket{push, pull} {
			s.Close()
			s.mu.Lock()
			if len(s.conns) != 0 || s.peers != 0 {
				t.Errorf("%s: connections: %d, peers: %d", s.typ, len(s.conns), s.peers)
			}
			s.mu.Unlock()
		}
	}
}

// One wake-up call serves all that wait, as far as there is something for them.
func TestCallsPassTheWakeUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := NewContext(Options{})
		push, pull := newSocket(c, Push, nil), newSocket(c, Pull, nil)
		push.used, pull.used, pull.batched = true, true, true
		var sent, received atomic.Int32
		for range 3 {
			go func() {
				if push.Send(ctx, []byte("x")) == nil {
					sent.Add(1)
				}
			}()
			go func() {
				if _, err := pull.Recv(ctx); err == nil {
					received.Add(1)
				}
			}()
		}
		synctest.Wait()
		push.mu.Lock()
		push.peer = &peer{}
		push.mu.Unlock()
		poke(push.room)
		pull.deliver(appendMessage(appendMessage(nil, []byte("a")), []byte("b")))
		synctest.Wait()
		if have := sent.Load(); have != 3 {
			t.Errorf("sent: want 3, have %d", have)
		}
		if have := received.Load(); have != 2 {
			t.Errorf("received: want 2, have %d", have)
		}
		cancel()
	})
}

func TestUntaken(t *testing.T) {
	var batch []byte
	for _, size := range []int{0, 10, 300} { // 2, 12 and 309 bytes on the wire
		batch = appendMessage(batch, make([]byte, size))
	}
	for _, tc := range []struct{ taken, want int }{
		{0, 3}, {1, 3}, {2, 2}, {13, 2}, {14, 1}, {322, 1}, {323, 0},
	} {
		if have := countMessages(unsent(batch, tc.taken)); have != tc.want {
			t.Errorf("after %d bytes: want %d, have %d", tc.taken, tc.want, have)
		}
	}
}

func TestAPeerThatDoesNotFinishItsHandshakeIsRefused(t *testing.T) {
	greeting := append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL"), make([]byte, 48)...)
	for name, sent := range map[string][]byte{"silence": nil, "part of a greeting": greeting[:20], "a greeting only": greeting} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				c := NewContext(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
				pull, err := c.Socket(t.Context(), Pull)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				peer, conn := newPipe()
				pull.admit(conn)
				if _, err := peer.Write(sent); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, peer) // until the socket closes the connection
				if took := time.Since(began); took != defaultHandshakeTimeout {
					t.Errorf("want the connection closed after %v, have %v", defaultHandshakeTimeout, took)
				}
				pull.Close()
				if !strings.Contains(log.String(), "no handshake within") {
					t.Errorf("want the refusal logged, have %q", log.String())
				}
			})
		})
	}
}
