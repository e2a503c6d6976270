package zmq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

// A call that waits ends at once and with the right error, whoever ends it; and where only the peer goes it waits on
// and is served by the next peer. Each type, on each transport, from both sides.

// prompt is what "at once" may take on a busy machine with the race detector; it includes what Close lingers.
const prompt = time.Second

// place is a socket that waits in a call.
type place struct {
	typ   zmq.Type
	bound bool   // the socket under test, not its peer
	what  string // what it waits for
}

var places = []place{
	{zmq.Push, true, "send to nobody"},
	{zmq.Push, true, "send to a full peer"},
	{zmq.Push, false, "send to a peer that left"},
	{zmq.Push, false, "send to a full peer"},
	{zmq.Push, false, "connect"},
	{zmq.Pull, true, "recv from nobody"},
	{zmq.Pull, true, "recv from a silent peer"},
	{zmq.Pull, false, "recv from a peer that left"},
	{zmq.Pull, false, "recv from a silent peer"},
	{zmq.Pull, false, "connect"},
}

func (p place) String() string {
	if p.bound {
		return fmt.Sprintf("bound %s %s", p.typ, p.what)
	}
	return fmt.Sprintf("%s %s", p.typ, p.what)
}

// waiting is a place that has come to pass.
type waiting struct {
	place
	c      *zmq.Context // of the socket under test and its peer
	socket *zmq.Socket
	peer   *zmq.Socket
	ep     string
	cancel context.CancelCauseFunc // ends the call's context
	ended  chan error              // what the call returned; nil once it was served
	took   time.Duration           // the longest that something which ends at once took
}

func newWaiting(t *testing.T, p place, ep string) *waiting {
	w := &waiting{place: p, c: newContext(t), ep: ep, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancelCause(worker.NewContext(t.Context(), worker.New("tested")))
	w.cancel = cancel
	t.Cleanup(func() { cancel(nil) })
	w.socket = newSocket(t, w.c, ctx, p.typ)

	if p.what == "connect" {
		if strings.HasSuffix(ep, ":0") { // a port where nobody is
			free := newSocket(t, w.c, t.Context(), zmq.Pull)
			bind(t, free, ep)
			w.ep = free.Endpoint()
			free.Close()
		}
		go func() { w.ended <- w.socket.Connect(ctx, w.ep) }()
		w.await(t)
		return w
	}
	if p.bound {
		bind(t, w.socket, ep)
		w.ep = w.socket.Endpoint()
	}
	if p.what != "send to nobody" && p.what != "recv from nobody" {
		w.newPeer(t)
	}
	if p.what == "send to a peer that left" || p.what == "recv from a peer that left" {
		w.peer.Close()
		eventually(t, "peer gone", func() bool { return w.info().Peers == 0 })
	}
	go func() {
		if p.typ == zmq.Pull {
			_, err := w.socket.Recv(ctx)
			w.ended <- err
			return
		}
		msg := make([]byte, 60_000) // large ones, which fill a kernel's buffers soon
		for {
			if err := w.socket.Send(ctx, msg); err != nil {
				w.ended <- err
				return
			}
			if p.what != "send to a full peer" {
				w.ended <- nil
				return
			}
		}
	}()
	w.await(t)
	return w
}

// newPeer opens the other end.
func (w *waiting) newPeer(t *testing.T) {
	other := zmq.Pull
	if w.typ == zmq.Pull {
		other = zmq.Push
	}
	w.peer = newSocket(t, w.c, t.Context(), other)
	if w.bound {
		connect(t, w.peer, w.ep)
		return
	}
	bind(t, w.peer, w.ep)
	w.ep = w.peer.Endpoint()
	if w.socket.Endpoint() == "" {
		connect(t, w.socket, w.ep)
	}
}

func (w *waiting) info() zmq.SocketInfo {
	for _, i := range w.c.Sockets() {
		if i.Owner == "tested" {
			return i
		}
	}
	return zmq.SocketInfo{}
}

// await returns when the call waits, with the same counts for a while.
func (w *waiting) await(t *testing.T) {
	var sent uint64
	same := 0
	eventually(t, "blocked", func() bool {
		i := w.info()
		if i.Blocked == "" || i.Sent != sent {
			sent, same = i.Sent, 0
			return false
		}
		same++
		return same > 20
	})
}

// returns checks what the call ends with, and when.
func (w *waiting) returns(t *testing.T, since time.Time, want error) {
	t.Helper()
	select {
	case err := <-w.ended:
		if !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("want %v, have %v", want, err)
		}
	case <-time.After(patience):
		t.Fatal("the call waits on")
	}
	w.took = max(w.took, time.Since(since))
}

func (w *waiting) closes() {
	start := time.Now()
	w.socket.Close()
	w.took = max(w.took, time.Since(start))
}

var errEnough = errors.New("enough")

var endings = map[string]func(t *testing.T, w *waiting){
	"Close": func(t *testing.T, w *waiting) {
		start := time.Now()
		closed := make(chan struct{})
		go func() { defer close(closed); w.socket.Close() }()
		w.returns(t, start, zmq.ErrClosed)
		<-closed
		w.took = max(w.took, time.Since(start))
	},
	"Term": func(t *testing.T, w *waiting) {
		start := time.Now()
		termed := make(chan error, 1)
		go func() { termed <- w.c.Term(t.Context()) }()
		w.returns(t, start, zmq.ErrTerminated)
		w.closes()
		if w.peer != nil {
			w.peer.Close()
		}
		if err := <-termed; err != nil {
			t.Error(err)
		}
	},
	"context": func(t *testing.T, w *waiting) {
		w.cancel(errEnough)
		w.returns(t, time.Now(), errEnough)
		w.closes()
	},
	"peer": func(t *testing.T, w *waiting) {
		sent := w.info().Sent
		if w.peer != nil {
			w.peer.Close()
		}
		select {
		case err := <-w.ended:
			t.Fatal("the call ended with its peer:", err)
		default:
		}
		w.newPeer(t)
		if w.what == "send to a full peer" {
			recv(t, w.peer)
			eventually(t, "sending on", func() bool { return w.info().Sent > sent })
			return
		}
		if w.typ == zmq.Pull && w.what != "connect" {
			send(t, w.peer, "news")
		}
		w.returns(t, time.Now(), nil)
	},
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for transport := range endpoints(t) {
		for _, p := range places {
			for ending, end := range endings {
				t.Run(fmt.Sprintf("%s/%s/%s", transport, p, ending), func(t *testing.T) {
					t.Parallel()
					var took []time.Duration
					for range 3 { // a busy machine only adds to the time: the best counts
						w := newWaiting(t, p, endpoints(t)[transport])
						end(t, w)
						if took = append(took, w.took); t.Failed() || w.took <= prompt {
							return
						}
					}
					t.Errorf("want the end within %v once at least, have %v", prompt, took)
				})
			}
		}
	}
}
