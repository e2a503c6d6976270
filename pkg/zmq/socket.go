package zmq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/worker"
)

const (
	// The bytes of messages that wait for the writer, and so the size of a batch. Half of it is slower; twice of it
	// gains nothing (BenchmarkPipeline), and only holds more messages that a crash takes along.
	batchBytes = 32 << 10

	// The bytes of frames that wait for Recv, with frameOverhead for each: enough that the readers and the worker don't
	// run in lockstep.
	queueBytes = 2 * batchBytes

	// How long Close waits for a peer to take what Send accepted. A living local peer needs a millisecond.
	lingerTime = 250 * time.Millisecond
)

// Socket is one PUSH or PULL socket. It belongs to one worker; its methods are safe for concurrent use all the same.
type Socket struct {
	c      *Context
	id     uint64
	typ    Type
	owner  *worker.Worker
	origin [1]uintptr
	opened time.Time

	closing chan struct{}          // closed when Close begins: calls return ErrClosed
	cut     chan struct{}          // closed when what is left shall not be waited for
	closed  chan struct{}          // closed when nothing of the socket is left
	point   atomic.Pointer[string] // what Fault is told, known with the endpoint
	life    context.Context
	end     context.CancelFunc // ends the connecting
	tasks   sync.WaitGroup     // the socket's goroutines

	// Wake-up calls, each with room for one: whoever is woken looks under the lock what there is to do.
	arrived chan struct{} // Recv: a frame came
	space   chan struct{} // readers: Recv took a frame
	room    chan struct{} // Send: the pending bytes were taken, or a peer came
	work    chan struct{} // writer: something is pending
	drained chan struct{} // Close: nothing is pending, or the peer went

	mu         sync.Mutex // never held while waiting
	isClosed   bool
	isCut      bool
	endpoint   string
	bound      bool
	used       bool    // by Bind or Connect
	batched    bool    // inproc
	place      *string // where the owner is parked by Send and Recv; shown to people, so never changed in place
	listener   net.Listener
	conns      map[net.Conn]struct{} // the handshaking ones too
	slot       *pipeConn             // inproc, bound PUSH: the connection of its one PULL
	peer       *peer                 // PUSH: the one
	peers      int
	waiting    int // calls of Send or Recv
	connecting int
	lastSend   time.Time
	lastRecv   time.Time
	sent       uint64
	received   uint64
	dropped    uint64

	pending  []byte   // PUSH: batch that Send fills
	inflight []byte   // PUSH: batch that the writer is at, or what the last peer did not take of it
	spare    []byte   // PUSH: an empty batch's memory
	frames   [][]byte // PULL: what readers brought
	taking   [][]byte // PULL: the frames that Recv is at, those before next are taken
	next     int
	queued   int    // PULL: bytes of both, with frameOverhead for each frame; 0 if there is none
	rest     []byte // PULL, inproc: what is left of the batch that Recv is at
}

func newSocket(c *Context, t Type, owner *worker.Worker) *Socket {
	s := &Socket{
		c: c, typ: t, owner: owner, opened: time.Now(),
		closing: make(chan struct{}), cut: make(chan struct{}), closed: make(chan struct{}),
		arrived: make(chan struct{}, 1), space: make(chan struct{}, 1), room: make(chan struct{}, 1),
		work: make(chan struct{}, 1), drained: make(chan struct{}, 1),
		conns: make(map[net.Conn]struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

var (
	errUnused   = errors.New("the socket is neither bound nor connected")
	errUsed     = errors.New("the socket already has an endpoint; make a socket for each")
	errWrongWay = errors.New("a PUSH only sends, a PULL only receives")
	errCorrupt  = errors.New("corrupt batch")
)

// Endpoint returns what the socket is bound or connected to, with a tcp port 0 resolved; empty if nothing.
func (s *Socket) Endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoint
}

// Send copies msg and returns once the socket has it; msg may be empty. It blocks while there is no peer or the
// 32 KiB that wait for it are full, until ctx ends (its cause; ErrNoPeer too if that was missing), Close (ErrClosed)
// or Term (ErrTerminated). A message over MaxMessage is ErrTooBig. After any error the message was not taken.
//
// What was taken and the peer's connection did not take goes to the next peer, in order. What the connection took
// is lost if the peer dies with it: on inproc up to 200 KiB are between a Send and its Recv, on ipc and tcp
// what the kernel's buffers hold as well.
func (s *Socket) Send(ctx context.Context, msg []byte) error {
	if s.typ != Push {
		return s.fail("send", errWrongWay)
	}
	if len(msg) > s.c.max {
		return s.fail("send", fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(msg), s.c.max))
	}
	if err := s.faulty(ctx); err != nil {
		return s.fail("send", err)
	}
	waited := false
	s.mu.Lock()
	for {
		if err := s.over(ctx); err != nil {
			if s.peer == nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				err = fmt.Errorf("%w (%w)", err, ErrNoPeer)
			}
			s.mu.Unlock()
			poke(s.room) // the wake-up call may have been for another Send
			return s.fail("send", err)
		}
		if s.peer != nil && (len(s.pending) == 0 || len(s.pending)+len(msg)+binary.MaxVarintLen32 <= batchBytes) {
			break
		}
		s.await(ctx, s.room)
		waited = true
	}
	first := len(s.pending) == 0
	s.pending = appendMessage(s.pending, msg)
	s.sent++
	more := waited && len(s.pending) < batchBytes
	s.mu.Unlock()
	if first {
		poke(s.work)
	}
	if more {
		poke(s.room) // pass it on to the next Send that waits
	}
	if !waited {
		s.owner.Beat()
	}
	return nil
}

