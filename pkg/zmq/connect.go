package zmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// A peer that restarts is back within a few of these; a try costs some microseconds.
	minRetry = 10 * time.Millisecond
	// When a peer is back after a long absence, it waits for at most this.
	maxRetry = time.Second
)

// Bind makes the socket the end that others connect to. On ipc a dead socket file is replaced, and a live one is an error;
// the new file is 0600 from its first moment, and Close removes it. On tcp the address must be loopback; port 0 chooses a
// free one (see Endpoint). On inproc the name must be free in this Context.
//
// It hardly blocks, and ctx bounds it. A socket has one Bind or Connect; after an error it may be tried again. If the
// surroundings are wrong (port in use, no such folder) the error is of fault.KindConfig, with a hint.
func (s *Socket) Bind(ctx context.Context, endpoint string) error {
	a, err := s.claim(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("zmq: bind %s: %w", endpoint, err)
	}
	if a.scheme == "inproc" {
		err = s.c.enter(a.rest, s)
	} else {
		err = s.listen(ctx, a)
	}
	if err != nil {
		s.unclaim()
		return fmt.Errorf("zmq: bind %s: %w", endpoint, err)
	}
	return nil
}

// claim sets the socket's endpoint; a socket has one.
func (s *Socket) claim(ctx context.Context, endpoint string) (address, error) {
	a, err := parse(endpoint)
	if err != nil {
		return a, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used {
		return a, errUsed
	}
	s.used = true
	if err := s.over(ctx); err != nil {
		s.used = false
		return a, err
	}
	s.name(a)
	return a, nil
}

// name sets the endpoint, and the names that are made of it. The lock is held.
func (s *Socket) name(a address) {
	s.batched = a.scheme == "inproc"
	s.endpoint = a.String()
	place, point := "recv "+s.endpoint, "zmq.recv:"+s.endpoint
	if s.typ == Push {
		place, point = "send "+s.endpoint, "zmq.send:"+s.endpoint
	}
	s.place = &place
	s.point.Store(&point)
}

func (s *Socket) unclaim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used, s.bound, s.endpoint = false, false, ""
}

func (s *Socket) listen(ctx context.Context, a address) error {
	l, a, err := listen(ctx, a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		l.Close()
		return ErrClosed
	}
	s.name(a)
	s.bound, s.listener = true, l
	s.tasks.Go(func() { s.accept(l) })
	return nil
}

// accept serves each connection in a goroutine of its own, so that no peer waits for a silent one.
func (s *Socket) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely no file descriptor is free, which passes
			s.log(slog.LevelWarn, "cannot accept a connection", "error", err)
			if !pause(s.life, maxRetry) {
				return
			}
			continue
		}
		s.admit(nc)
	}
}

// admit serves a connection that came to the bound socket.
func (s *Socket) admit(nc net.Conn) bool {
	ok := s.spawn(func() { s.farewell(nc, s.serve(nc, true, func() {})) })
	if !ok {
		nc.Close()
	}
	return ok
}

// farewell logs why a connection ended.
func (s *Socket) farewell(nc net.Conn, err error) {
	if ended(err) {
		s.log(slog.LevelDebug, "peer gone", "peer", nc.RemoteAddr().String(), "error", err)
		return
	}
	s.log(slog.LevelWarn, "refused a peer", "peer", nc.RemoteAddr().String(), "error", err)
}

// unlisten stops new connections.
func (s *Socket) unlisten() {
	s.mu.Lock()
	l, inproc := s.listener, s.bound && s.batched
	s.mu.Unlock()
	if l != nil {
		l.Close()
	}
	if inproc {
		s.c.leave(s)
	}
}

// Connect makes the socket the end that connects to a bound one. It blocks, with the owner parked, until the first
// connection is ready; the other end may be bound later. It returns an error when ctx ends (its cause, and ErrNoPeer),
// after Close (ErrClosed) and Term (ErrTerminated), and if the bound inproc socket does not fit (ErrSecondPeer, or the
// same type). After an error it may be tried again.
//
// Once connected, the socket reconnects by itself: within the process as soon as the name is bound again, otherwise with
// a backoff from 10 ms to 1 s. A socket has one Bind or Connect.
func (s *Socket) Connect(ctx context.Context, endpoint string) error {
	a, err := s.claim(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("zmq: connect %s: %w", endpoint, err)
	}
	life, stop := context.WithCancel(s.life)
	d := &dialing{s: s, a: a, first: make(chan error, 1), over: make(chan struct{})}
	if !s.spawn(func() { defer close(d.over); d.run(life) }) {
		stop()
		return fmt.Errorf("zmq: connect %s: %w", endpoint, ErrClosed)
	}

	s.count(+1)
	place := "connect " + endpoint
	s.owner.Park(&place)
	select {
	case err = <-d.first:
	case <-ctx.Done():
		err = fmt.Errorf("%w (%w%s)", context.Cause(ctx), ErrNoPeer, d.last())
	case <-s.closing:
		err = ErrClosed
	case <-s.c.done:
		err = ErrTerminated
	}
	s.owner.Unpark()
	s.count(-1)

	if err != nil {
		stop()
		<-d.over
		s.unclaim()
		return fmt.Errorf("zmq: connect %s: %w", endpoint, err)
	}
	context.AfterFunc(s.life, stop) // the dialing goes on until the socket closes
	return nil
}

