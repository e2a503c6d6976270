// Package zmq gives workers ZeroMQ sockets whose waits end with a context and which can be listed: a Context for the
// process, and PUSH and PULL sockets that know who owns them and where they were made.
//
//	worker A                                                                 worker B
//	Send ─► pending ─► writer ─► ZMTP ─► pipe, unix socket ─► ZMTP ─► reader ─► frames ─► Recv
//	        32 KiB     goroutine         or loopback tcp              goroutine  64 KiB
//
// It promises:
//   - Send, Recv and Connect return at once when their context ends, the socket is closed or the Context is terminated,
//     with an error that says which. When Send returns nil, the message is not lost.
//   - Every buffer is bounded: a slow reader makes the writer wait.
//   - Nothing that a peer sends can crash the process, take memory without bound, or keep other peers waiting.
//   - Messages of one PUSH arrive in order and at most once.
//   - When Close returns, the socket's goroutines, connections and files are gone.
//
// inproc://name joins sockets of one Context. One frame carries many messages; it is sent as soon as the frame before it
// is sent, and never waits for a timer. ipc:///path and tcp://host:port are plain ZMTP 3 with one message per frame, and
// talk to libzmq and all its bindings. One PULL may have many PUSH peers; a PUSH has one PULL, and a second is refused.
//
// It stores nothing: messages that a peer has received and not handled are lost with the peer. It does not encrypt or
// authenticate: tcp listens on loopback only, and only its owner may use the file of an ipc socket (0600). It does not
// send messages of several parts; those that arrive are dropped, counted and logged.
//
// Protocol: https://rfc.zeromq.org/spec/23/ (ZMTP 3.0). The handshake and the framing are go-zeromq/zmq4's, used
// connection by connection (zmq4.Open); its sockets and transports, which lose messages, leak and crash, are not used.
package zmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
)

// Type says which way a socket's messages go.
type Type string

// The types that are offered.
const (
	Push Type = "PUSH" // sends
	Pull Type = "PULL" // receives
)

// The errors of calls, besides the cause of the call's context. They are wrapped: use errors.Is.
var (
	ErrTerminated = fault.New(fault.KindTerminated, "the socket context is terminated")
	ErrClosed     = fault.New(fault.KindUnhandled, "the socket is closed")
	ErrTooBig     = fault.New(fault.KindUnhandled, "the message is larger than MaxMessage")
	ErrSecondPeer = fault.New(fault.KindUnhandled, "the PUSH socket already has its one PULL peer")
	ErrNoPeer     = fault.New(fault.KindDependency, "no peer") // with a context's cause: the call waited for a peer
)

const (
	// An event body may have 1 MiB; its envelope fits in as much again.
	defaultMaxMessage = 2 << 20
	// Local peers need milliseconds; a machine that swaps may need a second.
	defaultHandshakeTimeout = 2 * time.Second
)

// Options are the limits of a Context. The zero value is ready for use.
type Options struct {
	// MaxMessage is the largest message in bytes, 2 MiB if zero. Too small refuses real events; each peer can make
	// the process hold a few messages of this size, so too large costs memory.
	MaxMessage int

	// HandshakeTimeout is how long a handshake may take, and a dial, 2 s if zero. Too short refuses peers on a loaded
	// machine; too long keeps the connections of silent peers open, for which no other peer waits.
	HandshakeTimeout time.Duration

	// Observe is called for messages, with the endpoint of their socket: with +1 for each that Send accepted; with -1 for
	// each that Recv returned, and how long Recv waited (0 if the message was there already); and with minus the number
	// that a closed socket still held, and a negative wait. It must not block. Nil: nothing is observed.
	Observe func(endpoint string, change int, waited time.Duration)

	// Log is for refused peers (warn) and connections that come and go (debug); slog.Default() if nil.
	Log *slog.Logger

	// Fault injects faults; nil: none. Each Send and Recv calls it first, with the name of its point:
	// zmq.send:<endpoint> or zmq.recv:<endpoint>. The owner is not parked then. If Fault returns an error, the call returns
	// it and has sent or received nothing.
	Fault func(ctx context.Context, point string) error
}

// Context holds the sockets of a process, like libzmq's. Its methods may be called from any goroutine.
type Context struct {
	max       int
	handshake time.Duration
	log       *slog.Logger
	observe   func(endpoint string, change int, waited time.Duration) // nil: none
	fault     func(context.Context, string) error

	terminated atomic.Bool
	done       chan struct{} // closed by Term
	empty      chan struct{} // closed when terminated and without sockets

	mu      sync.Mutex
	lastID  uint64
	sockets map[uint64]*Socket
	names   map[string]*Socket // who is bound to inproc://name
	bound   chan struct{}      // closed and replaced when names gains one
}

