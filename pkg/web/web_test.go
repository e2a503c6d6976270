package web_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

func TestListenSaysWhatToDoAboutAnAddressThatCannotBeHad(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ name, addr, text, hint string }{
		{"in use", taken.Addr().String(), "is in use by another process", "stop that process"},
		{"not of this machine", "192.0.2.1:8080", "is not an address of this machine", "set WEB_ADDR"},
		{"no port", "127.0.0.1", "can't be used", "host:port"},
		{"a port beyond all", "127.0.0.1:99999", "can't be used", "host:port"},
		{"empty", "", "is empty", "host:port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := web.Listen(t.Context(), web.Options{Addr: c.addr, Handler: http.NotFoundHandler()})
			if err == nil {
				t.Fatal("it listens")
			}
			if have := fault.ExitCode(err); have != fault.ExitConfig {
				t.Errorf("exit code: have %d, want %d", have, fault.ExitConfig)
			}
			if !strings.Contains(err.Error(), c.text) || c.addr != "" && !strings.Contains(err.Error(), c.addr) {
				t.Errorf("have %q, want %q and the address in it", err, c.text)
			}
			if have := fault.Hint(err); !strings.Contains(have, c.hint) || !strings.Contains(have, "WEB_ADDR") && c.name != "in use" {
				t.Errorf("hint: have %q, want %q in it", have, c.hint)
			}
		})
	}
}

func TestServeWithAnEndedContextOnlyClosesTheListener(t *testing.T) {
	s, err := web.Listen(t.Context(), web.Options{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Fatal("the port still answers")
	}
}

func TestServeReturnsEarlyIfItsListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(l, web.Options{Handler: http.NotFoundHandler()})
	_ = l.Close()
	if err := s.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("have %v, want %v", err, net.ErrClosed)
	}
}

func TestAWorkerThatServesIsParkedAndLendsHandlersOnlyItsName(t *testing.T) {
	self := worker.New("web")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan *worker.Worker, 1)
	s := web.New(l, web.Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- worker.FromContext(r.Context())
	})})
	ctx, cancel := context.WithCancel(worker.NewContext(t.Context(), self))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if w := <-seen; w == self || w.Name() != "web" {
		t.Errorf("the handler runs as %p %q, want another one named web", w, w.Name())
	}
	if place, parked := self.Parked(); !parked || place != "accept "+l.Addr().String() {
		t.Errorf("have parked %v at %q", parked, place)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, parked := self.Parked(); parked {
		t.Error("still parked after the end")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestSlowAndOversizeHeaders(t *testing.T) {
	e := start(t, web.Options{Handler: http.HandlerFunc(ok)})
	impatient := start(t, web.Options{Handler: http.HandlerFunc(ok), ReadHeaderTimeout: 50 * time.Millisecond})
	t.Run("a header that never ends is cut off", func(t *testing.T) {
		w := impatient.dial(t)
		w.send("GET / HTTP/1.1\r\nHost: app\r\nX-Slow: ")
		if have := w.closed(); strings.Contains(have, "200 OK") {
			t.Errorf("have %q", have)
		}
	})
	t.Run("silence is cut off", func(t *testing.T) { impatient.dial(t).closed() })
	t.Run("a header over the limit is a 431", func(t *testing.T) {
		w := e.dial(t)
		w.send("GET / HTTP/1.1\r\nHost: app\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 2*web.DefaultMaxHeaderBytes))
		if resp, _ := w.answer(); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("have %s", resp.Status)
		}
	})
	t.Run("HTTP/2 without TLS is not spoken", func(t *testing.T) {
		w := e.dial(t)
		w.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		if have := w.closed(); !strings.HasPrefix(have, "HTTP/1.1 ") {
			t.Errorf("have %q, want a refusal in HTTP/1.1", have)
		}
	})
}

// hold is a handler whose requests say that they arrived and stay until they are let go.
type hold struct{ arrived, letGo chan struct{} }

func newHold() hold { return hold{make(chan struct{}, 16), make(chan struct{})} }

func (h hold) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/hold" {
		h.arrived <- struct{}{}
		<-h.letGo
	}
	ok(w, r)
}

const getHold, getPlain = "GET /hold HTTP/1.1\r\nHost: app\r\n\r\n", "GET / HTTP/1.1\r\nHost: app\r\n\r\n"

func TestWhenAllPlacesAreTaken(t *testing.T) {
	t.Run("the one that waits longest gives way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := startInBubble(t, web.Options{Handler: http.HandlerFunc(ok), MaxConns: 2})
			idle, silent := e.dial(t), e.dial(t)
			idle.send(getPlain)
			idle.answer()
			for range 2 {
				synctest.Wait() // a client may have its answer before the server knows that it waits again
				another := e.dial(t)
				another.send(getPlain)
				if resp, _ := another.answer(); resp.StatusCode != http.StatusOK {
					t.Fatalf("have %s", resp.Status)
				}
			}
			for _, w := range []*wire{silent, idle} {
				_ = w.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := w.r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("want the connection closed, have %v", err)
				}
			}
		})
	})
	h := newHold()
	e := start(t, web.Options{Handler: h, MaxConns: 2})
	t.Run("a request in flight never gives way, the new one gets a 503", func(t *testing.T) {
		first, second := e.dial(t), e.dial(t)
		first.send(getHold)
		<-h.arrived
		second.send(getHold)
		<-h.arrived
		resp, body := e.dial(t).answer() // it sends nothing, so that no reset can overtake the answer
		if p := problem(t, resp, body); p.Status != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("have %d %v", p.Status, resp.Header)
		}
		e.logs.find(t, "connection refused: all places are taken by requests")
		close(h.letGo)
		for _, w := range []*wire{first, second} {
			if resp, _ := w.answer(); resp.StatusCode != http.StatusOK {
				t.Errorf("have %s", resp.Status)
			}
		}
	})
	t.Run("and a place that is free again is given", func(t *testing.T) {
		if resp, _ := e.ask(t, "GET", "/"); resp.StatusCode != http.StatusOK {
			t.Errorf("have %s", resp.Status)
		}
	})
}