func (s *Socket) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connecting += n
}

// dialing keeps a socket connected.
type dialing struct {
	s     *Socket
	a     address
	first chan error    // gets nil once the first connection is ready, or the reason why there will never be one
	over  chan struct{} // closed when run has returned

	mu  sync.Mutex
	err error // the last one
}

// run dials and serves, again and again, until ctx ends.
func (d *dialing) run(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = minRetry, maxRetry
	connected := false
	for {
		nc, err := d.s.dial(ctx, d.a)
		began := time.Now()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { nc.Close() })
			err = d.s.serve(nc, false, func() {
				if !connected {
					connected = true
					d.first <- nil
				}
			})
			stop()
		}
		if ctx.Err() != nil {
			return
		}
		if !connected && (errors.Is(err, ErrSecondPeer) || errors.Is(err, errPartner)) {
			d.first <- err
			return
		}
		if time.Since(began) > maxRetry {
			retry.Reset() // the connection worked
		}
		d.failed(err)
		if !pause(ctx, retry.NextBackOff()) {
			return
		}
	}
}

// failed keeps the error for Connect, and logs it if it is another than the last one.
func (d *dialing) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil || d.err.Error() != err.Error() {
		level := slog.LevelDebug
		if !ended(err) {
			level = slog.LevelWarn
		}
		d.s.log(level, "not connected, trying again", "error", err)
	}
	d.err = err
}

func (d *dialing) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return ""
	}
	return ": " + d.err.Error()
}

func (s *Socket) dial(ctx context.Context, a address) (net.Conn, error) {
	if a.scheme == "inproc" {
		return s.c.find(ctx, a.rest, s)
	}
	d := net.Dialer{Timeout: s.c.handshake}
	return d.DialContext(ctx, a.network(), a.rest)
}

var errPartner = errors.New("PUSH goes with PULL only")

// enter binds a name within the Context.
func (c *Context) enter(name string, s *Socket) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.names[name]; other != nil {
		return fmt.Errorf("the name is taken by a %s", other.info())
	}
	s.mu.Lock()
	s.bound = true
	dead := s.isClosed
	s.mu.Unlock()
	if dead {
		return ErrClosed
	}
	c.names[name] = s
	close(c.bound)
	c.bound = make(chan struct{})
	return nil
}

// leave frees the names of a socket.
func (c *Context) leave(s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, bound := range c.names {
		if bound == s {
			delete(c.names, name)
		}
	}
}

// find waits until a socket is bound to the name and returns a connection to it.
func (c *Context) find(ctx context.Context, name string, s *Socket) (net.Conn, error) {
	for {
		c.mu.Lock()
		to, bound := c.names[name], c.bound
		c.mu.Unlock()
		if to != nil {
			if to.typ == s.typ {
				return nil, fmt.Errorf("%w, both are %s", errPartner, s.typ)
			}
			nc, err := to.offer()
			if nc != nil || err != nil {
				return nc, err
			}
		}
		select {
		case <-bound:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// offer returns the far end of a new connection to the bound inproc socket, nil if that is closing.
func (s *Socket) offer() (net.Conn, error) {
	near, far := newPipe()
	if s.typ == Push {
		s.mu.Lock()
		taken := s.slot != nil && !s.slot.ended()
		if !taken {
			s.slot = near
		}
		s.mu.Unlock()
		if taken {
			return nil, ErrSecondPeer
		}
	}
	if !s.admit(near) {
		return nil, nil
	}
	return far, nil
}

// pause waits; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// log writes a record that says which socket it is about.
func (s *Socket) log(level slog.Level, text string, args ...any) {
	ctx := context.Background()
	if !s.c.log.Enabled(ctx, level) {
		return
	}
	s.c.log.With("socket", s.id, "type", string(s.typ), "endpoint", s.Endpoint(), "owner", s.owner.Name()).Log(ctx, level, text, args...)
}
