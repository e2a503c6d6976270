package zmq_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"example.com/base-app/pkg/zmq"
)

// rawCase names, in the environment of a child, the fault of the raw library that it shall show.
const rawCase = "ZMQ_TEST_RAW_CASE"

// rawFaults use zmq4 v0.17.0 as it comes. Each prints "fault: …" when it sees what it is named after, or dies.
var rawFaults = map[string]func(){
	"a frame over 255 bytes kills the process": func() {
		push, pull := rawPair("inproc://x")
		go push.Send(zmq4.NewMsg(bytes.Repeat([]byte("x"), 256)))
		pull.Recv()
	},
	"sent memory is shared": func() {
		push, pull := rawPair("inproc://x")
		msg := []byte("first")
		push.Send(zmq4.NewMsg([]byte("warm up"))) // the buffer of the pipe takes the next as it is
		push.Send(zmq4.NewMsg(msg))
		pull.Recv()
		copy(msg, "XXXXX")
		for range 20 {
			if got, _ := pull.Recv(); string(got.Bytes()) == "XXXXX" {
				found("the receiver sees what was written after Send")
			}
			msg = []byte("first")
			push.Send(zmq4.NewMsg(msg))
			copy(msg, "XXXXX")
		}
	},
	"closed sockets leave goroutines": func() {
		before := runtime.NumGoroutine()
		for i := range 20 {
			push, pull := rawPair(fmt.Sprintf("inproc://%d", i))
			push.Close()
			pull.Close()
		}
		<-time.After(200 * time.Millisecond)
		if n := runtime.NumGoroutine() - before; n >= 20 {
			found(fmt.Sprint(n, " goroutines after 20 pairs"))
		}
	},
	"a frame length of 2^62 kills the process": func() {
		attack(rawPull(), frame(0, 1<<62))
		<-time.After(patience) // for the process to die in
	},
	"truncated metadata kills the process": func() {
		attack(rawPull(), truncatedReady)
		<-time.After(patience)
	},
	"a silent client keeps others out": func() {
		addr := rawPull()
		silent, _ := net.Dial("tcp", addr)
		defer silent.Close()
		push := zmq4.NewPush(context.Background())
		dialed := make(chan error, 1)
		go func() { dialed <- push.Dial("tcp://" + addr) }()
		select {
		case <-dialed:
		case <-time.After(500 * time.Millisecond):
			found("the second client waits for the first")
		}
	},
	"two peers get every message twice": func() {
		push := zmq4.NewPush(context.Background())
		push.Listen("tcp://127.0.0.1:0")
		var pulls [2]zmq4.Socket
		for i := range pulls {
			pulls[i] = zmq4.NewPull(context.Background())
			pulls[i].Dial("tcp://" + push.Addr().String())
		}
		var got [2]atomic.Int64
		for i := range pulls {
			go func() {
				for {
					msg, _ := pulls[i].Recv()
					n, _ := strconv.ParseInt(string(msg.Bytes()), 10, 64)
					got[i].Store(n)
				}
			}()
		}
		for i := int64(1); ; i++ { // the second connection may come later
			push.Send(zmq4.NewMsgString(strconv.FormatInt(i, 10)))
			<-time.After(20 * time.Millisecond)
			if got[0].Load() == i && got[1].Load() == i {
				found("both have it")
			}
		}
	},
	"a message without a peer is gone": func() {
		push := zmq4.NewPush(context.Background(), zmq4.WithTimeout(100*time.Millisecond))
		push.Listen("tcp://127.0.0.1:0")
		if err := push.Send(zmq4.NewMsgString("x")); err == nil {
			found("Send returned nil")
		}
	},
	"Recv has no timeout": func() {
		pull := zmq4.NewPull(context.Background(), zmq4.WithTimeout(50*time.Millisecond))
		pull.Listen("tcp://127.0.0.1:0")
		done := make(chan struct{})
		go func() { pull.Recv(); close(done) }()
		select {
		case <-done:
		case <-time.After(500 * time.Millisecond):
			found("Recv waits on")
		}
	},
	"dialing goes on after Close": func() {
		push := zmq4.NewPush(context.Background(), zmq4.WithDialerRetry(time.Second))
		done := make(chan struct{})
		go func() { push.Dial("tcp://127.0.0.1:1"); close(done) }()
		<-time.After(100 * time.Millisecond)
		push.Close()
		select {
		case <-done:
		case <-time.After(500 * time.Millisecond):
			found("Dial sleeps on")
		}
	},
	"a dead socket file stops the next listener": func() {
		path := deadFile(os.TempDir())
		defer os.Remove(path)
		if err := zmq4.NewPull(context.Background()).Listen("ipc://" + path); err != nil {
			found(err.Error())
		}
	},
	"heartbeats arrive as messages": func() {
		pull := zmq4.NewPull(context.Background())
		pull.Listen("tcp://127.0.0.1:0")
		attack(pull.Addr().String(), append(ready("PUSH"), ping...))
		if msg, err := pull.Recv(); err == nil {
			found(fmt.Sprintf("Recv returned %q", msg.Bytes()))
		}
	},
	"it prints to stderr": func() {
		r, w, err := os.Pipe()
		if err == nil {
			err = syscall.Dup3(int(w.Fd()), 2, 0) // the library keeps os.Stderr of its own start
		}
		if err != nil {
			panic(err)
		}
		attack(rawPull(), []byte("GET / HTTP/1.1\r\n\r\n"+strings.Repeat(" ", 64)))
		if line, _ := bufio.NewReader(r).ReadString('\n'); strings.HasPrefix(line, "zmq4: ") {
			found(line)
		}
	},
}

