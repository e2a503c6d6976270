package zmq

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is how many bytes one direction of an in-memory connection holds: a batch, while the next is gathered.
const pipeBytes = batchBytes

// newPipe returns the two ends of a connection in memory. Unlike net.Pipe it has a bounded buffer each way, since both
// ends of a ZMTP handshake write before they read. An end can still read what the other one wrote before its Close.
func newPipe() (a, b *pipeConn) {
	x, y := newStream(), newStream()
	return &pipeConn{in: x, out: y}, &pipeConn{in: y, out: x}
}

// pipeConn is one end. It has no deadlines; Close ends a wait.
type pipeConn struct{ in, out *stream }

func (c *pipeConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *pipeConn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *pipeConn) Close() error {
	c.in.close(true)
	c.out.close(false)
	return nil
}

// ended returns whether one of the ends was closed.
func (c *pipeConn) ended() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.closed || c.in.broken
}

func (*pipeConn) LocalAddr() net.Addr              { return pipeAddr{} }
func (*pipeConn) RemoteAddr() net.Addr             { return pipeAddr{} }
func (*pipeConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (*pipeConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*pipeConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "inproc" }
func (pipeAddr) String() string  { return "this process" }

// stream is one direction.
type stream struct {
	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond
	ring     []byte // grows up to pipeBytes
	start    int    // of what is unread
	size     int    // of what is unread
	closed   bool   // by the writer: the rest can still be read
	broken   bool   // closed by the reader
}

func newStream() *stream {
	s := &stream{}
	s.readable.L, s.writable.L = &s.mu, &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.size == 0 && !s.closed && !s.broken {
		s.readable.Wait()
	}
	switch {
	case s.broken:
		return 0, net.ErrClosed
	case s.size == 0:
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && s.size > 0 { // twice where the ring wraps
		end := min(s.start+s.size, len(s.ring))
		k := copy(p[n:], s.ring[s.start:end])
		n += k
		s.size -= k
		s.start = (s.start + k) % len(s.ring)
	}
	if s.size == 0 {
		s.start = 0 // stay at the beginning, which is in the cache
	}
	s.writable.Signal()
	return n, nil
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed || s.broken {
			return n, io.ErrClosedPipe
		}
		for n < len(p) && s.size < pipeBytes {
			s.grow(len(p) - n)
			at := s.start + s.size
			end := len(s.ring)
			if at >= end { // wrapped
				at, end = at-end, s.start
			}
			k := copy(s.ring[at:end], p[n:])
			n += k
			s.size += k
		}
		s.readable.Signal()
		if n == len(p) {
			return n, nil
		}
		s.writable.Wait()
	}
}

// grow makes room for n more bytes if the bound allows. A connection that carries little stays small.
func (s *stream) grow(n int) {
	need := min(s.size+n, pipeBytes)
	if need <= len(s.ring) {
		return
	}
	ring := make([]byte, min(max(need, 2*len(s.ring)), pipeBytes))
	k := copy(ring, s.ring[s.start:min(s.start+s.size, len(s.ring))])
	copy(ring[k:], s.ring[:s.size-k])
	s.ring, s.start = ring, 0
}

func (s *stream) close(byReader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if byReader {
		s.broken = true
		s.ring, s.size = nil, 0
	} else {
		s.closed = true
	}
	s.readable.Broadcast()
	s.writable.Broadcast()
}
