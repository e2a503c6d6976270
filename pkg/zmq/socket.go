package zmq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/worker"
)

const (
	// How many bytes of messages may wait for the writer, and so the size of a batch. Half of it is slower; twice as much
	// is not faster (BenchmarkPipeline), and a crash loses more messages.
	batchBytes = 32 << 10

	// How many bytes of frames may wait for Recv, with frameOverhead for each: enough that the readers and the worker
	// don't run in lockstep.
	queueBytes = 2 * batchBytes

	// How long Close waits until a peer has received what Send accepted. A living local peer needs a millisecond.
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
	cut     chan struct{}          // closed when Close must not wait for the peer any more
	closed  chan struct{}          // closed when nothing of the socket is left
	point   atomic.Pointer[string] // the point's name for Fault; nil before there is an endpoint
	life    context.Context
	end     context.CancelFunc // ends the connecting
	tasks   sync.WaitGroup     // the socket's goroutines

	// Signals, each with room for one. A goroutine that is woken checks under the lock what there is to do.
	arrived chan struct{} // Recv: a frame came
	space   chan struct{} // readers: Recv removed a frame
	room    chan struct{} // Send: the writer has the pending bytes, or a peer came
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
	inflight []byte   // PUSH: batch that the writer sends, or the rest of it that the last peer did not receive
	spare    []byte   // PUSH: an empty batch's memory
	frames   [][]byte // PULL: what the readers delivered
	taking   [][]byte // PULL: the frames that Recv returns now; those before next are returned
	next     int
	queued   int    // PULL: bytes of both, with frameOverhead for each frame; 0 if there is none
	rest     []byte // PULL, inproc: the rest of the batch that Recv returns now
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

// Endpoint returns the endpoint that the socket is bound or connected to, with a tcp port 0 resolved; empty before that.
func (s *Socket) Endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoint
}

// Send copies msg and returns once the socket has accepted it; msg may be empty. It blocks while there is no peer, or
// while 32 KiB wait for the peer. It returns an error when ctx ends (its cause, and ErrNoPeer if there was no peer), after
// Close (ErrClosed) and Term (ErrTerminated), and for a message over MaxMessage (ErrTooBig). After any error the message
// was not accepted.
//
// An accepted message that did not get into the peer's connection goes to the next peer, in order. One that did is lost
// if the peer dies: on inproc up to 200 KiB are between a Send and its Recv, on ipc and tcp also the kernel's buffers.
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
			poke(s.room) // the signal may have been for another Send
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
	endpoint := s.endpoint
	s.mu.Unlock()
	if s.c.observe != nil {
		s.c.observe(endpoint, 1, 0)
	}
	if first {
		poke(s.work)
	}
	if more {
		poke(s.room) // wake the next Send that waits
	}
	if !waited {
		s.owner.Beat()
	}
	return nil
}

// Recv returns the next message, never nil but maybe empty. It blocks until one comes. It returns an error when ctx ends
// (its cause), and after Close (ErrClosed) and Term (ErrTerminated), even if messages wait. The loss of a peer is no
// error: another may come.
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
	var began time.Time // read only if there is a wait
	s.mu.Lock()
	for {
		if err := s.over(ctx); err != nil {
			s.mu.Unlock()
			poke(s.arrived) // the signal may have been for another Recv
			return nil, s.fail("recv", err)
		}
		if len(s.rest) > 0 || s.queued > 0 {
			break
		}
		if !waited && s.c.observe != nil {
			began = time.Now()
		}
		s.await(ctx, s.arrived)
		waited = true
	}
	msg, err := s.nextMessage()
	more := waited && (len(s.rest) > 0 || s.queued > 0)
	endpoint := s.endpoint
	s.mu.Unlock()
	if err != nil {
		return nil, s.fail("recv", err)
	}
	if s.c.observe != nil {
		took := time.Duration(0)
		if waited {
			took = time.Since(began)
		}
		s.c.observe(endpoint, -1, took)
	}
	if more {
		poke(s.arrived) // wake the next Recv that waits
	}
	if !waited {
		s.owner.Beat()
	}
	return msg, nil
}

// faulty returns the fault that is injected into this call, nil if none.
func (s *Socket) faulty(ctx context.Context) error {
	if s.c.fault == nil {
		return nil
	}
	if point := s.point.Load(); point != nil {
		return s.c.fault(ctx, *point)
	}
	return nil
}

// nextMessage removes a message from the readers' frames. The lock is held.
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

// nextFrame removes a frame. There is one, and the lock is held.
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

// await releases the lock, waits with the owner parked until wake receives or the call has to end, and locks again. The
// caller checks which it was.
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

// over returns the reason why a call has to end, nil if none. The lock is held.
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

// poke wakes one goroutine that waits on c, or the next one that will.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close ends the socket. Calls that wait in it return ErrClosed. Close gives the peer 250 ms to receive what Send
// accepted; after Term it does not wait on inproc, since nobody in the process receives any more. When it returns, the
// socket's goroutines, connections and files are gone, and messages that Recv did not return are lost. It may be called
// again, and while other calls run. The error is always nil; it is there for io.Closer.
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

// abort is Close without the wait for the peer. It also ends the wait of a Close that has begun.
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
	if n := s.held(); n > 0 && s.c.observe != nil {
		s.c.observe(s.endpoint, -n, -1)
	}
	s.c.remove(s)
	close(s.closed)
}

// held counts the messages that a closed socket takes with it.
func (s *Socket) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := countMessages(s.inflight) + countMessages(s.pending) + countMessages(s.rest)
	for _, frame := range slices.Concat(s.taking[s.next:], s.frames) {
		if s.batched {
			n += countMessages(frame)
		} else {
			n++
		}
	}
	return n
}

// linger waits until the peer has received everything, for lingerTime at most, and not if it cannot receive any more.
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
