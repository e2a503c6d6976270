// Package faultserver has servers that fail, one for each way in which a service can. They are for the tests of everything
// that calls other services: whatever the other end does, the app must start, work and end as if it were not there.
package faultserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The names of the servers that tests tell apart.
const (
	Nonsense = "nonsense" // the status is good, but the body is not
	Moved    = "moved"
	NoName   = "no such name"
)

// Server is a server that fails in one way.
type Server struct {
	Name  string
	Final bool                           // it refuses for good: a retry is no use
	Start func(*testing.T) (addr string) // host:port; it ends with the test
}

// Servers returns one of each kind.
func Servers() []Server {
	return []Server{
		{"refused", false, func(t *testing.T) string {
			l := listen(t)
			_ = l.Close()
			return l.Addr().String()
		}},
		// The kernel accepts the connection, and nobody ever answers.
		{"black hole", false, func(t *testing.T) string { return listen(t).Addr().String() }},
		{"slow drip", false, drip},
		{"500s", false, answering(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })},
		{"429 with Retry-After", false, answering(func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			// Telegram has the wait in the body.
			_, _ = io.WriteString(w, `{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":3600}}`)
		})},
		{"huge body", true, answering(func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			for range 1 << 12 { // 256 MiB
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})},
		{"refused with nonsense", true, answering(func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "\x00\xff\n{not what it says")
		})},
		{Nonsense, true, answering(func(w http.ResponseWriter) { _, _ = io.WriteString(w, "\x00\xff\n<html>not what it says") })},
		{Moved, true, answering(func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.WriteHeader(http.StatusFound)
		})},
		{NoName, false, func(*testing.T) string { return "service.invalid:80" }},
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// answering starts a server that reads each request and answers with its content type.
func answering(answer func(http.ResponseWriter)) func(*testing.T) string {
	return func(t *testing.T) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			answer(w)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
}

// drip starts a server that answers one byte at a time, for minutes.
func drip(t *testing.T) string {
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Long: " + strings.Repeat("x", 10_000)) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					select {
					case <-time.After(20 * time.Millisecond):
					case <-ctx.Done():
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
