// Package web is the edge towards the network: an HTTP server that stays up whatever its clients do.
//
// It promises:
//   - bounds: for the time of header and body, header size, connections, requests in flight, bytes of their bodies, and
//     each client's rate
//   - a request id and a log line for each request
//   - a problem document (RFC 9457) for whatever goes wrong, or a page for a client that prefers HTML
//   - an orderly end: requests in flight are answered, within a limit
//   - a panic in a handler ends that request, never the process
//
// Each request passes these stages, outermost first:
//
//	identify ─► log ─► recover ─► secure ─► limit ─► shed ─► route ─► Options.Handler
//	   │         │        │          │        │        │        └ the mux's own 404 and 405 become problems; POST /feedback
//	   │         │        │          │        │        └ 503 when the server is full
//	   │         │        │          │        └ 429 for a client that asks too often, 431 for too many header fields
//	   │         │        │          └ headers that make browsers careful
//	   │         │        └ a panic becomes a 500, logged and reported
//	   │         └ one line when it is over, however it ends
//	   └ who asks, and X-Trace-ID or X-Request-ID or a new id; in the context, and on the answer
//
// A client over its rate gets a 429 even when the server is full, and a request that is shed counts in its rate.
// /healthz, /readyz and /version are neither limited nor shed.
//
// Options.Trace stands between identify and log.
//
// net/http itself answers a request that it cannot parse (400, 431, 501, 505); such a request has no id.
//
// X-Forwarded-For counts only when a trusted proxy sent it. HTTP/2 is spoken only with TLS. There is no CORS: no other
// site's script reads an answer. Client is for calls to other servers.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
)

// The defaults of Options, each a bound on what one client can hold.
const (
	// A header is one packet or a few; a client that needs longer is broken or hostile.
	DefaultReadHeaderTimeout = 5 * time.Second
	// A megabyte in 30 s is 280 kbit/s, a bad mobile line.
	DefaultReadTimeout = 30 * time.Second
	// The reading, a slow handler and the writing back, together.
	DefaultWriteTimeout = 60 * time.Second
	// Longer than the 60 s for which most load balancers keep a connection: they close it first. If we did, a request
	// might be on its way just then.
	DefaultIdleTimeout = 75 * time.Second
	// Room for long cookies and tokens; four times what nginx allows for one line. net/http adds 4 KiB of its own.
	DefaultMaxHeaderBytes = 32 << 10
	// With a goroutine and buffers a connection at rest costs about 20 KiB, and all of them 20 MiB.
	DefaultMaxConns = 1024
	// Half of the connections, so that there is always one left for the answer that the server is full.
	DefaultMaxRequests = 512
	// While a body grows, its buffer holds up to three times its bytes. That is 192 MiB, for a container of 512 MiB.
	DefaultMaxBodyBytes = 64 << 20
	// A third of the 30 s that a shutdown has, since queue and telemetry come after the edge.
	DefaultDrainTimeout = 10 * time.Second
)

const (
	// A connection that was accepted just before the end may have its request on the way; a round trip through a
	// continent is 100 ms. A connection that stays silent for longer is closed.
	silentGrace = 250 * time.Millisecond
	// A connection that has been idle for so long is closed at once; one that was in use a moment ago will be used again.
	idleLong = time.Second
	// Once a connection is cut its handler's context is cancelled, and the handler's reads and writes fail. A handler
	// that still runs a second later will not end.
	cutGrace = time.Second
	// The bounds of one HTTP/2 connection: the requests at once, as RFC 9113 recommends, and the bytes of bodies that
	// no handler has read yet. A stream gets the least that the protocol allows, the connection twice that.
	maxStreams    = 100
	streamBuffer  = 64 << 10
	streamsBuffer = 2 * streamBuffer
)

