package zmq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

func TestSocketsTellsWhatIsOpen(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	start := time.Now()
	ctx := worker.NewContext(t.Context(), worker.New("relay"))
	pull, err := c.Socket(ctx, zmq.Pull)
	if err != nil {
		t.Fatal(err)
	}
	_, _, line, _ := runtime.Caller(0)
	bind(t, pull, "inproc://told")
	push := newSocket(t, c, t.Context(), zmq.Push)
	connect(t, push, "inproc://told")
	for range 3 {
		send(t, push, "x")
	}
	recv(t, pull)
	eventually(t, "stamped", func() bool { return !info(c, zmq.Push).LastSend.IsZero() })

	list := c.Sockets()
	if len(list) != 2 || list[0].Type != zmq.Pull || list[1].Type != zmq.Push {
		t.Fatalf("want PULL and PUSH in the order of their making, have %v", list)
	}
	have := list[0]
	for name, at := range map[string]time.Time{"opened": have.Opened, "last receive": have.LastRecv, "last send": list[1].LastSend} {
		if at.Before(start) || at.After(time.Now()) {
			t.Errorf("%s: %v", name, at)
		}
	}
	have.Opened, have.LastRecv = time.Time{}, time.Time{}
	want := zmq.SocketInfo{
		ID: 1, Type: zmq.Pull, Endpoint: "inproc://told", Bound: true, Owner: "relay",
		Origin: fmt.Sprintf("zmq/socket_test.go:%d", line-4), Received: 1, Peers: 1,
	}
	if have != want {
		t.Errorf("want %+v\nhave %+v", want, have)
	}
	if list[1].Sent != 3 || list[1].Bound || list[1].Owner != "" {
		t.Errorf("have %+v", list[1])
	}
	text, err := json.Marshal(list)
	if err != nil || !strings.Contains(string(text), `"type":"PULL","endpoint":"inproc://told","bound":true,"owner":"relay"`) {
		t.Errorf("have %s, %v", text, err)
	}
	pull.Close()
	push.Close()
	if list := c.Sockets(); len(list) != 0 {
		t.Errorf("closed, but listed: %v", list)
	}
}

func TestWaitingParksTheOwnerAndWorkBeats(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	w := worker.New("owner")
	ctx := worker.NewContext(t.Context(), w)
	parked := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { at, _ := w.Parked(); return at == want })
	}
	wait := func(call func() error) func() {
		done := make(chan error, 1)
		go func() { done <- call() }()
		return func() {
			t.Helper()
			before := w.Beats()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if at, is := w.Parked(); is {
				t.Errorf("still parked: %s", at)
			}
			if w.Beats() == 0 || w.Beats() < before {
				t.Error("the end of a wait is no progress")
			}
		}
	}
	push := newSocket(t, c, ctx, zmq.Push)
	connected := wait(func() error { return push.Connect(ctx, "inproc://place") })
	parked("connect inproc://place")
	pull := newSocket(t, c, ctx, zmq.Pull)
	bind(t, pull, "inproc://place")
	connected()

	received := wait(func() error { _, err := pull.Recv(ctx); return err })
	parked("recv inproc://place")
	helper := newSocket(t, c, t.Context(), zmq.Push)
	connect(t, helper, "inproc://place")
	send(t, helper, "x")
	received()

	before := w.Beats()
	send(t, push, "x")
	if have := w.Beats(); have != before+1 {
		t.Errorf("beats after a Send that did not wait: want %d, have %d", before+1, have)
	}
	eventually(t, "arrived", func() bool { return !info(c, zmq.Push).LastSend.IsZero() })

	pull.Close()
	eventually(t, "alone", func() bool { return c.Sockets()[0].Peers == 0 })
	sent := wait(func() error { return push.Send(ctx, []byte("x")) })
	parked("send inproc://place")
	bind(t, newSocket(t, c, t.Context(), zmq.Pull), "inproc://place")
	sent()
}

func TestTermListsAndClosesWhatWasForgotten(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	ctx := worker.NewContext(t.Context(), worker.New("forgetful"))
	s := newSocket(t, c, ctx, zmq.Pull)
	bind(t, s, "ipc://"+t.TempDir()+"/s")
	path := strings.TrimPrefix(s.Endpoint(), "ipc://")

	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := c.Term(short)
	want := regexp.MustCompile(`^zmq: terminate: sockets left open: PULL bound to ipc:///.*/s, owned by forgetful, made at zmq/main_test.go:\d+: context deadline exceeded$`)
	if err == nil || !want.MatchString(err.Error()) || fault.Of(err) != fault.KindUnclean || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v (%v)", err, fault.Of(err))
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket file is left")
	}
	if err := c.Term(t.Context()); err != nil {
		t.Errorf("second Term: %v", err)
	}
	if _, err := s.Recv(t.Context()); !errors.Is(err, zmq.ErrTerminated) {
		t.Errorf("want %v, have %v", zmq.ErrTerminated, err)
	}
	if _, err := c.Socket(t.Context(), zmq.Pull); !errors.Is(err, zmq.ErrTerminated) || fault.Of(err) != fault.KindTerminated {
		t.Errorf("want %v, have %v", zmq.ErrTerminated, err)
	}
}

