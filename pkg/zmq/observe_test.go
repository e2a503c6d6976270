package zmq_test

import (
	"sync/atomic"
	"testing"
	"time"

	"example.com/base-app/pkg/zmq"
)

// What the hook is told adds up: each message is sent, and then received or lost.
func TestTheObserverHearsOfEachMessage(t *testing.T) {
	for _, endpoint := range []string{"inproc://observed", "tcp://127.0.0.1:0"} {
		t.Run(endpoint[:3], func(t *testing.T) {
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
			t.Cleanup(func() { end(c) })
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
				t.Errorf("want 3 in flight, have %d", have)
			}
			push.Close() // it waits until the peer has taken everything
			if received.Load() != 3 || waits.Load() < 1 || wrong.Load() != 0 {
				t.Errorf("want 3 received, one of them after a wait, all under %s; have %d, %d, %d under another", name, received.Load(), waits.Load(), wrong.Load())
			}
			pull.Close()
			// Those that were between the sockets at that moment nobody saw.
			if have := inFlight.Load(); have < 0 || endpoint[:3] == "inp" && lost.Load() == 0 {
				t.Errorf("want what was lost with the sockets taken off, have %d lost and %d in flight", lost.Load(), have)
			}
		})
	}
}