func TestAtTheEndRequestsInFlightFinishAndNobodyElseIsLetIn(t *testing.T) {
	h := newHold()
	// Timeouts of a minute, so that only the end itself closes the silent connection.
	e := start(t, web.Options{Handler: h, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, DrainTimeout: time.Minute})
	idle, held, silent := e.dial(t), e.dial(t), e.dial(t)
	idle.send(getPlain)
	idle.answer()
	held.send(getHold)
	<-h.arrived
	e.stop()
	idle.closed()
	if c, err := net.Dial("tcp", e.addr); err == nil {
		_ = c.Close()
		t.Error("a new connection is accepted")
	}
	silent.closed()
	select {
	case err := <-e.done:
		t.Fatalf("it ended (%v) with a request in flight", err)
	default:
	}
	close(h.letGo)
	resp, body := held.answer()
	if resp.StatusCode != http.StatusOK || body != "\"ok\"\n" || !resp.Close {
		t.Errorf("have %s %q, close %v", resp.Status, body, resp.Close)
	}
	if err := e.ended(t); err != nil {
		t.Error(err)
	}
}

func TestAtTheEndARequestOnAnAcceptedConnectionIsStillAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHold()
		e := startInBubble(t, web.Options{Handler: h})
		late, held := e.dial(t), e.dial(t)
		late.send("GET / HTTP/1.1\r\n") // its request is on the way
		held.send(getHold)
		<-h.arrived
		e.stop()
		synctest.Wait() // the end has begun
		late.send("Host: app\r\n\r\n")
		if resp, _ := late.answer(); resp.StatusCode != http.StatusOK {
			t.Errorf("have %s", resp.Status)
		}
		close(h.letGo)
		if resp, _ := held.answer(); resp.StatusCode != http.StatusOK {
			t.Errorf("have %s", resp.Status)
		}
		if err := e.ended(t); err != nil {
			t.Error(err)
		}
	})
}

// A connection that was used a moment ago may have its next request on the way: it is answered, and is the last one.
func TestAtTheEndAConnectionInUseGetsItsNextAnswer(t *testing.T) {
	silent := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}) // net/http answers 200 for it
	for name, handler := range map[string]http.Handler{"one that answers": http.HandlerFunc(ok), "one that says nothing": silent} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := startInBubble(t, web.Options{Handler: handler})
				used := e.dial(t)
				used.send(getPlain)
				used.answer()
				e.stop()
				synctest.Wait() // the end has begun
				used.send(getPlain)
				if resp, _ := used.answer(); resp.StatusCode != http.StatusOK || !resp.Close {
					t.Errorf("have %s, close %v", resp.Status, resp.Close)
				}
				if err := e.ended(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAServerThatHangsUpStillTakesNewConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(l, web.Options{Handler: http.HandlerFunc(ok)})
	e := &edge{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	used := e.dial(t)
	for i, last := range []bool{false, true} {
		used.send(getPlain)
		if resp, _ := used.answer(); resp.StatusCode != http.StatusOK || resp.Close != last {
			t.Errorf("answer %d: have %s, close %v, want %v", i, resp.Status, resp.Close, last)
		}
		s.HangUp()
	}
	used.closed()
	fresh := e.dial(t)
	fresh.send(getPlain)
	if resp, _ := fresh.answer(); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("have %s, close %v", resp.Status, resp.Close)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAtTheEndAServerWithoutConnectionsIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startInBubble(t, web.Options{Handler: http.HandlerFunc(ok)})
		begin := time.Now()
		e.stop()
		if err := e.ended(t); err != nil {
			t.Error(err)
		}
		if have := time.Since(begin); have != 0 {
			t.Errorf("want no wait, have %v", have)
		}
	})
}

func TestAtTheEndASlowRequestIsCutOffAndAStuckOneIsAnError(t *testing.T) {
	for _, c := range []struct {
		name     string
		listens  bool // the handler ends when its context does
		wantKind fault.Kind
	}{
		{"slow", true, fault.KindStopped},
		{"stuck", false, fault.KindUnclean},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				arrived, letGo := make(chan struct{}), make(chan struct{})
				handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					close(arrived)
					if c.listens {
						<-r.Context().Done()
					} else {
						<-letGo
					}
				})
				e := startInBubble(t, web.Options{DrainTimeout: time.Second, Handler: handler})
				defer close(letGo)
				w := e.dial(t)
				w.send(getPlain)
				<-arrived
				e.stop()
				err := e.ended(t)
				if have := fault.Of(err); have != c.wantKind {
					t.Errorf("have %v (%v), want %v", have, err, c.wantKind)
				}
				w.closed()
				if record := e.logs.find(t, "requests cut off, they took too long to end"); record["count"] != 1.0 {
					t.Errorf("have %v", record)
				}
			})
		})
	}
}
