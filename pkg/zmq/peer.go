package zmq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"example.com/base-app/pkg/fault"
)

// maxPeers bounds the connections of one socket, with those whose handshake is not over. The template's sockets have one
// to a dozen; each can hold a few messages of the largest size.
const maxPeers = 256

// peer is a connection that is ready for messages.
type peer struct {
	wire  *wire
	zmtp  *zmq4.Conn
	gone  chan struct{} // closed when the socket no longer uses it
	frame [1][]byte     // memory for the message being sent
}

// serve handles one connection: handshake, messages, end. It calls joined after the handshake. When it returns, the
// connection is closed; the error, which is never nil, says why.
func (s *Socket) serve(nc net.Conn, server bool, joined func()) error {
	defer nc.Close()
	if err := s.track(nc); err != nil {
		return err
	}
	defer s.untrack(nc)
	p, err := s.introduce(nc, server)
	if err != nil {
		return err
	}
	if err := s.join(p); err != nil {
		return err
	}
	defer s.leave(p)
	joined()
	if s.typ == Pull {
		return s.receive(p)
	}
	return s.transmit(p)
}

// track makes the connection known to Close.
func (s *Socket) track(nc net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.isClosed:
		return net.ErrClosed
	case len(s.conns) >= maxPeers:
		return fmt.Errorf("%w: more than %d peers", errPeer, maxPeers)
	case s.typ == Push && s.peer != nil && !s.batched:
		return ErrSecondPeer // before the handshake, so that its Connect doesn't succeed
	}
	s.conns[nc] = struct{}{}
	return nil
}

func (s *Socket) untrack(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

// introduce does the ZMTP handshake, within the time for it.
func (s *Socket) introduce(nc net.Conn, server bool) (*peer, error) {
	limit, buffer := s.c.max, wireBuffer
	if s.batched {
		limit, buffer = max(s.c.max, batchBytes)+binary.MaxVarintLen64, pipeBuffer
	}
	w := newWire(nc, limit, buffer)
	timer := time.AfterFunc(s.c.handshake, func() { nc.Close() })
	var zmtp *zmq4.Conn
	err := fault.Recover("zmq: handshake", func() (err error) { // the library panics on malformed metadata
		zmtp, err = zmq4.Open(w, null.Security(), zmq4.SocketType(s.typ), nil, server, nil)
		return err
	})
	if !timer.Stop() {
		return nil, fmt.Errorf("%w: no handshake within %v", errPeer, s.c.handshake)
	}
	if fault.Of(err) == fault.KindPanic {
		return nil, fmt.Errorf("%w: malformed handshake", errPeer)
	}
	if err != nil {
		return nil, err
	}
	w.ready = true
	return &peer{wire: w, zmtp: zmtp, gone: make(chan struct{})}, nil
}

// join makes p one of the socket's peers, or refuses it.
func (s *Socket) join(p *peer) error {
	for {
		s.mu.Lock()
		old := s.peer
		if s.isClosed || old == nil {
			break
		}
		s.mu.Unlock()
		if !s.batched {
			return ErrSecondPeer
		}
		select { // the peer before is about to go: offer has checked that
		case <-old.gone:
		case <-s.closing:
		}
	}
	if s.isClosed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.peers++
	if s.typ == Push {
		s.peer = p
		poke(s.room)
	}
	s.mu.Unlock()
	s.log(slog.LevelDebug, "peer connected", "peer", p.wire.RemoteAddr().String())
	return nil
}

func (s *Socket) leave(p *peer) {
	s.mu.Lock()
	s.peers--
	if s.peer == p {
		s.peer = nil
	}
	s.mu.Unlock()
	close(p.gone)
	poke(s.drained)
}

// receive passes the peer's messages to Recv, until the connection ends.
func (s *Socket) receive(p *peer) error {
	for {
		msg, err := p.zmtp.RecvMsg()
		if err != nil {
			return err
		}
		if len(msg.Frames) != 1 {
			s.drop(p, len(msg.Frames))
			continue
		}
		if !s.deliver(msg.Frames[0]) {
			return net.ErrClosed
		}
	}
}

// deliver queues a frame for Recv. It waits until there is room, or the queue is empty, and returns false when the socket
// closes.
func (s *Socket) deliver(frame []byte) bool {
	size := len(frame) + frameOverhead
	s.mu.Lock()
	for s.queued > 0 && s.queued+size > queueBytes {
		s.mu.Unlock()
		select {
		case <-s.space:
		case <-s.closing:
			return false
		}
		s.mu.Lock()
	}
	s.frames = append(s.frames, frame)
	s.queued += size
	more := s.queued < queueBytes
	s.mu.Unlock()
	poke(s.arrived)
	if more {
		poke(s.space) // for another reader that may wait
	}
	return true
}

func (s *Socket) drop(p *peer, parts int) {
	s.mu.Lock()
	s.dropped++
	first := s.dropped == 1
	s.mu.Unlock()
	if first {
		s.log(slog.LevelWarn, "dropped a message of several parts; only single-part messages are received, more are counted only",
			"parts", parts, "peer", p.wire.RemoteAddr().String())
	}
}

// transmit sends the pending messages and reads the connection, until it ends.
func (s *Socket) transmit(p *peer) error {
	over := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		err := s.write(p, over)
		p.wire.Close() // which ends the reading below
		written <- err
	}()
	_, err := p.zmtp.RecvMsg() // answers heartbeats, and notices the peer's end
	if err == nil {
		err = fmt.Errorf("%w: a PULL sent a message", errPeer)
	}
	p.wire.Close()
	close(over)
	if werr := <-written; werr != nil {
		return werr
	}
	return err
}