func TestTermWaitsForTheOwners(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	pull := newSocket(t, c, t.Context(), zmq.Pull)
	bind(t, pull, "inproc://owned")
	go func() {
		pull.Recv(t.Context()) // ends with Term
		pull.Close()
	}()
	eventually(t, "waiting", func() bool { return info(c, zmq.Pull).Blocked == "recv" })
	if err := c.Term(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMisuseIsRefused(t *testing.T) {
	t.Parallel()
	c := zmq.NewContext(zmq.Options{MaxMessage: 10, Log: quiet()})
	defer end(c)
	ctx := t.Context()
	push, pull := pair(t, c, "inproc://misuse")
	unused := newSocket(t, c, ctx, zmq.Push)
	closed := newSocket(t, c, ctx, zmq.Pull)
	closed.Close()
	_, recvOnPush := push.Recv(ctx)
	_, recvOnClosed := closed.Recv(ctx)
	_, unknown := c.Socket(ctx, "PUB")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{push.Send(ctx, make([]byte, 11)), "zmq: send inproc://misuse: the message is larger than MaxMessage: 11 bytes, at most 10"},
		{pull.Send(ctx, nil), "zmq: send inproc://misuse: a PUSH only sends, a PULL only receives"},
		{recvOnPush, "zmq: recv inproc://misuse: a PUSH only sends, a PULL only receives"},
		{recvOnClosed, "zmq: recv PULL: the socket is closed"},
		{unused.Send(ctx, nil), "zmq: send PUSH: the socket is neither bound nor connected"},
		{push.Bind(ctx, "inproc://more"), "zmq: bind inproc://more: the socket already has an endpoint; make a socket for each"},
		{closed.Bind(ctx, "inproc://more"), "zmq: bind inproc://more: the socket is closed"},
		{closed.Connect(ctx, "inproc://misuse"), "zmq: connect inproc://misuse: the socket is closed"},
		{unused.Bind(ctx, "inproc://misuse"), "zmq: bind inproc://misuse: the name is taken by a PULL bound to inproc://misuse, owned by nobody, made at zmq/main_test.go:"},
		{newSocket(t, c, ctx, zmq.Pull).Connect(ctx, "inproc://misuse"), "zmq: connect inproc://misuse: PUSH goes with PULL only, both are PULL"},
		{unknown, `zmq: new socket: unknown type "PUB"`},
		{unused.Bind(ctx, "somewhere"), "zmq: bind somewhere: not an endpoint"},
		{unused.Bind(ctx, "inproc://"), "zmq: bind inproc://: not an endpoint"},
		{unused.Bind(ctx, "udp://127.0.0.1:1"), `zmq: bind udp://127.0.0.1:1: unknown transport "udp"`},
		{unused.Connect(ctx, "tcp://127.0.0.1"), "zmq: connect tcp://127.0.0.1: address 127.0.0.1: missing port in address"},
		{unused.Bind(ctx, "tcp://0.0.0.0:0"), `zmq: bind tcp://0.0.0.0:0: "0.0.0.0" is not a loopback address: refused`},
		{unused.Bind(ctx, "tcp://*:0"), `zmq: bind tcp://*:0: "*" is not a loopback address: refused`},
		{unused.Bind(ctx, "tcp://:0"), `zmq: bind tcp://:0: "" is not a loopback address: refused`},
		{unused.Bind(ctx, "ipc://@abstract"), "zmq: bind ipc://@abstract: an abstract socket has no permissions: refused"},
		{unused.Connect(ctx, "ipc://@abstract"), "zmq: connect ipc://@abstract: an abstract socket has no permissions: refused"},
		{unused.Bind(ctx, "ipc:///nowhere/s"), "zmq: bind ipc:///nowhere/s: listen unix /nowhere/s: bind: no such file or directory"},
		{unused.Bind(ctx, "ipc:///"+strings.Repeat("x", 107)), "zmq: bind ipc:///" + strings.Repeat("x", 107) + ": a socket's path has at most 107 bytes, this has 108"},
	} {
		if tc.err == nil || !strings.HasPrefix(tc.err.Error(), tc.want) {
			t.Errorf("want %s\nhave %v", tc.want, tc.err)
		}
	}
	if err := unused.Bind(ctx, "tcp://0.0.0.0:0"); fault.Of(err) != fault.KindConfig || fault.Hint(err) == "" {
		t.Errorf("want %v with a hint, have %v", fault.KindConfig, fault.Of(err))
	}
	bind(t, unused, "inproc://free") // after errors it still may
	for range 2 {
		if err := push.Close(); err != nil {
			t.Errorf("want Close without an error, as often as it is called, have %v", err)
		}
	}
}

func TestWhatAnEndedCallWaitedFor(t *testing.T) {
	t.Parallel()
	c, log := loudContext(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	push := newSocket(t, c, ctx, zmq.Push)
	bind(t, push, "tcp://127.0.0.1:0")
	err := push.Send(ctx, nil)
	if !errors.Is(err, zmq.ErrNoPeer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v", err)
	}
	push.Close()
	again, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 1)
	pull := newSocket(t, c, ctx, zmq.Pull)
	endpoint := push.Endpoint()
	go func() { ended <- pull.Connect(again, endpoint) }()
	eventually(t, "one try has failed", func() bool { return strings.Contains(log.String(), "not connected, trying again") })
	giveUp()
	err = <-ended
	if !errors.Is(err, zmq.ErrNoPeer) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("have %v", err)
	}
}

func TestConnectMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	c := newContext(t)
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	push := newSocket(t, c, t.Context(), zmq.Push)
	if err := push.Connect(short, "inproc://later"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v", err)
	}
	pull := newSocket(t, c, t.Context(), zmq.Pull)
	bind(t, pull, "inproc://later")
	connect(t, push, "inproc://later")
	send(t, push, "x")
	recv(t, pull)
}

func TestNamesAreTheContextsOwn(t *testing.T) {
	t.Parallel()
	pushA, pullA := pair(t, newContext(t), "inproc://same")
	pushB, pullB := pair(t, newContext(t), "inproc://same")
	send(t, pushA, "a")
	send(t, pushB, "b")
	if a, b := recv(t, pullA), recv(t, pullB); a != "a" || b != "b" {
		t.Errorf("have %s and %s", a, b)
	}
}

func TestCloseFlushesWhatSendAccepted(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			push, pull := pair(t, newContext(t), ep)
			for range 500 {
				send(t, push, strings.Repeat("x", 100))
			}
			received := make(chan error, 1)
			go func() { // the peer must take it while Close lingers
				for range 500 {
					if _, err := pull.Recv(t.Context()); err != nil {
						received <- err
						return
					}
				}
				received <- nil
			}()
			push.Close()
			select {
			case err := <-received:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Error("messages are missing")
			}
		})
	}
}

func TestOnePullHasManyPushes(t *testing.T) {
	t.Parallel()
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContext(t)
			pull := newSocket(t, c, t.Context(), zmq.Pull)
			bind(t, pull, ep)
			const pushes, each, receivers = 5, 400, 3
			var received atomic.Int64
			ctx, stop := context.WithCancel(t.Context())
			var senders, readers sync.WaitGroup
			for range receivers { // several goroutines at one socket
				readers.Go(func() {
					for {
						if _, err := pull.Recv(ctx); err != nil {
							return
						}
						if received.Add(1) == pushes*each {
							stop()
						}
					}
				})
			}
			for range pushes {
				push := newSocket(t, c, t.Context(), zmq.Push)
				connect(t, push, pull.Endpoint())
				for range 2 {
					senders.Go(func() {
						for range each / 2 {
							if err := push.Send(t.Context(), make([]byte, 500)); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			senders.Wait()
			eventually(t, "all", func() bool { return received.Load() == pushes*each })
			readers.Wait()
			stop()
		})
	}
}

func TestSocketFile(t *testing.T) { // not parallel: the umask is the process's
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	c := newContext(t)
	path := filepath.Join(t.TempDir(), "s")
	os.Rename(deadFile(t.TempDir()), path)

	pull := newSocket(t, c, t.Context(), zmq.Pull)
	bind(t, pull, "ipc://"+path) // the dead one is replaced
	stat, err := os.Lstat(path)
	if err != nil || stat.Mode() != os.ModeSocket|0o600 {
		t.Errorf("want Srw-------, have %v, %v", stat.Mode(), err)
	}
	second := newSocket(t, c, t.Context(), zmq.Pull)
	err = second.Bind(t.Context(), "ipc://"+path)
	if err == nil || !strings.Contains(err.Error(), path+" is in use: somebody listens on it") || fault.Of(err) != fault.KindConfig {
		t.Errorf("a live one: have %v", err)
	}
	pull.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}

	bind(t, second, "ipc://"+path)
	os.Remove(path)
	l, err := net.Listen("unix", path) // somebody else's now
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	second.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("removed a file of somebody else: %v", err)
	}

	file := filepath.Join(t.TempDir(), "precious")
	os.WriteFile(file, []byte("data"), 0o600)
	err = newSocket(t, c, t.Context(), zmq.Pull).Bind(t.Context(), "ipc://"+file)
	if err == nil || !strings.Contains(err.Error(), "exists and is not a socket") {
		t.Errorf("an ordinary file: have %v", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "data" {
		t.Error("an ordinary file was touched")
	}
}

// The payload's memory comes with the batch; nothing else is allocated per event.
func TestEventsDoNotAllocate(t *testing.T) { // not parallel: it counts the process's allocations
	push, pull := pair(t, newContext(t), "inproc://lean")
	ctx := t.Context()
	const events = 20_000
	msg := make([]byte, 64)
	pass := func() {
		go func() {
			for range events {
				push.Send(ctx, msg)
			}
		}()
		for range events {
			if _, err := pull.Recv(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass() // buffers are made once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pass()
	runtime.ReadMemStats(&after)
	if have := after.Mallocs - before.Mallocs; have > events/4 {
		t.Errorf("allocations for %d events: %d", events, have)
	}
}
