package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pumpBytes = 16 << 10 // a read of the program's output
	keepLines = 200      // the last lines that a report holds
	lineBytes = 4 << 10  // of each line; the rest is left out
	keepTrace = 512 << 10
	// How long the monitor waits for the rest of a line that the program has begun.
	lineTime = 50 * time.Millisecond
)

// sink is one of the monitor's own outputs. One goroutine writes at a time: it holds the turn. A write blocks while
// nobody reads.
type sink struct {
	w       io.Writer
	turn    chan struct{}
	midLine bool
}

func newSink(w io.Writer) *sink {
	s := &sink{w: w, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// newSinks returns the sinks of stdout and stderr. It is the same one if both are the same file, as in a container and
// on a terminal: then a line on one does not break a line on the other.
func newSinks(out, err io.Writer) (*sink, *sink) {
	s := newSink(out)
	if sameFile(out, err) {
		return s, s
	}
	return s, newSink(err)
}

func sameFile(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, alsoOK := b.(*os.File)
	if !ok || !alsoOK {
		return false
	}
	s, err := f.Stat()
	t, alsoErr := g.Stat()
	return err == nil && alsoErr == nil && os.SameFile(s, t)
}

// write passes the program's bytes on unchanged. It waits for its turn until ctx ends. It ignores errors: the program
// goes on when the reader of its output is gone.
func (s *sink) write(ctx context.Context, p []byte) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return
	}
	defer func() { s.turn <- struct{}{} }()
	_, _ = s.w.Write(p)
	s.midLine = len(p) > 0 && p[len(p)-1] != '\n'
}

// writeOwn writes a line of the monitor between two lines of the program. If the program has begun a line, it waits
// for the rest for lineTime, and then breaks the line: a prompt never ends.
func (s *sink) writeOwn(line []byte) {
	begin := time.Now()
	for {
		<-s.turn
		if s.midLine && time.Since(begin) < lineTime {
			s.turn <- struct{}{}
			<-time.After(lineTime / 10)
			continue
		}
		break
	}
	defer func() { s.turn <- struct{}{} }()
	if s.midLine {
		_, _ = s.w.Write([]byte("\n"))
	}
	_, _ = s.w.Write(line)
	s.midLine = false
}

// capture passes a program's output on, and keeps the end of it.
type capture struct {
	mu      sync.Mutex
	lines   [keepLines][]byte // a ring
	count   int
	trace   []byte
	tracing bool

	before  <-chan struct{} // closed when the output of the life before is passed on; nil if there was none
	files   []*os.File
	pumps   sync.WaitGroup
	ctx     context.Context // bounds the waits for a turn; ends some time after the program
	cancel  context.CancelFunc
	drained chan struct{} // closed when the whole output is read
}

// newCapture returns a capture. Its pumps wait for those of the life before, so that the outputs of two lives don't mix.
func newCapture(last *capture) *capture {
	c := &capture{drained: make(chan struct{})}
	if last != nil {
		c.before = last.ctx.Done()
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// pump copies r to the sink until it ends, in a goroutine of its own.
func (c *capture) pump(r *os.File, to *sink, isStderr bool) {
	c.files = append(c.files, r)
	c.pumps.Go(func() {
		defer r.Close()
		if c.before != nil {
			<-c.before // at most drainTime after that life's end
		}
		buf := make([]byte, pumpBytes)
		held := 0 // bytes at the begin of buf that wait for the rest of their line
		var line []byte
		for {
			n, err := r.Read(buf[held:])
			line = c.keep(line, buf[held:held+n], isStderr)
			have := buf[:held+n]
			whole := len(have)
			if err == nil && have[whole-1] != '\n' && waits(r) { // the rest of the line is in the pipe already
				whole = bytes.LastIndexByte(have, '\n') + 1
				if whole == 0 {
					whole = len(have)
				}
			}
			if whole > 0 {
				to.write(c.ctx, have[:whole])
			}
			held = copy(buf, have[whole:])
			if err != nil { // the end, or finish's deadline
				if len(line) > 0 {
					c.keep(line, []byte("\n"), isStderr)
				}
				return
			}
		}
	})
}

// waits returns whether there is more to read.
func waits(r *os.File) bool {
	n := 0
	if c, err := r.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n > 0
}

// finish lets the pumps read what the dead program wrote, for drainTime at most.
func (c *capture) finish() {
	for _, f := range c.files {
		_ = f.SetReadDeadline(time.Now().Add(drainTime))
	}
	give := time.AfterFunc(drainTime, c.cancel)
	go func() {
		c.pumps.Wait()
		give.Stop()
		c.cancel()
		close(c.drained)
	}()
}

// keep splits what was read into lines. It keeps the whole ones and returns the begun one.
func (c *capture) keep(begun, p []byte, isStderr bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		begun = append(begun, part[:min(len(part), lineBytes-min(lineBytes, len(begun)))]...)
		if i < 0 {
			return begun
		}
		slot := &c.lines[c.count%keepLines]
		*slot = append((*slot)[:0], begun...)
		c.count++
		if isStderr {
			c.traceLine(begun)
		}
		begun, p = begun[:0], p[i+1:]
	}
}

// What the Go runtime prints before the stacks when it gives up, or is asked to by SIGQUIT.
var crashBegins = [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("SIGQUIT: "), []byte("SIGABRT: "),
	[]byte("runtime: "), []byte("unexpected fault address ")}

// traceLine keeps a Go program's stacks: they are mostly longer than the lines that are kept. The lock is held.
func (c *capture) traceLine(line []byte) {
	for _, begin := range crashBegins {
		if bytes.HasPrefix(line, begin) {
			if c.tracing = true; bytes.Contains(c.trace, []byte("\ngoroutine ")) {
				c.trace = c.trace[:0] // the program survived the crash that it printed before
			}
		}
	}
	if c.tracing && len(c.trace)+len(line) < keepTrace {
		c.trace = append(append(c.trace, line...), '\n')
	}
}

// tail waits for the output's end, at most until ctx ends, and returns the last lines and the stacks.
func (c *capture) tail(ctx context.Context) (lines []string, trace []byte) {
	select {
	case <-c.drained:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := max(0, c.count-keepLines); i < c.count; i++ {
		lines = append(lines, string(bytes.ToValidUTF8(c.lines[i%keepLines], []byte("\uFFFD"))))
	}
	return lines, bytes.Clone(c.trace)
}
