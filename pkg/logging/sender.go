package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/warnlimit"
)

const (
	// queueSize is how many messages wait for syslog, 4 MiB at the most: seconds of a busy app, or the whole life
	// of a quiet one. When it is full the new ones are dropped: the beginning of an outage shows more than its end.
	queueSize = 1024

	// writeTimeout is how long a peer may not read before it is given up.
	writeTimeout = 5 * time.Second

	// Waits between two dials: soon at first, for a daemon that restarts; later seldom enough to be no load.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second

	// holdTime is how long a connection must hold until it counts: one without a server (udp) or that closes at
	// once fails within a round trip.
	holdTime = time.Second
)

// framing is how messages are separated on a connection.
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

// sender hands messages to a syslog daemon in the background: it keeps a connection, and dials again when that is gone,
// also while there is nothing to send. Those who log only ever touch the queue.
//
// A message counts as sent when the kernel has it. What udp or a dying peer loses then can't be known, except that
// a refused udp datagram is counted as dropped too.
type sender struct {
	place string
	dial  func(context.Context) (net.Conn, framing, error)
	box   *outbox.Outbox[[]byte]

	skipped atomic.Uint64 // not even made, since the queue was full
	refused atomic.Uint64 // datagrams that were sent, and answered with a refusal

	// What follows belongs to the outbox's goroutine.
	conn     net.Conn
	how      framing
	frame    []byte // a message as it is written
	failed   error  // the last error; read when the outbox is done
	reported uint64 // dropped messages that stand in a notice
}

// newSender returns a sender that dials at once. Notice logs that the daemon is down, once a minute at most, and that it is back.
func newSender(place string, dial func(context.Context) (net.Conn, framing, error), notice func(string, ...slog.Attr)) *sender {
	s := &sender{place: place, dial: dial}
	address := slog.String("address", place)
	s.box = outbox.New(outbox.Options[[]byte]{Name: "syslog", Items: queueSize, Full: outbox.DropNewest,
		Connect: s.connect, Deliver: s.deliver, First: firstRetry, Longest: lastRetry, Holds: holdTime,
		Warnings: &warnlimit.Limiter{Once: true,
			Warn: func(_ context.Context, err error, _ int) {
				notice("syslog is down; records wait, then are dropped, until it is back", address, slog.Any("error", err), s.newlyDropped())
			},
			Over: func(context.Context, int) { notice("syslog is back", address, s.newlyDropped()) }}})
	s.box.Start()
	return s
}

// full returns whether a message would be dropped now, and then counts it.
func (s *sender) full() bool {
	if s.box.Stats().Waiting < queueSize {
		return false
	}
	s.skipped.Add(1)
	return true
}

// send queues message, or drops it. It does not block.
func (s *sender) send(message []byte) { s.box.Post(message) }

func (s *sender) sent() uint64 { return s.box.Stats().Delivered }

func (s *sender) dropped() uint64 {
	return s.box.Stats().Dropped + s.skipped.Load() + s.refused.Load()
}

// newlyDropped returns how many messages were dropped since the last notice.
func (s *sender) newlyDropped() slog.Attr {
	before := s.reported
	s.reported = s.dropped()
	return slog.Uint64("dropped", s.reported-before)
}

// close delivers what is queued, within ctx, and ends the goroutine. A daemon that is down gets one more chance.
func (s *sender) close(ctx context.Context) error {
	lost, late := s.box.Close(ctx)
	<-s.box.Done() // dialling and writing end with ctx
	if lost == 0 {
		return nil
	}
	if late != nil {
		s.failed = errTooLate
	}
	return fault.Dependency("syslog", fmt.Errorf("close: %s: %d records not delivered: %w", s.place, lost, s.failed))
}

// connect dials.
func (s *sender) connect(ctx context.Context) (outbox.Link, error) {
	conn, how, err := s.dial(ctx)
	if err != nil {
		return outbox.Link{}, s.fail(err)
	}
	// The daemon sends nothing; reading is how its end is noticed, also while there is nothing to write.
	gone, why := make(chan struct{}), error(nil)
	go func() {
		defer close(gone)
		_, why = io.Copy(io.Discard, conn)
	}()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s.conn, s.how = conn, how
	// A datagram socket can always be made: only a message shows whether somebody is there.
	return outbox.Link{Gone: gone, Proven: how != datagram, Close: func() error {
		stop()
		select {
		case <-gone: // before we end it
			conn.Close()
			if why == nil {
				why = errGone
			}
			return s.fail(why)
		default:
		}
		conn.Close()
		<-gone
		return nil
	}}, nil
}

// deliver writes one message.
func (s *sender) deliver(_ context.Context, batch [][]byte) error {
	s.frame = s.how.frame(s.frame[:0], batch[0])
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return s.fail(err)
	}
	if _, err := s.conn.Write(s.frame); err != nil {
		return s.fail(err)
	}
	return nil
}

// fail keeps an error. A refusal on udp answers the message before: a unix socket refuses the one at hand.
func (s *sender) fail(err error) error {
	s.failed = err
	if s.conn != nil && s.conn.LocalAddr().Network() == "udp" && errors.Is(err, syscall.ECONNREFUSED) {
		s.refused.Add(1)
	}
	return err
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