// Options says what to serve, and within which bounds. Handler is required; a zero limit means its default.
type Options struct {
	Addr    string       // host:port; an empty host means all addresses, port 0 a free one
	Handler http.Handler // usually an *http.ServeMux, whose 404 and 405 become problems
	Log     *slog.Logger // nil: silent

	// WithAttrs returns a context whose log records carry the attributes: how the request id gets into each line.
	// Nil: no line has it.
	WithAttrs func(context.Context, ...slog.Attr) context.Context
	// Trace is put around the stages from the log on: it knows the request's id, its context is the log line's, and
	// AnswerOf returns afterwards how the request was answered. Nil: nothing.
	Trace func(http.Handler) http.Handler
	// Report is called with each panic in a handler, after it was logged. It must not block. Nil: it is only logged.
	Report func(context.Context, *fault.Error)
	// Feedback is called with what people write into the form of the page for a 500; the form posts to /feedback. It
	// must not block. Nil: there is no form.
	Feedback func(context.Context, Feedback)
	// Level returns the level at which the end of a request is logged. Nil: INFO, failures (5xx) WARN, and /healthz and
	// /readyz DEBUG, where a 503 is an answer and no failure.
	Level func(r *http.Request, status int) slog.Level

	ReadHeaderTimeout time.Duration // from the connection's, or the last answer's, end to the header's end
	ReadTimeout       time.Duration // to the body's end
	WriteTimeout      time.Duration // from the header's end to the answer's end; too small cuts slow handlers off
	IdleTimeout       time.Duration // how long a connection may wait for its next request
	DrainTimeout      time.Duration // how long requests in flight may take when the server ends
	MaxHeaderBytes    int
	MaxConns          int   // too large and a flood fills the memory; too small and clients get 503
	MaxRequests       int   // in flight; more get 503
	MaxBodyBytes      int64 // of all bodies in flight, read so far; a request that needs more gets 503

	Rate  float64 // requests a second for each client and route; 0: no limit
	Burst int     // requests that may come at once after a pause; at least 1
	// TrustedProxies are the networks whose X-Forwarded-For is trusted. Nil: none is, and the client is the peer.
	TrustedProxies []netip.Prefix

	TLSCertFile, TLSKeyFile string // PEM; both or none. They are read anew when they change
}

// Server serves one listener. It is made by Listen or New and lives until Serve returns.
type Server struct {
	log   *slog.Logger
	conns *conns
	http  http.Server
	drain time.Duration
	cert  *certificate // nil: no TLS

	draining atomic.Bool // each answer is the last one of its connection
}

// Listen binds Options.Addr at once, so that a wrong or taken address is known before anything else starts. Such an
// error is of fault.KindConfig and its hint says what to do. The context bounds the look-up of a host name only.
func Listen(ctx context.Context, o Options) (*Server, error) {
	if o.Addr == "" {
		return nil, fault.Config("set WEB_ADDR to host:port, 127.0.0.1:8080 for example", errors.New("web: listen: the address is empty"))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cert, err := newCertificate(o.TLSCertFile, o.TLSKeyFile, o.Log)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, refusal(o.Addr, err)
	}
	s := New(l, o)
	s.speakTLS(cert)
	return s, nil
}

// speakTLS makes the server speak TLS, if there is a certificate.
func (s *Server) speakTLS(cert *certificate) {
	if cert == nil {
		return
	}
	s.cert = cert
	s.conns.tls = true
	s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	s.http.Protocols.SetHTTP2(true)
	s.http.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxStreams,
		MaxReceiveBufferPerConnection: streamsBuffer, MaxReceiveBufferPerStream: streamBuffer}
}

// refusal returns an error that says in plain words why addr can't be used.
func refusal(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.Config("stop that process, or set WEB_ADDR to another port",
			fmt.Errorf("web: listen: WEB_ADDR %s is in use by another process: %w", addr, err))
	case errors.Is(err, syscall.EACCES):
		return fault.Config("set WEB_ADDR to a port from 1024 on; lower ones need CAP_NET_BIND_SERVICE",
			fmt.Errorf("web: listen: WEB_ADDR %s is not allowed for this user: %w", addr, err))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fault.Config("set WEB_ADDR to an address that this machine has, or :port for all of them",
			fmt.Errorf("web: listen: WEB_ADDR %s is not an address of this machine: %w", addr, err))
	}
	return fault.Config("set WEB_ADDR to host:port, 127.0.0.1:8080 for example",
		fmt.Errorf("web: listen: WEB_ADDR %q can't be used: %w", addr, err))
}

