package logging

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
)

// peer is a daemon in memory whose state the test sets.
type peer struct {
	mu     sync.Mutex
	state  string // up, refuses, hangs (no answer to a dial), deaf (never reads), closes
	conns  []net.Conn
	got    []string
	dials  int
	notice []string
}

func (p *peer) set(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *peer) dial(ctx context.Context) (net.Conn, framing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials++
	ours, theirs := net.Pipe()
	switch p.state {
	case "refuses":
		return nil, lines, errors.New("refused")
	case "hangs":
		p.mu.Unlock()
		<-ctx.Done()
		p.mu.Lock()
		return nil, lines, ctx.Err()
	case "closes":
		theirs.Close()
	case "up":
		go func() {
			in := bufio.NewScanner(theirs)
			for in.Scan() {
				p.mu.Lock()
				p.got = append(p.got, in.Text())
				p.mu.Unlock()
			}
		}()
	}
	p.conns = append(p.conns, theirs)
	return ours, lines, nil
}

func (p *peer) record(msg string, attrs ...slog.Attr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notice = append(p.notice, msg[:len("syslog is ")+4]+fmt.Sprint(" ", attrs[len(attrs)-1]))
}

func (p *peer) received() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

func (p *peer) noticed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.notice, ", ")
}

func withPeer(t *testing.T, state string, test func(*testing.T, *peer, *sender)) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{state: state}
		s := newSender("peer", p.dial, p.record)
		test(t, p, s)
		p.set("refuses")
	})
}

func sendN(s *sender, n int) {
	for range n {
		s.send([]byte("m"))
	}
}

// wait lets virtual time pass.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestCloseDeliversWhatIsQueued(t *testing.T) {
	withPeer(t, "up", func(t *testing.T, p *peer, s *sender) {
		sendN(s, 1000)
		if err := s.close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if p.received() != 1000 || s.sent() != 1000 || s.dropped() != 0 {
			t.Errorf("received %d, sent %d, dropped %d", p.received(), s.sent(), s.dropped())
		}
		s.send([]byte("late"))
		if s.dropped() != 1 {
			t.Error("a message after the end is not counted")
		}
	})
}

func TestPeerThatComesLateGetsWhatTheQueueHolds(t *testing.T) {
	withPeer(t, "refuses", func(t *testing.T, p *peer, s *sender) {
		wait(time.Minute)
		if p.dials < 4 || p.dials > 20 {
			t.Errorf("%d dials in the first minute", p.dials)
		}
		sendN(s, queueSize+100)
		p.set("up")
		wait(time.Minute)
		if have, want := p.received(), queueSize; have != want {
			t.Errorf("want %d received, have %d", want, have)
		}
		if have := s.dropped(); have != 100 {
			t.Errorf("want 100 dropped, have %d", have)
		}
		if want := "syslog is down dropped=0, syslog is back dropped=100"; p.noticed() != want {
			t.Errorf("have %s", p.noticed())
		}
		s.close(t.Context())
	})
}

func TestPeerThatDiesAndComesBackLosesNothingThatWasQueued(t *testing.T) {
	withPeer(t, "up", func(t *testing.T, p *peer, s *sender) {
		sendN(s, 10)
		wait(2 * time.Second)
		p.set("refuses")
		synctest.Wait()
		sendN(s, 10)
		wait(10 * time.Second)
		p.set("up")
		wait(time.Minute)
		if p.received() != 20 || s.sent() != 20 {
			t.Errorf("received %d, sent %d", p.received(), s.sent())
		}
		if want := "syslog is down dropped=0, syslog is back dropped=0"; p.noticed() != want {
			t.Errorf("have %s", p.noticed())
		}
		s.close(t.Context())
	})
}

func TestDeafPeerIsGivenUpAndDropsAreCounted(t *testing.T) {
	withPeer(t, "deaf", func(t *testing.T, p *peer, s *sender) {
		wait(time.Second)
		start := time.Now()
		sendN(s, 5000)
		if d := time.Since(start); d != 0 {
			t.Errorf("the caller waited %v", d)
		}
		wait(writeTimeout)
		if !strings.HasPrefix(p.noticed(), "syslog is down dropped=39") {
			t.Errorf("have %s", p.noticed())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start = time.Now()
		err := s.close(ctx)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("close took %v", d)
		}
		if err == nil || fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "records not delivered: no answer in time") {
			t.Errorf("have %v", err)
		}
		if sent, dropped := s.sent(), s.dropped(); sent != 0 || dropped != 5000 {
			t.Errorf("sent %d, dropped %d", sent, dropped)
		}
	})
}

