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

// What the monitor tells the program that it starts, in the environment.
const (
	EnvAddr       = "HEARTBEAT_ADDR"      // where to beat
	EnvEvery      = "HEARTBEAT_EVERY"     // how often, as a Go duration
	EnvRestarts   = "MONITOR_RESTARTS"    // how often the program was restarted before
	EnvLastReason = "MONITOR_LAST_REASON" // why the last time, empty for the first start
)

// Options are a Client's. Only Addr is required.
type Options struct {
	Addr  string        // the monitor's heartbeat address: ipc:///path or tcp://127.0.0.1:port
	Every time.Duration // between two beats, 500 ms if zero. It has to be shorter than the monitor's timeout; shorter than 10 ms is a waste

	// Healthy returns nil while the program gets on, else why it doesn't: no beat is sent then. nil: always healthy.
	// It may block, which counts as not getting on.
	Healthy func() error

	// Phase returns the program's phase. While it is draining beats go on whatever Healthy says. nil: always running.
	Phase func() Phase

	Log *slog.Logger // hears when beats stop and go on; slog.Default() if nil
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

// Run beats at once and then every Options.Every, until ctx ends; then it returns nil. It is called once, in a
// goroutine of its own, with a context that outlives the program's draining. A monitor that is away, stopped or slow
// costs beats, which are counted, and nothing else. The only errors come at the start: an address that is none.
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
			c.tell(err)
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

func (c *Client) tell(err error) {
	if err != nil {
		c.o.Log.Warn("heartbeats stop", "error", err)
		return
	}
	c.o.Log.Info("heartbeats go on")
}

// Stats counts beats.
type Stats struct {
	Sent    uint64 // taken by the socket
	Held    uint64 // not sent because the program was not healthy
	Dropped uint64 // not sent because no monitor took them
}

// Stats returns the counts. It may be called from any goroutine.
func (c *Client) Stats() Stats { return Stats{c.sent.Load(), c.held.Load(), c.dropped.Load()} }
