package heartbeat_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/zmq"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait; none of them needs it when the code is right.
const patience = 10 * time.Second

func ExampleBeat() {
	fmt.Println(heartbeat.Beat{PID: 4711, N: 42, Phase: heartbeat.Running})
	b, err := heartbeat.Parse([]byte("beat pid=4711 n=43 phase=draining"))
	fmt.Println(b.PID, b.N, b.Phase, err)
	b, err = heartbeat.Parse(nil) // what the original sends
	fmt.Println(b.PID, err)
	// Output:
	// beat pid=4711 n=42 phase=running
	// 4711 43 draining <nil>
	// 0 <nil>
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		msg  string
		want heartbeat.Beat
		fail bool
	}{
		{"", heartbeat.Beat{}, false},
		{"\x00\xff", heartbeat.Beat{}, false},
		{"hello", heartbeat.Beat{}, false},
		{"beat", heartbeat.Beat{}, false},
		{strings.Repeat("x", 1000), heartbeat.Beat{}, false},
		{"beat pid=1 n=0 phase=starting", heartbeat.Beat{PID: 1, Phase: heartbeat.Starting}, false},
		{"beat pid=2147483647 n=18446744073709551615 phase=draining", heartbeat.Beat{PID: 1<<31 - 1, N: 1<<64 - 1, Phase: heartbeat.Draining}, false},
		{"beat ", heartbeat.Beat{}, true},
		{"beat pid=0 n=1 phase=running", heartbeat.Beat{}, true},
		{"beat pid=-1 n=1 phase=running", heartbeat.Beat{}, true},
		{"beat pid=2147483648 n=1 phase=running", heartbeat.Beat{}, true},
		{"beat pid=1 n=1", heartbeat.Beat{}, true},
		{"beat pid=1 n=1 phase=sleeping", heartbeat.Beat{}, true},
		{"beat pid=1 n=1 phase=running ", heartbeat.Beat{}, true},
		{"beat n=1 pid=1 phase=running", heartbeat.Beat{}, true},
		{"beat pid=1 n=1 running", heartbeat.Beat{}, true},
		{"beat pid=1 n=" + strings.Repeat("0", 200) + "1 phase=running", heartbeat.Beat{}, true},
	} {
		have, err := heartbeat.Parse([]byte(c.msg))
		if have != c.want || (err != nil) != c.fail {
			t.Errorf("%.40q: want %+v (error %v), have %+v, %v", c.msg, c.want, c.fail, have, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("beat pid=4711 n=42 phase=running"))
	f.Add([]byte("beat pid= n= phase="))
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := heartbeat.Parse(msg)
		if err != nil || b.PID == 0 {
			if b != (heartbeat.Beat{}) {
				t.Fatalf("%q: half a beat: %+v", msg, b)
			}
			return
		}
		again, err := heartbeat.Parse([]byte(b.String()))
		if err != nil || again != b {
			t.Fatalf("%q became %+v, written and read again %+v, %v", msg, b, again, err)
		}
	})
}

// bound is a monitor's end of the heartbeat address.
func bound(t testing.TB, addr string) *zmq.Socket {
	t.Helper()
	s, err := zmq.NewContext(zmq.Options{}).Bind(t.Context(), zmq.Pull, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func address(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hb") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "ipc://" + filepath.Join(dir, "heartbeat")
}

// run starts the client and returns how to end it.
func run(t *testing.T, c *heartbeat.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once atomic.Bool
	stop = func() {
		cancel()
		if once.Swap(true) {
			return
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the client does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func next(t *testing.T, s *zmq.Socket) heartbeat.Beat {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	msg, err := s.Recv(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := heartbeat.Parse(msg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// until waits for a beat that f accepts.
func until(t *testing.T, s *zmq.Socket, f func(heartbeat.Beat) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(next(t, s)); {
		if time.Now().After(deadline) {
			t.Fatal("no such beat")
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestTheClientTellsItsPidACountAndItsPhase(t *testing.T) {
	addr := address(t)
	s := bound(t, addr)
	var phase atomic.Value
	phase.Store(heartbeat.Starting)
	run(t, heartbeat.New(heartbeat.Options{Addr: addr, Every: time.Millisecond,
		Phase: func() heartbeat.Phase { return phase.Load().(heartbeat.Phase) }}))
	if have, want := next(t, s), (heartbeat.Beat{PID: os.Getpid(), N: 1, Phase: heartbeat.Starting}); have != want {
		t.Errorf("want %v, have %v", want, have)
	}
	if have := next(t, s); have.N != 2 {
		t.Errorf("want the second beat, have %v", have)
	}
	phase.Store(heartbeat.Running)
	until(t, s, func(b heartbeat.Beat) bool { return b.Phase == heartbeat.Running })
}

func TestTheClientBeatsOnlyWhileHealthyOrDraining(t *testing.T) {
	addr := address(t)
	s := bound(t, addr)
	var sick, draining atomic.Bool
	c := heartbeat.New(heartbeat.Options{Addr: addr, Every: time.Millisecond,
		Healthy: func() error {
			if sick.Load() {
				return errors.New("a worker is stuck")
			}
			return nil
		},
		Phase: func() heartbeat.Phase {
			if draining.Load() {
				return heartbeat.Draining
			}
			return heartbeat.Running
		}})
	run(t, c)
	next(t, s)
	sick.Store(true)
	eventually(t, "beats are held back", func() bool { return c.Stats().Held > 0 })
	was := c.Stats().Sent
	eventually(t, "more are held back", func() bool { return c.Stats().Held > 10 })
	if have := c.Stats().Sent; have != was {
		t.Errorf("sick, and yet %d beats", have-was)
	}
	sick.Store(false)
	eventually(t, "beats go on", func() bool { return c.Stats().Sent > was })
	sick.Store(true)
	draining.Store(true)
	until(t, s, func(b heartbeat.Beat) bool { return b.Phase == heartbeat.Draining })
}

func TestTheClientOutlivesAMonitorThatIsAway(t *testing.T) {
	addr := address(t)
	c := heartbeat.New(heartbeat.Options{Addr: addr, Every: time.Millisecond})
	run(t, c)
	first := bound(t, addr)
	next(t, first)
	first.Close()
	eventually(t, "beats are dropped", func() bool { return c.Stats().Dropped > 0 })
	second := bound(t, addr)
	next(t, second)
}

func TestTheClientEndsWithoutAMonitor(t *testing.T) {
	run(t, heartbeat.New(heartbeat.Options{Addr: address(t)}))()
}

func TestTheClientRefusesAnAddressThatIsNone(t *testing.T) {
	for _, addr := range []string{"", "heartbeat", "ipc://@abstract"} {
		if err := heartbeat.New(heartbeat.Options{Addr: addr}).Run(t.Context()); err == nil {
			t.Errorf("%q: no error", addr)
		}
	}
}

// A beat costs the program: judging its health, the line, the socket.
func BenchmarkBeat(b *testing.B) {
	addr := address(b)
	s := bound(b, addr)
	go func() {
		for {
			if _, err := s.Recv(b.Context()); err != nil {
				return
			}
		}
	}()
	beat, stop := heartbeat.Beater(b, addr)
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		beat()
	}
}
