package zmq_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/zmq"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(rawCase); name != "" {
		rawFaults[name]() // in a process of its own: it may die of it
		return
	}
	// What BenchmarkPipeline leaves behind by using the raw library's inproc; nothing of ours does.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/go-zeromq/zmq4/internal/inproc.(*conn).read"))
}

// patience is what a step may take that should be immediate: the machine may be busy.
const patience = 10 * time.Second

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newContext returns a Context without a voice whose sockets are all closed when the test ends.
func newContext(tb testing.TB) *zmq.Context {
	c := zmq.NewContext(zmq.Options{Log: quiet()})
	tb.Cleanup(func() { end(c) })
	return c
}

func end(c *zmq.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Term(ctx)
}

func newSocket(tb testing.TB, c *zmq.Context, ctx context.Context, t zmq.Type) *zmq.Socket {
	tb.Helper()
	s, err := c.Socket(ctx, t)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func bind(tb testing.TB, s *zmq.Socket, endpoint string) {
	tb.Helper()
	if err := s.Bind(tb.Context(), endpoint); err != nil {
		tb.Fatal(err)
	}
}

func connect(tb testing.TB, s *zmq.Socket, endpoint string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := s.Connect(ctx, endpoint); err != nil {
		tb.Fatal(err)
	}
}

func send(tb testing.TB, s *zmq.Socket, msg string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := s.Send(ctx, []byte(msg)); err != nil {
		tb.Fatal(err)
	}
}

func recv(tb testing.TB, s *zmq.Socket) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	msg, err := s.Recv(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return string(msg)
}

// pair returns a PUSH that is connected to a bound PULL.
func pair(tb testing.TB, c *zmq.Context, endpoint string) (push, pull *zmq.Socket) {
	tb.Helper()
	pull = newSocket(tb, c, tb.Context(), zmq.Pull)
	bind(tb, pull, endpoint)
	push = newSocket(tb, c, tb.Context(), zmq.Push)
	connect(tb, push, pull.Endpoint())
	return push, pull
}

// info returns what the Context says about its latest socket of that type, if any.
func info(c *zmq.Context, t zmq.Type) (last zmq.SocketInfo) {
	for _, i := range c.Sockets() {
		if i.Type == t {
			last = i
		}
	}
	return last
}

// eventually polls until the condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

var lastHost atomic.Uint32

// endpoints returns a fresh endpoint of each transport. Each tcp one has a loopback address of its own, so that a
// test which binds its port again does not find that another has taken it.
func endpoints(tb testing.TB) map[string]string {
	n := lastHost.Add(1)
	return map[string]string{
		"inproc": "inproc://test",
		"ipc":    "ipc://" + tb.TempDir() + "/s",
		"tcp":    fmt.Sprintf("tcp://127.77.%d.%d:0", n>>8%256, n%256),
	}
}
