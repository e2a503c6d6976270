package zmq_test

import (
	"sync/atomic"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
)

// What the hook is told adds up: each message is sent, and then received or lost with its socket.
func TestTheObserverHearsOfEachMessage(t *testing.T) {
	observed(t, "tcp://127.0.0.1:0")
	for range 20 { // what is between the sockets when they close nobody sees, but seldom all
		if observed(t, "inproc://observed") > 0 {
			return
		}
	}
	t.Error("want messages that were lost with a socket taken off")
}

// observed sends six messages, receives three, and returns how many of the others the hook was told to be lost.
func observed(t *testing.T, endpoint string) int64 {
	t.Helper()
	var inFlight, received, waits, lost, wrong atomic.Int64
	var name string
	c := zmq.NewContext(zmq.Options{Log: quiet(), Observe: func(at string, change int, waited time.Duration) {
		inFlight.Add(int64(change))
		switch {
		case at != name:
			wrong.Add(1)
		case waited < 0:
			lost.Add(int64(-change))
		case change < 0:
			received.Add(1)
			if waited > 0 {
				waits.Add(1)
			}
		}
	}})
	defer end(c)
	push, pull := pair(t, c, endpoint)
	name = pull.Endpoint()
	got := make(chan string, 1)
	go func() { got <- recv(t, pull) }()
	eventually(t, "a blocked Recv", func() bool { return info(c, zmq.Pull).Blocked == "recv" })
	send(t, push, "one")
	<-got
	for range 5 {
		send(t, push, "more")
	}
	recv(t, pull)
	recv(t, pull)
	if have := inFlight.Load(); have != 3 {
		t.Errorf("%s: want 3 in flight, have %d", endpoint, have)
	}
	push.Close()
	pull.Close()
	if received.Load() != 3 || waits.Load() < 1 || wrong.Load() != 0 {
		t.Errorf("%s: want 3 received, one of them after a wait; have %d, %d, and %d under another endpoint", endpoint, received.Load(), waits.Load(), wrong.Load())
	}
	if have := inFlight.Load(); have < 0 {
		t.Errorf("%s: have %d in flight when all is closed", endpoint, have)
	}
	return lost.Load()
}