// NewContext returns a Context without sockets. A process needs one; inproc names are known within one Context only.
func NewContext(o Options) *Context {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = defaultMaxMessage
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = defaultHandshakeTimeout
	}
	return &Context{
		max:       o.MaxMessage,
		handshake: o.HandshakeTimeout,
		log:       o.Log,
		observe:   o.Observe,
		fault:     o.Fault,
		done:      make(chan struct{}),
		empty:     make(chan struct{}),
		sockets:   make(map[uint64]*Socket),
		names:     make(map[string]*Socket),
		bound:     make(chan struct{}),
	}
}

// Socket returns a new socket. Its owner, the worker in ctx (worker.FromContext), must close it. The owner is parked while
// a call of this socket waits, and beats with each call that does not wait. The owner is looked up here and not in each
// call, so only the worker that made a socket uses it. The caller's file and line are kept for Sockets.
// It does not block. The error is ErrTerminated, or the type is unknown.
func (c *Context) Socket(ctx context.Context, t Type) (*Socket, error) { return c.socket(ctx, t) }

// Bind returns a new socket that is bound to the endpoint: Socket and Socket.Bind in one.
func (c *Context) Bind(ctx context.Context, t Type, endpoint string) (*Socket, error) {
	s, err := c.socket(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := s.Bind(ctx, endpoint); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Connect returns a new socket that is connected to the endpoint: Socket and Socket.Connect in one. It blocks as
// Socket.Connect does.
func (c *Context) Connect(ctx context.Context, t Type, endpoint string) (*Socket, error) {
	s, err := c.socket(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := s.Connect(ctx, endpoint); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// socket makes a socket whose origin is the caller of the exported method that calls it.
func (c *Context) socket(ctx context.Context, t Type) (*Socket, error) {
	if t != Push && t != Pull {
		return nil, fmt.Errorf("zmq: new socket: unknown type %q", t)
	}
	s := newSocket(c, t, worker.FromContext(ctx))
	runtime.Callers(3, s.origin[:])

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminated.Load() {
		return nil, fmt.Errorf("zmq: new socket: %w", ErrTerminated)
	}
	c.lastID++
	s.id = c.lastID
	c.sockets[s.id] = s
	return s, nil
}

// Term ends the Context: calls that wait in its sockets return ErrTerminated at once, and so does every later Send,
// Recv, Bind, Connect and Socket. It then waits for the owners to close their sockets. If ctx ends first, it closes
// the rest itself and returns an error of fault.KindUnclean that lists them. A later or concurrent Term waits
// likewise; once all sockets are closed it returns nil.
func (c *Context) Term(ctx context.Context) error {
	c.mu.Lock()
	if c.terminated.CompareAndSwap(false, true) {
		close(c.done)
		if len(c.sockets) == 0 {
			close(c.empty)
		}
	}
	c.mu.Unlock()

	select {
	case <-c.empty:
		return nil
	case <-ctx.Done():
	}
	left := c.open()
	if len(left) == 0 {
		return nil
	}
	var list strings.Builder
	var closing sync.WaitGroup
	for i, s := range left {
		if i > 0 {
			list.WriteString("; ")
		}
		list.WriteString(s.info().String())
		closing.Go(s.abort)
	}
	closing.Wait()
	return &fault.Error{
		Kind: fault.KindUnclean, Op: "zmq: terminate",
		Hint: "close each socket in the worker that made it, when its Send or Recv returns an error",
		Err:  fmt.Errorf("sockets left open: %s: %w", list.String(), context.Cause(ctx)),
	}
}

// CloseOf closes the sockets that w opened and that are still open, with a warning that names each. The caller knows that w has
// ended. A nil w means those that no worker opened. It blocks for 250 ms at most; see Socket.Close.
func (c *Context) CloseOf(w *worker.Worker) {
	var closing sync.WaitGroup
	for _, s := range c.open() {
		if s.owner == w {
			c.log.Warn("a socket was left open; it is closed", "subject", w.Name(), "socket", s.info().String())
			closing.Go(func() { _ = s.Close() })
		}
	}
	closing.Wait()
}

// Sockets describes the open sockets, oldest first. It never waits for a peer or a worker.
func (c *Context) Sockets() []SocketInfo {
	list := c.open()
	infos := make([]SocketInfo, len(list))
	for i, s := range list {
		infos[i] = s.info()
	}
	return infos
}

// open returns the open sockets in the order of their making.
func (c *Context) open() []*Socket {
	c.mu.Lock()
	list := make([]*Socket, 0, len(c.sockets))
	for _, s := range c.sockets {
		list = append(list, s)
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b *Socket) int { return cmp.Compare(a.id, b.id) })
	return list
}

// remove forgets a closed socket.
func (c *Context) remove(s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sockets, s.id)
	if c.terminated.Load() && len(c.sockets) == 0 {
		close(c.empty)
	}
}
