package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"example.com/base-app/pkg/fault"
)

const (
	// queueSize is how many messages wait for syslog, 4 MiB at the most: seconds of a busy app, or the whole life
	// of a quiet one. When it is full the new ones are dropped: the beginning of an outage says more than its end.
	queueSize = 1024

	// writeTimeout is how long a peer may not read before it is given up.
	writeTimeout = 5 * time.Second

	// Waits between two dials: soon at first, for a daemon that restarts; later rarely enough that nobody minds.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second

	// settled is how long a connection must hold until it counts: one that nobody serves (udp) or that closes at
	// once fails within a round trip.
	settled = time.Second

	// noticeEvery is how often at most it is told that syslog is down, for one that comes and goes.
	noticeEvery = time.Minute
)

// framing is how messages are told apart on a connection.
type framing int

const (
	datagram      framing = iota // one message each
	octetCounting                // RFC 6587, 3.4.1
	lines                        // RFC 6587, 3.4.2; our messages hold no newline
)

var (
	errGone    = errors.New("closed by the peer")
	errTooLate = errors.New("no answer in time")
)

// sender hands messages to a syslog daemon by a goroutine of its own, which dials, writes, and dials again with
// backoff. Those who log only ever touch the queue.
//
// A message counts as sent when the kernel has it. What udp or a dying peer loses then can't be known, except that
// a refused udp datagram is counted as dropped too.
type sender struct {
	place  string
	dial   func(context.Context) (net.Conn, framing, error)
	notice func(msg string, attrs ...slog.Attr)

	sent, dropped atomic.Uint64

	mu     sync.Mutex // guards closed, and so that nothing is queued after it
	closed bool
	queue  chan []byte

	quit   chan struct{} // closed: deliver what is queued, then end
	abort  context.CancelFunc
	done   chan struct{} // closed: the goroutine has ended
	failed error         // the last error; read after done

	// What follows belongs to the goroutine.
	pending  []byte // taken from the queue, not yet sent
	frame    []byte // pending as it is written
	isDown   bool
	told     bool      // that it is down
	toldAt   time.Time // the last time
	toldDrop uint64    // dropped messages that were told
}

func newSender(place string, dial func(context.Context) (net.Conn, framing, error),
	notice func(string, ...slog.Attr)) *sender {
	ctx, abort := context.WithCancel(context.Background())
	s := &sender{place: place, dial: dial, notice: notice, queue: make(chan []byte, queueSize),
		quit: make(chan struct{}), abort: abort, done: make(chan struct{})}
	go s.run(ctx)
	return s
}

// full tells whether a message would be dropped now, and then counts it.
func (s *sender) full() bool {
	if len(s.queue) < cap(s.queue) {
		return false
	}
	s.dropped.Add(1)
	return true
}

// send queues message, or drops it. It does not block.
func (s *sender) send(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		select {
		case s.queue <- message:
			return
		default:
		}
	}
	s.dropped.Add(1)
}

// close delivers what is queued, within ctx, and ends the goroutine. A daemon that is down gets one more chance.
func (s *sender) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.quit)
	stop := context.AfterFunc(ctx, s.abort)
	<-s.done
	stop()
	s.abort()

	lost := len(s.queue)
	if s.pending != nil {
		lost++
	}
	if lost == 0 {
		return nil
	}
	s.dropped.Add(uint64(lost))
	return fault.Dependency("syslog", fmt.Errorf("close: %s: %d records not delivered: %w", s.place, lost, s.failed))
}

// run dials, feeds the connection until it fails, and again, until close.
func (s *sender) run(ctx context.Context) {
	defer close(s.done)
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstRetry, lastRetry
	for {
		last := s.quitting()
		if last && s.pending == nil && len(s.queue) == 0 {
			return
		}
		err := s.connect(ctx, wait)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			s.failed = errTooLate
			return
		}
		s.failed = err
		s.tellDown(err)
		if last {
			return
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-s.quit:
		}
	}
}

func (s *sender) quitting() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// connect dials and feeds one connection. It returns nil when close wants the end and all is sent.
func (s *sender) connect(ctx context.Context, wait backoff.BackOff) error {
	conn, how, err := s.dial(ctx)
	if err != nil {
		return err
	}
	// The daemon has nothing to say; reading is how its end is noticed, also while there is nothing to write.
	gone, why := make(chan struct{}), error(nil)
	go func() {
		defer close(gone)
		_, why = io.Copy(io.Discard, conn)
	}()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = s.feed(conn, how, gone, wait)
	stop()
	conn.Close()
	<-gone
	if errors.Is(err, errGone) && why != nil {
		err = why
	}
	if conn.LocalAddr().Network() == "udp" && errors.Is(err, syscall.ECONNREFUSED) {
		s.dropped.Add(1) // the one before, which the refusal answers; a unix socket refuses the one at hand
	}
	return err
}

// feed writes to conn until that fails, the peer is gone, or close wants the end and all is sent (then nil).
func (s *sender) feed(conn net.Conn, how framing, gone <-chan struct{}, wait backoff.BackOff) error {
	var holds <-chan time.Time
	if how != datagram {
		holds = time.After(settled) // a datagram socket proves itself only by a message
	}
	for {
		for s.pending == nil {
			select {
			case s.pending = <-s.queue:
			case <-gone:
				return errGone
			case <-holds:
				holds = nil
				wait.Reset()
				s.tellBack()
			case <-s.quit:
				select {
				case s.pending = <-s.queue:
				default:
					return nil
				}
			}
		}
		select {
		case <-gone:
			return errGone
		default:
		}
		s.frame = how.frame(s.frame[:0], s.pending)
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(s.frame); err != nil {
			return err
		}
		s.pending = nil
		s.sent.Add(1)
		if holds == nil && s.isDown {
			holds = time.After(settled)
		}
	}
}

// tellDown tells once that nothing gets through, at most every noticeEvery.
func (s *sender) tellDown(err error) {
	s.isDown = true
	if s.told || !s.toldAt.IsZero() && time.Since(s.toldAt) < noticeEvery {
		return
	}
	s.told, s.toldAt = true, time.Now()
	s.notice("syslog is down; records wait, then are dropped, until it is back",
		slog.String("address", s.place), slog.Any("error", err), slog.Uint64("dropped", s.newlyDropped()))
}

// tellBack tells the end of what tellDown told.
func (s *sender) tellBack() {
	s.isDown = false
	if !s.told {
		return
	}
	s.told = false
	s.notice("syslog is back", slog.String("address", s.place), slog.Uint64("dropped", s.newlyDropped()))
}

// newlyDropped returns how many messages were dropped since it was last told.
func (s *sender) newlyDropped() uint64 {
	n := s.dropped.Load()
	defer func() { s.toldDrop = n }()
	return n - s.toldDrop
}

func (f framing) frame(b, message []byte) []byte {
	switch f {
	case octetCounting:
		b = strconv.AppendInt(b, int64(len(message)), 10)
		b = append(b, ' ')
		return append(b, message...)
	case lines:
		return append(append(b, message...), '\n')
	}
	return append(b, message...)
}
