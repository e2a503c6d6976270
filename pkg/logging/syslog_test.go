package logging_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/logging"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// until polls what until it is true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// listen returns a daemon on network that collects what it reads, its address, and its end.
func listen(t *testing.T, network, address string) (*buffer, string, func()) {
	t.Helper()
	got := &buffer{}
	scheme := strings.TrimSuffix(network, "gram")
	if network == "udp" || network == "unixgram" {
		conn, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 64<<10)
			for {
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				fmt.Fprintf(got, "%s\n", b[:n])
			}
		}()
		return got, scheme + "://" + conn.LocalAddr().String(), func() {
			conn.Close()
			<-done
			if network == "unixgram" {
				os.Remove(address)
			}
		}
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			read := make(chan struct{})
			go func() { io.Copy(got, conn); close(read) }()
			select {
			case <-quit:
			case <-read:
			}
			conn.Close()
			<-read
		}
	}()
	return got, scheme + "://" + listener.Addr().String(), func() { listener.Close(); close(quit); <-done }
}

func TestSyslogArrivesOnEveryKindOfSocket(t *testing.T) {
	for _, c := range []struct{ network, address, end string }{
		{"udp", "127.0.0.1:0", "}\n"},
		{"unixgram", filepath.Join(t.TempDir(), "d"), "}\n"},
		{"unix", filepath.Join(t.TempDir(), "s"), "}\n"},
		{"tcp", "127.0.0.1:0", "}"},
	} {
		t.Run(c.network, func(t *testing.T) {
			got, address, stop := listen(t, c.network, c.address)
			defer stop()
			l, out := open(t, logging.Options{App: "shop", Device: "pi", Version: "1", Syslog: address, Format: "json"})
			at := time.Date(2026, 1, 2, 15, 4, 5, 6000, time.UTC)
			r := slog.NewRecord(at, slog.LevelWarn, "sold", 0)
			r.Add("worker", "till", "n", 1)
			if err := l.Logger().Handler().Handle(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			until(t, "the message", func() bool { return strings.HasSuffix(got.String(), c.end) })
			head, message, _ := strings.Cut(got.String(), " - @cee: ")
			want := fmt.Sprintf("<12>1 2026-01-02T15:04:05.000006Z pi shop %d till", os.Getpid())
			if c.network == "tcp" {
				_, frame, _ := strings.Cut(got.String(), " ")
				want = fmt.Sprintf("%d %s", len(frame), want)
			}
			if head != want {
				t.Errorf("\nwant %s\nhave %s", want, head)
			}
			if want, have := out.lines()[0], strings.TrimSpace(message); have != want {
				t.Errorf("\nwant %s\nhave %s", want, have)
			}
			if s := l.Stats(); s.Sent != 1 || s.Dropped != 0 {
				t.Errorf("have %+v", s)
			}
		})
	}
}

func TestSyslogMessagesStayUnder4KiB(t *testing.T) {
	for _, text := range []string{strings.Repeat("\x00", 5000), strings.Repeat("x", 3500)} {
		got, address, stop := listen(t, "udp", "127.0.0.1:0")
		defer stop()
		l, _ := open(t, logging.Options{App: strings.Repeat("a", 99), Device: strings.Repeat("d", 999), Syslog: address})
		l.Logger().Info("m", "k", text, "worker", strings.Repeat("w", 99))
		l.Close(t.Context())
		until(t, "the message", func() bool { return strings.HasSuffix(got.String(), "\n") })
		if s := got.String(); len(s) > limit || !strings.Contains(s, `"truncated":true`) {
			t.Errorf("%d bytes: %q", len(s), s)
		}
	}
}

// A daemon that is not there, or never reads, costs the caller nothing but a full queue.
func TestLoggingNeverWaitsForSyslog(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	deafUnix, err := net.ListenPacket("unixgram", filepath.Join(t.TempDir(), "deaf"))
	if err != nil {
		t.Fatal(err)
	}
	defer deafUnix.Close()
	_, closedTCP, stopTCP := listen(t, "tcp", "127.0.0.1:0")
	stopTCP()
	_, closedUDP, stopUDP := listen(t, "udp", "127.0.0.1:0")
	stopUDP()
	for what, address := range map[string]string{
		"tcp deaf":     "tcp://" + deaf.Addr().String(),
		"unix deaf":    "unix://" + deafUnix.LocalAddr().String(),
		"tcp refused":  closedTCP,
		"udp refused":  closedUDP,
		"unix missing": "unix:///nowhere/log",
		"no such host": "udp://nowhere.invalid",
	} {
		t.Run(what, func(t *testing.T) {
			l, err := logging.New(logging.Options{Syslog: address, Out: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			const n = 4000
			text := strings.Repeat("x", 3000)
			waits := make([]time.Duration, n)
			for i := range n {
				start := time.Now()
				l.Logger().Info("m", "i", i, "text", text)
				waits[i] = time.Since(start)
			}
			slices.Sort(waits)
			// One that waited for a deaf peer would wait for the write's timeout, 5 s. The rest is a busy machine's.
			if p99 := waits[n*99/100]; p99 > 20*time.Millisecond || waits[n-1] > 3*time.Second {
				t.Errorf("99%% within %v, all within %v", p99, waits[n-1])
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			start := time.Now()
			l.Close(ctx)
			if d := time.Since(start); d > time.Second {
				t.Errorf("close took %v", d)
			}
			s := l.Stats()
			// A refused datagram was sent first, so that it stands in both counts.
			if total := s.Sent + s.Dropped; total < n || s.Dropped < n/8 || total > n+10 {
				t.Errorf("have %+v", s)
			}
		})
	}
}

func TestSyslogThatDiesAndComesBackIsToldWithItsDrops(t *testing.T) {
	for _, c := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"},
		{"unixgram", filepath.Join(t.TempDir(), "d")},
		{"udp", "127.0.0.1:0"},
	} {
		t.Run(c.network, func(t *testing.T) {
			t.Parallel()
			got, address, stop := listen(t, c.network, c.address)
			l, out := open(t, logging.Options{Format: "console", Syslog: address})
			l.Logger().Info("before")
			until(t, "the first message", func() bool { return strings.Contains(got.String(), "before") })
			stop()
			l.Logger().Info("while it is down") // what udp notices it by
			until(t, "the notice", func() bool { return strings.Contains(out.String(), "syslog [WARN] syslog is down") })
			if strings.Contains(got.String(), "while") {
				t.Fatal("it was not down")
			}
			for i := range 1200 {
				l.Logger().Info("queued", "i", i)
			}
			dropped := l.Stats().Dropped
			if dropped < 150 {
				t.Errorf("%d dropped", dropped)
			}
			_, place, _ := strings.Cut(address, "://")
			got, _, stop = listen(t, c.network, place)
			defer stop()
			until(t, "that it is back", func() bool { return strings.Contains(out.String(), "syslog is back") })
			if c.network != "udp" { // whose receiver's buffer holds less than the queue
				until(t, "what was queued", func() bool { return strings.Contains(got.String(), `"i":1000}`) })
			}
			l.Logger().Info("after")
			until(t, "what came after", func() bool { return strings.Contains(got.String(), "after") })
			if !strings.Contains(out.String(), fmt.Sprintf("dropped=%d\n", dropped)) && c.network != "udp" {
				t.Errorf("want %d told, have %s", dropped, out.String()[strings.Index(out.String(), "syslog is back"):])
			}
			if n := strings.Count(out.String(), "syslog is"); n != 2 {
				t.Errorf("told %d times", n)
			}
		})
	}
}
