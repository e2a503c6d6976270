package telemetry

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// dogstatsd is a server that knows the protocol's grammar.
type dogstatsd struct {
	net.PacketConn
	t     *testing.T
	mu    sync.Mutex
	lines []string
	done  chan struct{}
}

var datagramLine = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.]*:-?[0-9]+(\.[0-9]+)?\|[cg]\|#[a-zA-Z0-9_]+:[^,|#\n]+(,[a-zA-Z0-9_]+:[^,|#\n]+)*$`)

func listenStatsD(t *testing.T) *dogstatsd {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dogstatsd{PacketConn: c, t: t, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 64<<10)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n > 1432 {
				t.Errorf("a datagram of %d bytes", n)
			}
			s.mu.Lock()
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				if !datagramLine.MatchString(line) {
					t.Errorf("not a line of dogstatsd: %q", line)
				}
				s.lines = append(s.lines, line)
			}
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-s.done })
	return s
}

// find waits for a line that begins with prefix.
func (s *dogstatsd) find(prefix string) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		s.mu.Lock()
		for _, l := range s.lines {
			if strings.HasPrefix(l, prefix) {
				s.mu.Unlock()
				return l
			}
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Errorf("no line begins with %s:\n%s", prefix, strings.Join(s.lines, "\n"))
	return ""
}

func TestStatsDGetsWhatHappened(t *testing.T) {
	s := listenStatsD(t)
	tel, _ := open(t, Options{StatsD: s.LocalAddr().String()})
	exercise(t, tel)
	flush(t, tel)
	for _, prefix := range []string{
		`request_count_total:1|c|#app:shop,deployment:blue,device:box-1,endpoint:/{$},method:GET,service:shop,status:200,version:1.2.3`,
		`build_info:1|g|#app:shop,commit:abc,deployment:blue,device:box-1,go:go1,version:1.2.3`,
		`request_latency_seconds_bucket:1|c|#le:`, `request_latency_seconds_sum:0.`, `request_latency_seconds_count:1|c|#`,
		`queue_depth:1|g|#`, `event_handle_duration_seconds_count:1|c|#app:shop,deployment:blue,device:box-1,outcome:retried,`, `zmq_messages_in_flight:0|g|#app:shop,deployment:blue,device:box-1,endpoint:inproc://a,`,
	} {
		s.find(prefix)
	}
}
