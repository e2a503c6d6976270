package proxies_test

import (
	"encoding/binary"
	"encoding/csv"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// front is a HAProxy on the sample.
type front struct {
	*process
	url, inner string
	stats      *http.Client
}

// haproxy starts HAProxy, with a name server that knows the replicas by the name app, as Docker's does, and waits until it has
// found all of them ready.
func haproxy(t *testing.T, list []*replica, port string) *front {
	t.Helper()
	path := installed(t, "haproxy")
	addr, inner := "127.0.0.1:"+freePort(t, "127.0.0.1"), "127.0.0.1:"+freePort(t, "127.0.0.1")
	h := &front{url: "http://" + addr, inner: "http://" + inner, stats: client(t, "127.0.0.1")}
	h.process = proxy(t, "docker/haproxy/haproxy.cfg", func(_, config string) []string { return []string{path, "-db", "-f", config} },
		"bind :8080", "bind "+addr, "bind 127.0.0.1:8404", "bind "+inner, "nameserver docker 127.0.0.11:53", "nameserver docker "+names(t), "10 app:8080", "10 app:"+port)
	until(t, "HAProxy's start", func() bool {
		if !h.running() {
			t.Fatalf("HAProxy ended at its start:\n%s", h.said())
		}
		_, _, _, err := ask(h.stats, http.MethodGet, h.inner+"/healthz", "")
		return err == nil
	})
	for _, r := range list {
		until(t, r.addr+" in service", func() bool { return h.up(t, r) })
	}
	return h
}

// servers are the lines of HAProxy's statistics for the backend, by the address of the replica; the backend's own by "".
func (h *front) servers(t *testing.T) map[string]map[string]string {
	t.Helper()
	status, _, text := get(t, h.stats, h.inner+"/;csv")
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "# "))).ReadAll()
	if status != http.StatusOK || err != nil || len(lines) < 2 {
		t.Fatalf("HAProxy's statistics: %d, %v:\n%s", status, err, text)
	}
	all := map[string]map[string]string{}
	for _, line := range lines[1:] {
		fields := map[string]string{}
		for i, name := range lines[0] {
			fields[name] = line[i]
		}
		if fields["pxname"] == "apps" && (fields["addr"] != "" || fields["svname"] == "BACKEND") {
			all[fields["addr"]] = fields
		}
	}
	return all
}

func (h *front) up(t *testing.T, r *replica) bool {
	return h.servers(t)[r.addr]["status"] == "UP"
}

// figure is a number of HAProxy's statistics for a replica, or for the backend if r is nil.
func (h *front) figure(t *testing.T, r *replica, name string) int {
	t.Helper()
	addr := ""
	if r != nil {
		addr = r.addr
	}
	n, err := strconv.Atoi(h.servers(t)[addr][name])
	if err != nil {
		t.Fatalf("HAProxy's statistics have no %s for %q: %v", name, addr, err)
	}
	return n
}