// Recv returns the next message, never nil but maybe empty. It blocks until one comes, until ctx ends (its cause),
// Close (ErrClosed) or Term (ErrTerminated); these go before messages that wait. A peer that goes is not an error:
// another may come.
//
// The slice is the caller's own, to keep and to change. On inproc it shares memory with those that came in the same
// batch (32 KiB): clone what is kept for long.
func (s *Socket) Recv(ctx context.Context) ([]byte, error) {
	if s.typ != Pull {
		return nil, s.fail("recv", errWrongWay)
	}
	if err := s.faulty(ctx); err != nil {
		return nil, s.fail("recv", err)
	}
	waited := false
	s.mu.Lock()
	for {
		if err := s.over(ctx); err != nil {
			s.mu.Unlock()
			poke(s.arrived) // the wake-up call may have been for another Recv
			return nil, s.fail("recv", err)
		}
		if len(s.rest) > 0 || s.queued > 0 {
			break
		}
		s.await(ctx, s.arrived)
		waited = true
	}
	msg, err := s.nextMessage()
	more := waited && (len(s.rest) > 0 || s.queued > 0)
	s.mu.Unlock()
	if err != nil {
		return nil, s.fail("recv", err)
	}
	if more {
		poke(s.arrived) // pass it on to the next Recv that waits
	}
	if !waited {
		s.owner.Beat()
	}
	return msg, nil
}

// faulty asks for a fault that somebody wants this call to have.
func (s *Socket) faulty(ctx context.Context) error {
	if s.c.fault == nil {
		return nil
	}
	if point := s.point.Load(); point != nil {
		return s.c.fault(ctx, *point)
	}
	return nil
}

// nextMessage takes a message from what the readers brought. The lock is held.
func (s *Socket) nextMessage() (msg []byte, err error) {
	if len(s.rest) == 0 {
		frame := s.nextFrame()
		if !s.batched {
			s.received++
			return frame, nil
		}
		s.rest = frame
	}
	msg, rest, ok := nextMessage(s.rest)
	s.rest = rest
	if !ok {
		return nil, errCorrupt
	}
	s.received++
	return msg, nil
}

// nextFrame takes a frame. There is one, and the lock is held.
func (s *Socket) nextFrame() []byte {
	if s.next == len(s.taking) {
		s.taking, s.frames, s.next = s.frames, s.taking[:0], 0
	}
	frame := s.taking[s.next]
	s.taking[s.next] = nil
	s.next++
	s.queued -= len(frame) + frameOverhead
	s.lastRecv = time.Now()
	poke(s.space)
	return frame
}

// await lets go of the lock, waits with the owner parked until it is woken or the call has to end, and takes the
// lock again. The caller looks which it was.
func (s *Socket) await(ctx context.Context, wake <-chan struct{}) {
	s.waiting++
	place := s.place
	s.mu.Unlock()
	s.owner.Park(place)
	select {
	case <-wake:
	case <-ctx.Done():
	case <-s.closing:
	case <-s.c.done:
	}
	s.owner.Unpark()
	s.mu.Lock()
	s.waiting--
}

// over returns why no call may go on, or nil. The lock is held.
func (s *Socket) over(ctx context.Context) error {
	switch {
	case s.c.terminated.Load():
		return ErrTerminated
	case s.isClosed:
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !s.used:
		return errUnused
	}
	return nil
}

func (s *Socket) fail(op string, err error) error {
	ep := s.Endpoint()
	if ep == "" {
		ep = string(s.typ)
	}
	return fmt.Errorf("zmq: %s %s: %w", op, ep, err)
}

// poke wakes one that waits, now or when it comes.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close ends the socket. Calls that wait in it return ErrClosed; what Send accepted still goes to the peer if it takes
// it within 250 ms (after Term nobody receives within the process, and nothing is waited for). It blocks no longer
// than that, and returns when nothing of the socket is left; messages that Recv did not fetch are gone. It may be
// called again, and while other calls run. The error is always nil; it is there for io.Closer.
func (s *Socket) Close() error {
	s.mu.Lock()
	first := !s.isClosed
	s.isClosed = true
	s.mu.Unlock()
	if first {
		s.shut()
	}
	<-s.closed
	return nil
}

// abort is Close without waiting for a peer, also for one that already waits.
func (s *Socket) abort() {
	s.mu.Lock()
	if !s.isCut {
		s.isCut = true
		close(s.cut)
	}
	s.mu.Unlock()
	s.Close()
}

func (s *Socket) shut() {
	close(s.closing)
	s.unlisten()
	s.linger()
	s.end()
	s.mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
	if n := countMessages(s.inflight) + countMessages(s.pending); n > 0 {
		s.log(slog.LevelWarn, "closed with messages that no peer took", "messages", n)
	}
	s.c.remove(s)
	close(s.closed)
}

// linger waits until the peer took everything, or will not.
func (s *Socket) linger() {
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	for {
		s.mu.Lock()
		futile := s.peer == nil || (s.batched && s.c.terminated.Load())
		nothing := len(s.pending) == 0 && len(s.inflight) == 0
		s.mu.Unlock()
		if futile || nothing {
			return
		}
		select {
		case <-s.drained:
		case <-s.cut:
			return
		case <-timer.C:
			return
		}
	}
}

// spawn runs f in a goroutine that Close waits for, unless the socket is closing.
func (s *Socket) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return false
	}
	s.tasks.Go(f)
	return true
}
