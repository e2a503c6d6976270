package web

import (
	"crypto/tls"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// refusalTimeout bounds the writing of a 503 to a connection that is turned away. The text fits an empty socket
// buffer, so that it takes no time at all unless something is very wrong.
const refusalTimeout = 100 * time.Millisecond

// conns is a listener that bounds how many connections are open, and knows which of them wait for a request: new
// ones whose header has not come, and idle ones. When all places are taken, the connection that waits longest is closed,
// so that silent clients, however many, lock nobody out. If none waits, the new connection gets a 503.
//
// A connection counts until its goroutine in http.Server ends, which calls state.
type conns struct {
	net.Listener
	max int
	tls bool // the clients speak TLS: what is not TLS would be noise to them
	log *slog.Logger

	mu      sync.Mutex
	began   time.Time
	open    map[net.Conn]uint64 // since when it waits, in nanoseconds since began, or busy, or leaving
	left    int                 // how many of them are leaving
	turn    uint64              // the last time that now returned; no two are the same
	ending  bool                // a connection that begins to wait is closed
	emptied chan struct{}       // closed when nothing is open; nil until gone was called
}

// The values in conns.open for a connection that does not wait. Times lie between the two.
const (
	busy    = 0
	leaving = math.MaxUint64 // closed to make room: it counts no more, but its goroutine has not ended yet
)

// Accept returns the next connection that finds a place.
func (l *conns) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.admit(c) {
			return c, nil
		}
		l.turnAway(c)
	}
}

func (l *conns) admit(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open)-l.left >= l.max {
		longest := l.longestWaiting()
		if longest == nil {
			return false
		}
		l.open[longest] = leaving
		l.left++
		_ = longest.Close()
	}
	l.open[c] = l.now()
	return true
}

func (l *conns) now() uint64 {
	l.turn = max(l.turn+1, uint64(time.Since(l.began)))
	return l.turn
}

func (l *conns) longestWaiting() (longest net.Conn) {
	least := uint64(leaving)
	for c, since := range l.open {
		if since != busy && since < least {
			longest, least = c, since
		}
	}
	return longest
}

// turnAway answers 503 and closes the connection. A client that is still sending its request may see a reset instead:
// the server is full, and does not wait for the request.
func (l *conns) turnAway(c net.Conn) {
	l.log.Warn("connection refused: all places are taken by requests", "max_conns", l.max)
	if l.tls {
		_ = c.Close()
		return
	}
	p := Problem{Status: http.StatusServiceUnavailable, Detail: "too many requests at once", RequestID: newID()}
	body := string(p.document())
	answer := http.Response{ProtoMajor: 1, ProtoMinor: 1, StatusCode: p.Status, Close: true,
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {problemType}, "Retry-After": {retryAfter}, "X-Request-Id": {p.RequestID}}}
	_ = c.SetDeadline(time.Now().Add(refusalTimeout))
	_ = answer.Write(c)
	_ = c.Close()
}

// state is http.Server's ConnState hook.
func (l *conns) state(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // what Accept returned
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.open[c] == leaving
	switch {
	case state == http.StateClosed || state == http.StateHijacked:
		if left {
			l.left--
		}
		delete(l.open, c)
		l.signalEmptied()
	case left:
	case state == http.StateActive:
		l.open[c] = busy
	case state == http.StateIdle:
		l.open[c] = l.now()
		if l.ending {
			_ = c.Close()
		}
	}
}

// closeWaiting closes the connections that have waited for a request for long or longer. With 0 it closes all that wait,
// and those that begin to wait later.
func (l *conns) closeWaiting(long time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = long == 0
	now := l.now()
	for c, since := range l.open {
		if since != busy && since <= now && now-since >= uint64(long) {
			_ = c.Close()
		}
	}
}

// gone returns a channel that is closed once no connection is left. It is asked for once, after the listener closed.
func (l *conns) gone() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emptied = make(chan struct{})
	l.signalEmptied()
	return l.emptied
}

// signalEmptied closes emptied if nothing is open. The lock is held.
func (l *conns) signalEmptied() {
	if l.emptied != nil && len(l.open) == 0 {
		close(l.emptied)
	}
}

func (l *conns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// newID returns a UUIDv7 (RFC 9562): sorted by time, so that ids of one minute stand together.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