func found(what string) {
	fmt.Println("fault:", what)
	os.Exit(0)
}

func rawPair(ep string) (push, pull zmq4.Socket) {
	pull, push = zmq4.NewPull(context.Background()), zmq4.NewPush(context.Background())
	if err := errors.Join(pull.Listen(ep), push.Dial(ep)); err != nil {
		panic(err)
	}
	return push, pull
}

func rawPull() string {
	pull := zmq4.NewPull(context.Background())
	if err := pull.Listen("tcp://127.0.0.1:0"); err != nil {
		panic(err)
	}
	return pull.Addr().String()
}

// attack greets like a PUSH and sends the bytes.
func attack(addr string, bytes []byte) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	if !strings.HasPrefix(string(bytes), "GET") {
		c.Write(greeting)
	}
	c.Write(bytes)
}

// What a peer says, by the book: https://rfc.zeromq.org/spec/23/.
var (
	greeting = append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL"), make([]byte, 48)...)
	ping     = command("\x04PING\x00\x64context")
	// The key claims to be longer than what is left of the command.
	truncatedReady = command("\x05READY\x0bSocket-Type\x00")
)

func ready(socketType string) []byte {
	return command("\x05READY\x0bSocket-Type\x00\x00\x00" + string(rune(len(socketType))) + socketType)
}

func command(body string) []byte {
	return append([]byte{4, byte(len(body))}, body...)
}

// frame returns a long frame's header.
func frame(flags byte, size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | 2}, size)
}

// deadFile makes a socket file that nobody listens on.
func deadFile(dir string) string {
	path := fmt.Sprintf("%s/dead-%d", dir, os.Getpid())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		panic(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return path
}

// TestRawLibraryFaults shows that the library still has the faults that this package works around. When one
// of these fails after an upgrade, the fault is mended and a workaround may go.
func TestRawLibraryFaults(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var children sync.WaitGroup // all at once: they mostly wait
	defer children.Wait()
	for name := range rawFaults {
		children.Go(func() {
			child := exec.CommandContext(ctx, os.Args[0])
			child.Env = append(os.Environ(), rawCase+"="+name)
			var stdout, stderr bytes.Buffer
			child.Stdout, child.Stderr = &stdout, &stderr
			err := child.Run()
			seen := strings.HasPrefix(stdout.String(), "fault: ")
			switch {
			case strings.Contains(name, "kills"):
				seen = err != nil && strings.Contains(stderr.String(), "panic: ")
			case strings.Contains(name, "shared"): // whichever is first, the message or the race detector
				seen = seen || strings.Contains(stderr.String(), "WARNING: DATA RACE")
			}
			if !seen {
				t.Errorf("%s: not seen: %v\n%s%s", name, err, stdout.String(), stderr.String())
			}
		})
	}
}

// The other half, that ours has none of them: each test below is one of the above, or a row of TestHostilePeers,
// TestCalls (no timeout, dialing after Close, no peer) or TestCyclesLeakNothing.

func TestMessagesOfEverySizeArrive(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			push, pull := pair(t, newContext(t), ep)
			for _, size := range []int{0, 1, 255, 256, 65_535, 65_536, 70_000, 2 << 20} {
				want := strings.Repeat("x", size)
				send(t, push, want)
				if have := recv(t, pull); have != want {
					t.Errorf("size: want %d, have %d", size, len(have))
				}
			}
		})
	}
}

func TestSentMemoryIsTheCallersAgain(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			push, pull := pair(t, newContext(t), ep)
			msg := []byte("first")
			for range 20 {
				copy(msg, "first")
				if err := push.Send(t.Context(), msg); err != nil {
					t.Fatal(err)
				}
				copy(msg, "XXXXX")
			}
			for range 20 {
				if have := recv(t, pull); have != "first" {
					t.Fatalf("have %q", have)
				}
			}
		})
	}
}

func TestSecondPullIsRefused(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContext(t)
			push := newSocket(t, c, t.Context(), zmq.Push)
			bind(t, push, ep)
			first := newSocket(t, c, t.Context(), zmq.Pull)
			connect(t, first, push.Endpoint())
			eventually(t, "peer", func() bool { return info(c, zmq.Push).Peers == 1 })

			second := newSocket(t, c, t.Context(), zmq.Pull)
			// Over a wire it can only see that nobody takes it, and tries again until its time is over.
			want, limit := zmq.ErrNoPeer, 100*time.Millisecond
			if name == "inproc" {
				want, limit = zmq.ErrSecondPeer, patience
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := second.Connect(ctx, push.Endpoint())
			if !errors.Is(err, want) {
				t.Errorf("want %v, have %v", want, err)
			}
			send(t, push, "once")
			if have := recv(t, first); have != "once" {
				t.Errorf("have %q", have)
			}
			first.Close()
			connect(t, second, push.Endpoint())
			send(t, push, "after")
			if have := recv(t, second); have != "after" {
				t.Errorf("have %q", have)
			}
		})
	}
}
