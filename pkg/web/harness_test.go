package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait of these tests; none of them needs it when the code is right.
const patience = 10 * time.Second

// edge is a server, with what it logged.
type edge struct {
	addr string
	pipe *pipeListener // nil: the server listens at addr
	logs *logs
	stop context.CancelFunc
	done chan error // what Serve returned
}

// start starts a server on a free port.
func start(t *testing.T, o web.Options) *edge {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	return startOn(t, o, func(o web.Options) (*web.Server, error) { return web.Listen(t.Context(), o) })
}

// startInBubble starts a server for a test in virtual time (testing/synctest).
func startInBubble(t *testing.T, o web.Options) *edge {
	t.Helper()
	l := newPipeListener()
	e := startOn(t, o, func(o web.Options) (*web.Server, error) { return web.New(l, o), nil })
	e.pipe = l
	return e
}

func startOn(t *testing.T, o web.Options, listen func(web.Options) (*web.Server, error)) *edge {
	t.Helper()
	e := &edge{logs: &logs{}, done: make(chan error, 1)}
	if o.Log == nil {
		o.Log = slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := listen(o)
	if err != nil {
		t.Fatal(err)
	}
	e.addr = s.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.done <- s.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	})
	return e
}

// ended waits for the server's end and returns what Serve did.
func (e *edge) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-e.done:
		return err
	case <-time.After(patience):
		t.Fatal("the server does not end")
		return nil
	}
}

// pipeListener is a listener whose connections are pipes in this process. In a bubble of testing/synctest time stands still
// while a goroutine waits for the network; while it waits for a pipe, time goes on.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// wire is a raw connection, for requests that a decent client would not send.
type wire struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (e *edge) connect() (net.Conn, error) {
	if e.pipe != nil {
		return e.pipe.dial(context.Background(), "", "")
	}
	return net.DialTimeout("tcp", e.addr, patience)
}

func (e *edge) dial(t *testing.T) *wire {
	t.Helper()
	c, err := e.connect()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return &wire{Conn: c, t: t, r: bufio.NewReader(c)}
}

func (w *wire) send(format string, args ...any) {
	_, _ = fmt.Fprintf(w.Conn, format, args...) // a server may refuse before the last byte
}

// answer reads one response with its body.
func (w *wire) answer() (*http.Response, string) {
	w.t.Helper()
	resp, body, err := w.read()
	if err != nil {
		w.t.Fatalf("no whole answer: %v", err)
	}
	return resp, body
}

func (w *wire) read() (*http.Response, string, error) {
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// closed waits until the server closes the connection and returns what came before.
func (w *wire) closed() string {
	w.t.Helper()
	rest, err := io.ReadAll(w.r)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		w.t.Fatalf("the connection is still open; it said %q", rest)
	}
	return string(rest)
}

// ask sends one plain request on a connection of its own.
func (e *edge) ask(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	w := e.dial(t)
	w.send("%s %s HTTP/1.1\r\nHost: app\r\nConnection: close\r\n%s\r\n", method, path, strings.Join(append(header, ""), "\r\n"))
	return w.answer()
}

func problem(t *testing.T, resp *http.Response, body string) web.Problem {
	t.Helper()
	if have := resp.Header.Get("Content-Type"); have != "application/problem+json" {
		t.Fatalf("Content-Type: have %q of %d %q, want a problem", have, resp.StatusCode, body)
	}
	var p web.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	if p.Status != resp.StatusCode || p.Title != http.StatusText(resp.StatusCode) {
		t.Errorf("have status %d and title %q in a %d", p.Status, p.Title, resp.StatusCode)
	}
	if id := resp.Header.Get("X-Request-Id"); p.RequestID != id || id == "" {
		t.Errorf("request id: have %q in the problem, %q in the header", p.RequestID, id)
	}
	return p
}

// logs keeps what a JSON handler writes, one record per write.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// find waits for the first record whose message is msg.
func (l *logs) find(t *testing.T, msg string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		for line := range strings.Lines(l.String()) {
			var record map[string]any
			if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == msg {
				return record
			}
		}
	}
	t.Fatalf("no record %q in:\n%s", msg, l)
	return nil
}

func ok(w http.ResponseWriter, r *http.Request) { web.WriteJSON(w, r, http.StatusOK, "ok") }
