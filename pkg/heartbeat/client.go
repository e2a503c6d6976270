package heartbeat

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/zmq"
)

const (
	// Two beats in each of the monitor's default timeouts (1 s), so that a late one is not a missed one.
	defaultEvery = 500 * time.Millisecond
	// A beat is some dozen bytes.
	maxMessage = 1 << 10
)

// The environment variables that the monitor sets for its program.
const (
	EnvAddr       = "HEARTBEAT_ADDR"      // where to beat
	EnvEvery      = "HEARTBEAT_EVERY"     // how often, as a Go duration
	EnvRestarts   = "MONITOR_RESTARTS"    // how often the program was restarted before
	EnvLastReason = "MONITOR_LAST_REASON" // why the last time, empty for the first start
)

// Options are a Client's. Only Addr is required.
type Options struct {
	Addr  string        // the monitor's heartbeat address: ipc:///path or tcp://127.0.0.1:port
	Every time.Duration // between two beats, 500 ms if zero. It must be shorter than the monitor's timeout; below 10 ms is waste

	// Healthy returns nil while the program makes progress, else the reason why not: then no beat is sent. nil: always
	// healthy. While it blocks, no beat is sent either.
	Healthy func() error

	// Phase returns the program's phase. While it is Draining, beats are sent whatever Healthy returns. nil: always
	// Running.
	Phase func() Phase

	Log *slog.Logger // for lines when beats stop and go on; slog.Default() if nil
}

// Client sends a program's beats.
type Client struct {
	o       Options
	beat    Beat
	buf     []byte
	silent  bool // Healthy was not nil
	sent    atomic.Uint64
	held    atomic.Uint64
	dropped atomic.Uint64
}

// New returns a Client that does nothing until Run.
func New(o Options) *Client {
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	if o.Phase == nil {
		o.Phase = func() Phase { return Running }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Client{o: o, beat: Beat{PID: os.Getpid()}}
}

// Run beats at once and then every Options.Every, until ctx ends; then it returns nil. It is called once, in a goroutine
// of its own, with a context that outlives the program's draining. If the monitor is away, stopped or slow, beats are
// dropped and counted; nothing else happens. The only error is at the start: a malformed address.
func (c *Client) Run(ctx context.Context) error {
	// A context of its own: the program's socket context ends when the draining begins.
	sockets := zmq.NewContext(zmq.Options{MaxMessage: maxMessage, Log: c.o.Log})
	push, err := sockets.Connect(ctx, zmq.Push, c.o.Addr)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	defer push.Close()
	ticker := time.NewTicker(c.o.Every)
	defer ticker.Stop()
	for {
		c.once(ctx, push)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// once sends one beat, if one is due.
func (c *Client) once(ctx context.Context, push *zmq.Socket) {
	phase := c.o.Phase()
	if phase != Draining {
		err := c.o.Healthy()
		if (err != nil) != c.silent {
			c.silent = err != nil
			c.logChange(err)
		}
		if err != nil {
			c.held.Add(1)
			return
		}
	}
	c.beat.N++
	c.beat.Phase = phase
	c.buf = c.beat.Append(c.buf[:0])
	wait, cancel := context.WithTimeout(ctx, c.o.Every/2)
	defer cancel()
	if push.Send(wait, c.buf) != nil {
		c.dropped.Add(1)
		return
	}
	c.sent.Add(1)
}

// logChange logs that beats stop because of err, or go on if err is nil.
func (c *Client) logChange(err error) {
	if err != nil {
		c.o.Log.Warn("heartbeats stop", "error", err)
		return
	}
	c.o.Log.Info("heartbeats go on")
}

// Stats counts beats.
type Stats struct {
	Sent    uint64 // accepted by the socket
	Held    uint64 // not sent because the program was not healthy
	Dropped uint64 // not sent because no monitor received them
}

// Stats returns the counts. It may be called from any goroutine.
func (c *Client) Stats() Stats { return Stats{c.sent.Load(), c.held.Load(), c.dropped.Load()} }
