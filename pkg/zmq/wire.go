package zmq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The bits of a frame's first byte (ZMTP 3.0, "framing").
const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

const (
	greetingBytes = 64 // ZMTP 3.0; no frames before its end
	// A READY with a socket type and the longest identity has 300 bytes, a PING at most 24.
	maxCommand = 4 << 10
	// A PONG repeats at most this much of its PING (ZMTP 3.1, "connection heartbeating").
	maxPingContext = 16
	// What each frame counts besides its bytes, so that endless empty frames reach the limit, too.
	frameOverhead = 64
	// Reads and writes of small messages share system calls; large ones bypass the buffers.
	wireBuffer = 16 << 10
	// A batch is one large frame, so that only headers go through the buffers.
	pipeBuffer = 512
)

// errPeer is wrapped by the errors of a peer that broke the protocol, as opposed to a connection that ended.
var errPeer = errors.New("the peer broke the protocol")

// wire is a connection that is safe for the library to read. It passes greeting and frames on, but checks each frame's
// header before the library sees it and reserves memory for it. After the handshake it answers PING, drops other commands,
// and buffers what is written until flush.
type wire struct {
	net.Conn
	limit uint64 // bytes of one message, with frameOverhead for each of its frames

	in       *bufio.Reader
	greeting int    // bytes of it that are still to come
	header   []byte // of the present frame: the part that the library has not read yet
	body     uint64 // of the present frame: the bytes that the library has not read yet
	message  uint64 // the bytes of the present message so far
	scratch  [9]byte

	ready   bool       // the handshake is over
	mu      sync.Mutex // for writing: messages come from one goroutine, PONGs from another
	out     *bufio.Writer
	written countingWriter
}

// countingWriter counts the bytes that the connection has accepted.
type countingWriter struct {
	io.Writer
	n int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += n
	return n, err
}

func newWire(nc net.Conn, maxMessage, buffer int) *wire {
	w := &wire{
		Conn: nc, limit: uint64(maxMessage) + frameOverhead,
		in: bufio.NewReaderSize(nc, buffer), greeting: greetingBytes,
		written: countingWriter{Writer: nc},
	}
	w.out = bufio.NewWriterSize(&w.written, buffer)
	return w
}

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	if w.greeting > 0 {
		n, err := w.in.Read(p[:min(len(p), w.greeting)])
		w.greeting -= n
		return n, err
	}
	for len(w.header) == 0 && w.body == 0 {
		if err := w.nextFrame(); err != nil {
			return 0, err
		}
	}
	if len(w.header) > 0 {
		n := copy(p, w.header)
		w.header = w.header[n:]
		return n, nil
	}
	if uint64(len(p)) > w.body {
		p = p[:w.body]
	}
	n, err := w.in.Read(p)
	w.body -= uint64(n)
	return n, err
}

// nextFrame reads a frame's header and checks it.
func (w *wire) nextFrame() error {
	head := w.scratch[:2]
	if _, err := io.ReadFull(w.in, head); err != nil {
		return err
	}
	flags, size := head[0], uint64(head[1])
	if flags&flagLong != 0 {
		head = w.scratch[:9]
		if _, err := io.ReadFull(w.in, head[2:]); err != nil {
			return err
		}
		size = binary.BigEndian.Uint64(head[1:])
	}
	switch {
	case flags&^(flagMore|flagLong|flagCommand) != 0:
		return fmt.Errorf("%w: frame with flags %#x", errPeer, flags)
	case flags&flagCommand != 0:
		if flags&flagMore != 0 || size > maxCommand {
			return fmt.Errorf("%w: command of %d bytes with flags %#x", errPeer, size, flags)
		}
		if w.ready {
			return w.command(int(size))
		}
	case size > w.limit || w.message+size+frameOverhead > w.limit:
		return fmt.Errorf("%w: a message with a frame of %d bytes is over the limit", errPeer, size)
	default:
		w.message += size + frameOverhead
		if flags&flagMore == 0 {
			w.message = 0
		}
	}
	w.header, w.body = head, size
	return nil
}

// command reads a command's body and answers it if it is a PING: two bytes of time to live, then a context to repeat.
func (w *wire) command(size int) error {
	body := make([]byte, size)
	if _, err := io.ReadFull(w.in, body); err != nil {
		return err
	}
	const ping, ttl = "\x04PING", 2
	if len(body) < len(ping)+ttl || string(body[:len(ping)]) != ping {
		return nil
	}
	echo := body[len(ping)+ttl:]
	pong := append([]byte("\x04PONG"), echo[:min(len(echo), maxPingContext)]...)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Write([]byte{flagCommand, byte(len(pong))})
	w.out.Write(pong)
	return w.out.Flush()
}

// Write implements io.Writer. In the handshake it writes at once; later the lock is held and flush follows.
func (w *wire) Write(p []byte) (int, error) {
	if !w.ready {
		return w.Conn.Write(p)
	}
	return w.out.Write(p)
}

// frameBytes returns the bytes on the wire of a frame with a message of n bytes.
func frameBytes(size int) int {
	if size > 255 {
		return 9 + size
	}
	return 2 + size
}