func TestCloseGivesADeadPeerOneMoreChance(t *testing.T) {
	withPeer(t, "refuses", func(t *testing.T, p *peer, s *sender) {
		sendN(s, 10)
		wait(time.Hour)
		before := p.dials
		start := time.Now()
		err := s.close(t.Context())
		if err == nil || !strings.Contains(err.Error(), "10 records not delivered: refused") || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if p.dials != before+1 || s.dropped() != 10 {
			t.Errorf("%d dials, %d dropped", p.dials-before, s.dropped())
		}
	})
}

func TestCloseEndsADialThatHangs(t *testing.T) {
	withPeer(t, "hangs", func(t *testing.T, p *peer, s *sender) {
		sendN(s, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := s.close(ctx); err == nil || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestPeerThatClosesAtOnceIsNotDialledInALoopAndToldOnce(t *testing.T) {
	withPeer(t, "closes", func(t *testing.T, p *peer, s *sender) {
		sendN(s, 1)
		wait(10 * time.Minute)
		if p.dials > 60 {
			t.Errorf("%d dials in ten minutes", p.dials)
		}
		if want := "syslog is down dropped=0"; p.noticed() != want {
			t.Errorf("have %s", p.noticed())
		}
		p.set("up")
		wait(time.Minute)
		s.close(t.Context())
	})
}

func TestPeerThatComesAndGoesIsToldOnceAMinute(t *testing.T) {
	withPeer(t, "up", func(t *testing.T, p *peer, s *sender) {
		for range 30 { // ten minutes
			p.set("refuses")
			wait(5 * time.Second)
			p.set("up")
			wait(15 * time.Second)
		}
		if n := strings.Count(p.noticed(), "down"); n < 5 || n > 10 {
			t.Errorf("told %d times: %s", n, p.noticed())
		}
		if down, back := strings.Count(p.noticed(), "down"), strings.Count(p.noticed(), "back"); down != back {
			t.Errorf("%d times down and %d times back", down, back)
		}
		s.close(t.Context())
	})
}

func TestFrames(t *testing.T) {
	for how, want := range map[framing]string{datagram: "é", octetCounting: "2 é", lines: "é\n"} {
		if have := string(how.frame(nil, []byte("é"))); have != want {
			t.Errorf("%d: want %q, have %q", how, want, have)
		}
	}
}

func TestHeaderFieldsAreAsRFC5424Wants(t *testing.T) {
	o := newSyslog(nil, identity{app: strings.Repeat("é", 60)}, strings.Repeat("h", 300), nil).(*syslogOutput)
	l := line{worker: "a worker of a name\nthat is very long"}
	l.Level = slog.LevelWarn
	fields := strings.Split(string(o.header(l)), " ")
	for i, want := range []string{"<12>1", "-", strings.Repeat("h", 255), strings.Repeat("_", 48), o.pid,
		"a_worker_of_a_name_that_is_very_", "-", "@cee:", ""} {
		if fields[i] != want {
			t.Errorf("field %d: want %q, have %q", i, want, fields[i])
		}
	}
	for level, want := range map[slog.Level]int{-8: 7, -4: 7, 0: 6, 2: 6, 4: 4, 8: 3, 12: 3} {
		if have := severity(level); have != want {
			t.Errorf("%v: want %d, have %d", level, want, have)
		}
	}
	if headerField("", 9) != "-" {
		t.Error("an empty field is not a dash")
	}
}

func TestEmptyAddressMeansTheLocalSocketIfThereIsOne(t *testing.T) {
	if a, err := parseAddress("", true); err != nil || a.String() != "unix:///dev/log" {
		t.Errorf("have %v, %v", a, err)
	}
	for s, local := range map[string]bool{"": false, "off": true} {
		if a, err := parseAddress(s, local); err != nil || a != nil {
			t.Errorf("have %v, %v", a, err)
		}
	}
	folder := t.TempDir()
	if isSocket(folder) || isSocket(folder+"/nothing") {
		t.Error("what docker makes of a missing /dev/log counts as a socket")
	}
	socket := folder + "/log"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !isSocket(socket) {
		t.Error("a socket is not seen")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"", "off", "udp://h", "tcp://[::1]:601", "unix:///dev/log", "udp://h:0", "tcp://h:65536",
		"unix://", "x://h", "udp://u:p@h", "udp://%zz", "tcp://]0", "unix:///a?b#c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s, false)
		switch {
		case err != nil:
			if fault.Of(err) != fault.KindConfig || fault.Hint(err) == "" {
				t.Errorf("%q: %v", s, err)
			}
		case a == nil:
			if s != "" && s != "off" {
				t.Errorf("%q means nowhere", s)
			}
		case a.network == "unix":
			if !strings.HasPrefix(a.host, "/") {
				t.Errorf("%q: %v", s, a)
			}
		default:
			host, port, err := net.SplitHostPort(a.host)
			if err != nil || host == "" || port == "" || port == "0" {
				t.Errorf("%q: %v", s, a)
			}
		}
	})
}