// write sends batch after batch until one fails or the connection is over.
func (s *Socket) write(p *peer, over <-chan struct{}) error {
	for {
		batch := s.nextBatch(over)
		if batch == nil {
			return nil
		}
		rest, err := p.send(batch, s.batched)
		s.mu.Lock()
		s.inflight = rest
		if len(rest) == 0 {
			s.lastSend = time.Now()
			s.spare = reusable(batch)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// nextBatch waits for pending messages and makes them the batch in flight. It returns nil when the connection is over.
func (s *Socket) nextBatch(over <-chan struct{}) []byte {
	for {
		s.mu.Lock()
		batch := s.inflight // what the last connection did not accept goes first
		if len(batch) == 0 && len(s.pending) > 0 {
			batch = s.pending
			s.pending, s.spare, s.inflight = s.spare, nil, batch
		}
		s.mu.Unlock()
		if len(batch) > 0 {
			poke(s.room)
			return batch
		}
		poke(s.drained)
		select {
		case <-s.work:
		case <-over:
			return nil
		}
	}
}

// reusable returns the batch's memory for the next one, nil if one large message made it large.
func reusable(batch []byte) []byte {
	if cap(batch) > 2*batchBytes {
		return nil
	}
	return batch[:0]
}

// send writes a batch, as one frame or as one frame for each message. It returns the messages that the connection did not
// accept.
func (p *peer) send(batch []byte, asOne bool) (rest []byte, err error) {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	if asOne {
		err := p.frameOut(batch)
		if err == nil {
			err = p.flush()
		}
		if err != nil {
			return batch, err // the frame is incomplete, so the peer has none of its messages
		}
		return nil, nil
	}
	before := p.wire.written.n
	for rest = batch; len(rest) > 0 && err == nil; {
		var msg []byte
		msg, rest, _ = nextMessage(rest)
		err = p.frameOut(msg)
	}
	if err == nil {
		err = p.flush()
	}
	if err == nil {
		return nil, nil
	}
	return unsent(batch, p.wire.written.n-before), err
}

func (p *peer) frameOut(body []byte) error {
	p.frame[0] = body
	return p.zmtp.SendMsg(zmq4.Msg{Frames: p.frame[:]})
}

func (p *peer) flush() error { return p.wire.out.Flush() }

// unsent returns the messages of a batch that do not fit whole into the first n bytes on the wire.
func unsent(batch []byte, n int) []byte {
	for len(batch) > 0 {
		msg, rest, _ := nextMessage(batch)
		if n -= frameBytes(len(msg)); n < 0 {
			break
		}
		batch = rest
	}
	return batch
}

// ended returns whether err is the ordinary end of a connection: one side closed it, or died.
func ended(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, zmq4.ErrClosedConn,
		syscall.ECONNRESET, syscall.EPIPE}, func(end error) bool { return errors.Is(err, end) })
}