// names starts a name server that answers each question for an IPv4 address with those of all replicas (RFC 1035).
func names(t *testing.T) (addr string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		const header = 12
		var buffer [512]byte
		for {
			n, from, err := conn.ReadFrom(buffer[:])
			if err != nil {
				return
			}
			end := header // of the name, whose labels have their length in front
			for end < n && buffer[end] != 0 {
				end += int(buffer[end]) + 1
			}
			end += 5 // the last, empty label, type and class
			if end > n {
				continue
			}
			question := buffer[header:end]
			reply := append([]byte{buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if binary.BigEndian.Uint16(buffer[end-4:]) == 1 { // type A
				reply[7] = byte(len(hosts))
				for _, host := range hosts {
					reply = append(reply, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 1, 0, net.IPv4len) // the name above, A, IN, 1 s
					reply = append(reply, net.ParseIP(host).To4()...)
				}
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	return conn.LocalAddr().String()
}

// Each replica is asked to stop and started again while clients post, whose ids HAProxy doesn't see: nothing that has
// reached a replica is sent again.
func TestARollingRestartBehindHAProxyLosesNoRequest(t *testing.T) {
	installed(t, "haproxy")
	list, port := replicas(t)
	h := haproxy(t, list, port)
	l := begin(t, h.url, false)
	serves := func(r *replica) {
		before := h.figure(t, r, "stot")
		until(t, "requests for "+r.addr, func() bool { return h.figure(t, r, "stot") > before+20 })
	}
	for _, r := range list {
		serves(r)
	}
	for _, r := range list {
		_ = r.Process.Signal(syscall.SIGTERM)
		until(t, "HAProxy's notice that "+r.addr+" stops", func() bool { return !h.up(t, r) })
		if !r.running() {
			t.Errorf("%s ended before HAProxy noticed that it would", r.addr)
		}
		if code := r.exit(t); code != 0 {
			t.Errorf("%s: want exit 0, have %d", r.addr, code)
		}
		r.start(t)
		until(t, r.addr+" back in service", func() bool { return h.up(t, r) })
		serves(r)
	}
	answers := l.end()
	var ids []string
	for _, a := range answers {
		if a.err != nil || a.status != http.StatusAccepted {
			t.Errorf("%s: want 202, have %d, %v", a.id, a.status, a.err)
			continue
		}
		ids = append(ids, a.id)
	}
	twice := processed(t, list, ids)
	if twice > 0 {
		t.Errorf("want each event at one replica, have %d at both", twice)
	}
	t.Logf("%d of %d requests answered 202; HAProxy turned to the other replica %d times", len(ids), len(answers), h.figure(t, nil, "wredis"))
}

// A replica is killed while it has requests. HAProxy repeats those of which it knows that it may; the other clients are told,
// and repeat the post under the same id.
func TestAKilledReplicaBehindHAProxyCostsNoEvent(t *testing.T) {
	installed(t, "haproxy")
	list, port := replicas(t)
	h := haproxy(t, list, port)
	l := begin(t, h.url, true)
	victim := list[0]
	until(t, "requests for the victim", func() bool { return h.figure(t, victim, "stot") > 20 })
	// What stands still keeps its requests, so that all of these are cut.
	_ = victim.Process.Signal(syscall.SIGSTOP)
	// A few, if there are a few: the other one is fast, and HAProxy prefers who has less to do.
	stopped := time.Now()
	until(t, "requests that wait for the victim", func() bool {
		n := h.figure(t, victim, "scur")
		return n >= 3 || n >= 1 && time.Since(stopped) > time.Second
	})
	_ = victim.Process.Kill()
	victim.exit(t)
	before := l.count()
	until(t, "HAProxy's notice", func() bool { return !h.up(t, victim) })
	until(t, "requests for the other one", func() bool { return l.count() > before+20 })
	answers := l.end()

	c := client(t, "127.0.0.1")
	var ids []string
	told := 0
	for _, a := range answers {
		ids = append(ids, a.id)
		if a.err == nil && a.status == http.StatusAccepted {
			continue
		}
		told++
		if a.keyed {
			t.Errorf("%s: HAProxy knew that it may be repeated: want 202, have %d, %v", a.id, a.status, a.err)
		}
		// HAProxy cuts the client's connection instead where the replica's was not new, as an HTTP server may at any time.
		if a.err == nil && a.status != http.StatusBadGateway {
			t.Errorf("%s: want a 502 or a cut connection, which tell to repeat it, have %d", a.id, a.status)
		}
		if status, err := post(c, h.url, a.id, false); err != nil || status != http.StatusAccepted {
			t.Errorf("%s, repeated: want 202, have %d, %v", a.id, status, err)
		}
	}
	repeated := h.figure(t, nil, "wretr")
	if told+repeated == 0 {
		t.Error("the kill hit no request")
	}
	victim.start(t)
	twice := processed(t, list, ids)
	t.Logf("%d requests; %d told to repeat, %d repeated by HAProxy; %d events accepted, and handled, by both", len(answers), told, repeated, twice)
}

// What the sample needs to notice, in the worst case, is shorter than what the app gives it.
func TestTheDelayIsLongerThanHAProxyNeedsToNotice(t *testing.T) {
	second := func(pattern string) time.Duration {
		d, err := time.ParseDuration(find(t, "docker/haproxy/haproxy.cfg", pattern))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	fall, err := strconv.Atoi(find(t, "docker/haproxy/haproxy.cfg", ` fall (\d+) `))
	if err != nil {
		t.Fatal(err)
	}
	check := second(`^ +timeout check (\S+)$`)
	notice := second(` inter (\S+) `) + check + time.Duration(fall-1)*(second(` fastinter (\S+) `)+check)
	delay, err := time.ParseDuration(drainDelay(t))
	if err != nil || delay <= notice {
		t.Errorf("want a DRAIN_DELAY of more than %v, have %v, %v", notice, delay, err)
	}
}
