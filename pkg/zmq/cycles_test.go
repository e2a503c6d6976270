package zmq_test

import (
	"os"
	"runtime"
	"testing"

	"example.com/base-app/pkg/zmq"
)

// Ten thousand pairs of sockets that are opened, used and closed leave no goroutine, no file descriptor and no memory.
// It does not run in parallel: it counts what the process has.
func TestCyclesLeakNothing(t *testing.T) {
	c := newContext(t)
	cycle := func(ep string) {
		push, pull := pairNoCleanup(t, c, ep)
		send(t, push, "x")
		recv(t, pull)
		push.Close()
		pull.Close()
	}
	cycles := map[string]int{"inproc": 10_000, "ipc": 2000, "tcp": 1000} // each tcp cycle keeps a port busy for a minute
	if testing.Short() {
		cycles = map[string]int{"inproc": 1000, "ipc": 100, "tcp": 100}
	}
	for name, ep := range endpoints(t) {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				cycle(ep) // what is made once
			}
			goroutines, files, heap := possessions(t)
			for range cycles[name] {
				cycle(ep)
			}
			eventually(t, "goroutines gone", func() bool { n, _, _ := possessions(t); return n <= goroutines })
			_, files2, heap2 := possessions(t)
			if files2 > files {
				t.Errorf("file descriptors: want %d, have %d", files, files2)
			}
			if heap2 > heap+1<<20 {
				t.Errorf("heap: want about %d, have %d", heap, heap2)
			}
			if n := len(c.Sockets()); n != 0 {
				t.Errorf("sockets: want 0, have %d", n)
			}
		})
	}
}

func pairNoCleanup(t *testing.T, c *zmq.Context, ep string) (push, pull *zmq.Socket) {
	t.Helper()
	pull, err := c.Socket(t.Context(), zmq.Pull)
	if err != nil {
		t.Fatal(err)
	}
	bind(t, pull, ep)
	push, err = c.Socket(t.Context(), zmq.Push)
	if err != nil {
		t.Fatal(err)
	}
	connect(t, push, pull.Endpoint())
	return push, pull
}

func possessions(t *testing.T) (goroutines, files int, heap uint64) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	return runtime.NumGoroutine(), len(fds), mem.HeapAlloc
}

func TestOrderWithoutLossOrDoubles(t *testing.T) {
	t.Parallel()
	push, pull := pair(t, newContext(t), "inproc://sequence")
	const total = 100_000
	go func() {
		var msg [8]byte
		for i := range total {
			for b := range msg {
				msg[b] = byte(i >> (8 * b))
			}
			if err := push.Send(t.Context(), msg[:1+i%8]); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range total {
		msg := recv(t, pull)
		if len(msg) != 1+i%8 || msg[0] != byte(i) || (len(msg) > 2 && (msg[1] != byte(i>>8) || msg[2] != byte(i>>16))) {
			t.Fatalf("at %d: have % x", i, msg)
		}
	}
}
