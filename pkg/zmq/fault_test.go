package zmq_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"example.com/base-app/pkg/zmq"
)

func TestAFaultIsAskedForBeforeEachCallAndIsItsError(t *testing.T) {
	errWanted := errors.New("wanted")
	var mu sync.Mutex
	var asked []string
	var faulty error
	c := zmq.NewContext(zmq.Options{Log: quiet(), Fault: func(_ context.Context, point string) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, point)
		return faulty
	}})
	t.Cleanup(func() { end(c) })
	push, pull := pair(t, c, "inproc://faulty")
	send(t, push, "a")
	send(t, push, "b")
	if have := recv(t, pull); have != "a" {
		t.Fatalf("want a, have %s", have)
	}

	mu.Lock()
	faulty = errWanted
	mu.Unlock()
	if err := push.Send(t.Context(), []byte("lost")); !errors.Is(err, errWanted) {
		t.Errorf("want the fault as Send's error, have %v", err)
	}
	if _, err := pull.Recv(t.Context()); !errors.Is(err, errWanted) {
		t.Errorf("want the fault as Recv's error, have %v", err)
	}

	mu.Lock()
	faulty = nil
	mu.Unlock()
	if have := recv(t, pull); have != "b" {
		t.Errorf("want what a faulty Recv did not take, have %s", have)
	}
	send(t, push, "c")
	if have := recv(t, pull); have != "c" {
		t.Errorf("want nothing of a faulty Send, have %s", have)
	}
	s, r := "zmq.send:inproc://faulty", "zmq.recv:inproc://faulty"
	if want := []string{s, s, r, s, r, r, s, r}; !slices.Equal(asked, want) {
		t.Errorf("want asked %q, have %q", want, asked)
	}
}