// New returns a server for a listener that is already bound; the server closes it. The server speaks no TLS, and does
// not use Options.Addr and the files.
func New(l net.Listener, o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{log: o.Log, drain: or(o.DrainTimeout, DefaultDrainTimeout)}
	s.conns = &conns{Listener: l, max: or(o.MaxConns, DefaultMaxConns), log: o.Log, began: time.Now(), open: map[net.Conn]uint64{}}
	s.http = http.Server{
		Handler:                      chain(o, &s.draining),
		ReadHeaderTimeout:            or(o.ReadHeaderTimeout, DefaultReadHeaderTimeout),
		ReadTimeout:                  or(o.ReadTimeout, DefaultReadTimeout),
		WriteTimeout:                 or(o.WriteTimeout, DefaultWriteTimeout),
		IdleTimeout:                  or(o.IdleTimeout, DefaultIdleTimeout),
		MaxHeaderBytes:               or(o.MaxHeaderBytes, DefaultMaxHeaderBytes),
		ConnState:                    s.conns.state,
		ErrorLog:                     log.New(errorLog{o.Log}, "", 0),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" gets an id and a log line like all others
		Protocols:                    new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

func or[T time.Duration | int | int64](value, standard T) T {
	if value > 0 {
		return value
	}
	return standard
}

// Addr returns the address that the server is bound to, with the port that the system chose.
func (s *Server) Addr() net.Addr { return s.conns.Addr() }

// Serve answers requests until ctx ends. Then it takes no new connections, closes those that wait for a request, and
// lets the others finish within DrainTimeout; what is left is cut off and counted in the log. It returns nil after
// that, an error of fault.KindUnclean if a handler runs on although its connection is gone, and before ctx's end
// only if the listener fails. It is called once; with a context that has ended it just closes the listener.
//
// Handlers run in a context that has ctx's values but outlives it until their own connection ends.
func (s *Server) Serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	// A Worker belongs to one goroutine. Each connection gets one of its own with the same name: log lines carry the
	// name, and a handler that waits is not taken for this goroutine.
	self := worker.FromContext(ctx)
	s.http.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return worker.NewContext(ctx, worker.New(self.Name()))
	}

	failed := make(chan error, 1)
	go func() {
		if s.cert != nil {
			failed <- s.http.ServeTLS(s.conns, "", "") // with TLSConfig's certificate
		} else {
			failed <- s.http.Serve(s.conns)
		}
	}()
	place := "accept " + s.Addr().String()
	self.Park(&place)
	defer self.Unpark()
	select {
	case err := <-failed:
		_ = s.http.Close()
		return fmt.Errorf("web: serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	// Not http.Server.Shutdown or SetKeepAlivesEnabled: they close idle connections at once, although the next request
	// may be on its way, they wait five seconds for silent connections, and they poll.
	s.draining.Store(true)
	_ = s.conns.Close()
	<-failed
	return s.finish()
}

// HangUp makes every answer from now on the last one of its connection, so that clients and proxies look for another
// server. New connections are still accepted. It is for the time between the end of readiness and the end of Serve.
func (s *Server) HangUp() { s.draining.Store(true) }

// finish waits for the connections that are left: first for all but the long idle ones, then for those with a request,
// and cuts off the rest.
func (s *Server) finish() error {
	gone := s.conns.gone()
	s.conns.closeWaiting(idleLong)
	if within(silentGrace, gone) {
		return nil
	}
	s.conns.closeWaiting(0)
	if within(s.drain, gone) {
		return nil
	}
	s.log.Warn("requests cut off, they took too long to end", "addr", s.Addr().String(), "count", s.conns.count(), "waited", s.drain)
	_ = s.http.Close()
	if within(cutGrace, gone) {
		return nil
	}
	return &fault.Error{Kind: fault.KindUnclean, Op: "web: stop", Subject: s.Addr().String(),
		Err: fmt.Errorf("%d handlers still run %v after their connections were cut", s.conns.count(), cutGrace)}
}

// within waits until done is closed, for d at most, and returns whether it was.
func within(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
