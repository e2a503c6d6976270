package web

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// slowBody is how long a body may take while the server is full; a request with a slower one gives its place up. Decent
// clients send a body within a round trip or two.
const slowBody = time.Second

// retryAfter is the Retry-After, in seconds, for a client that was turned away: a burst is over by then.
const retryAfter = "1"

var (
	errOverloaded = errors.New("web: the bodies of all requests together are too large")
	errGaveWay    = errors.New("web: the body took too long for a server that is full")
)

// load bounds what all requests together hold: how many are in flight, and how many bytes of their bodies have been
// read. A byte counts from the moment it is read until its request ends. A Content-Length doesn't count, since it may be
// a lie. When a bound is reached, the request whose body has taken longest is ended, if that is longer than slowBody: so
// slow clients can't keep the places from others. If there is no such request, the new one gets 503.
type load struct {
	maxRequests int
	maxBytes    int64

	mu       sync.Mutex
	requests int   // in flight, without those that gave way
	bytes    int64 // read, of the bodies of all requests in flight
	bodies   map[*body]struct{}
}

// body is the body of one request, while it is being read.
type body struct {
	io.ReadCloser
	load    *load
	conn    *http.ResponseController
	began   time.Time // zero: nobody has read yet
	bytes   int64     // read
	waiting bool      // somebody waits in Read
	gave    bool      // its request gave its place up
	over    bool      // there was no room for what was read: the bytes from here on are missing
}

// shed is the stage that bounds all clients together.
func shed(next http.Handler, s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if probe(r) {
			next.ServeHTTP(w, r)
			return
		}
		if !s.load.admit() {
			w.Header().Set("Retry-After", retryAfter)
			refuse(w, r, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many requests at once"})
			return
		}
		var b *body
		if r.ContentLength != 0 {
			b = &body{ReadCloser: r.Body, load: s.load, conn: http.NewResponseController(w)}
			r.Body = b
		}
		defer s.load.leave(b)
		next.ServeHTTP(w, r)
	})
}

func (l *load) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests >= l.maxRequests {
		l.makeRoom()
	}
	if l.requests >= l.maxRequests {
		return false
	}
	l.requests++
	return true
}

// leave ends what admit began. b is nil for a request without a body.
func (l *load) leave(b *body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b == nil {
		l.requests--
		return
	}
	delete(l.bodies, b)
	l.bytes -= b.bytes
	if !b.gave {
		l.requests--
	}
}

// makeRoom ends the reading of the slowest body, if there is a slow one. Its Read returns an error.
func (l *load) makeRoom() {
	var slowest *body
	for b := range l.bodies {
		if b.waiting && !b.gave && (slowest == nil || b.began.Before(slowest.began)) {
			slowest = b
		}
	}
	if slowest == nil || time.Since(slowest.began) < slowBody {
		return
	}
	slowest.gave = true
	l.requests--
	// While waiting is true its request can't end, so this can't hit the next request on the same connection.
	_ = slowest.conn.SetReadDeadline(time.Unix(1, 0))
}

// Read reads as the body underneath does, within the bounds of all bodies.
func (b *body) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	return b.end(n, err)
}

func (b *body) begin() error {
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	switch {
	case b.gave:
		return errGaveWay
	case b.over:
		return errOverloaded
	}
	if b.began.IsZero() {
		b.began = time.Now()
		b.load.bodies[b] = struct{}{}
	}
	b.waiting = true
	return nil
}

func (b *body) end(n int, err error) (int, error) {
	l := b.load
	l.mu.Lock()
	defer l.mu.Unlock()
	b.waiting = false
	switch {
	case b.gave:
		return 0, errGaveWay
	case l.bytes+int64(n) > l.maxBytes:
		l.makeRoom()
		delete(l.bodies, b)
		b.over = true
		return 0, errOverloaded
	}
	l.bytes += int64(n)
	b.bytes += int64(n)
	if err != nil {
		delete(l.bodies, b)
	}
	return n, err
}
