package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/web"
)

// attack is one way to harm a server. Each of its clients sends the text and then, if drip is set, a byte now and then,
// as long as the server bears it.
type attack struct {
	name    string
	clients int
	send    string
	drip    bool
	want    []int // what it may be answered; nil: it need not be answered at all
}

func attacks() []attack {
	const typed = "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n"
	const get = "GET %s HTTP/1.1\r\nHost: app\r\n%s\r\n"
	return []attack{
		{"idle connections", idle(), "", false, nil},
		{"a header that never ends", 1500, "GET / HTTP/1.1\r\nHost: app\r\nX-Slow: ", true, nil},
		{"a body that never ends", 1500, typed + "Content-Length: 1000\r\n\r\n{", true, nil},
		{"chunks that never end", 1500, typed + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", true, nil},
		{"a body of a gigabyte, announced", 500, typed + "Content-Length: 1073741824\r\n\r\n{", false, []int{413, 503}},
		{"a body beyond all numbers", 50, typed + "Content-Length: 99999999999999999999\r\n\r\n{", false, []int{400}},
		{"a negative length", 50, typed + "Content-Length: -1\r\n\r\n{}", false, []int{400}},
		{"two lengths", 50, typed + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", false, []int{400}},
		{"a length and chunks", 50, typed + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, []int{400, 503}},
		{"garbage for chunks", 50, typed + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", false, []int{400, 503}},
		{"a chunk of all memory", 50, typed + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{", false, nil},
		{"an unknown transfer coding", 50, typed + "Transfer-Encoding: gzip\r\n\r\n{}", false, []int{501}},
		{"path traversal", 50, fmt.Sprintf(get, "/../../../../etc/passwd", ""), false, []int{301, 307, 404, 503}},
		{"path traversal, encoded", 50, fmt.Sprintf(get, "/%2e%2e/%2e%2e%2fetc%2fpasswd", ""), false, []int{301, 307, 404, 503}},
		{"a NUL in the path", 50, fmt.Sprintf(get, "/\x00", ""), false, []int{400}},
		{"a line break in an id", 50, fmt.Sprintf(get, "/ok", "X-Request-ID: a%0d%0aSet-Cookie: b=c\r\n"), false, []int{200, 503}},
		{"a bare line break in an id", 50, fmt.Sprintf(get, "/ok", "X-Request-ID: a\rSet-Cookie: b=c\r\n"), false, []int{400}},
		{"an id that is no text", 50, fmt.Sprintf(get, "/ok", "X-Request-ID: \xff\xfe\r\n"), false, []int{200, 503}},
		{"a header of a megabyte", 50, fmt.Sprintf(get, "/ok", "X-Long: "+strings.Repeat("x", 1<<20)+"\r\n"), false, []int{431}},
		{"a thousand header fields", 50, fmt.Sprintf(get, "/ok", strings.Repeat("X-Many: x\r\n", 1000)), false, []int{431}},
		{"invalid UTF-8", 50, typed + sized("{\"a\":\"\xff\"}"), false, []int{400, 503}},
		{"a key twice", 50, typed + sized(`{"a":1,"a":2}`), false, []int{400, 503}},
		{"nested ten thousand deep", 50, typed + sized(strings.Repeat(`{"a":`, 10_000)), false, []int{400, 413, 503}},
		{"no HTTP at all", 50, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", false, []int{400}},
	}
}

// idle is 10,000, or what the limit of open files allows: each takes one on either side.
func idle() int {
	const many, spare = 10_000, 500
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 2*(many+spare) {
		return many
	}
	return max(0, (int(l.Cur)-spare)/2)
}

// Each attack runs while a decent client goes on with its work: attackers get what they deserve, the client its answers,
// and the memory stays bounded.
func TestAbuse(t *testing.T) {
	const (
		bound  = 8 * time.Second // for one answer to the decent client: a full server gives a place back within a second
		memory = 160 << 20       // at most 1024 connections, with twice their buffers for the client's end in this process, and the race detector
	)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			if testing.Short() {
				a.clients = min(a.clients, 1500) // still more than there are places
			}
			e := start(t, web.Options{Handler: abused(), Rate: 1e6, Burst: 1e6, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, DrainTimeout: 100 * time.Millisecond})
			gang := assault(t, e, a)
			defer gang.leave()
			longest := time.Duration(0)
			for range 5 {
				began := time.Now()
				e.serves(t, bound)
				longest = max(longest, time.Since(began))
			}
			t.Logf("%d attackers, longest wait %v, memory %d MiB", len(gang.conns), longest.Round(time.Millisecond), inUse()>>20)
			if have := inUse(); have > memory {
				t.Errorf("have %d MiB in use, want at most %d", have>>20, memory>>20)
			}
			if a.want != nil {
				gang.gets(t, a.want)
			}
		})
	}
}

func abused() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		if _, k := web.ReadJSONObject(w, r, 1<<20); k {
			ok(w, r)
		}
	})
	mux.HandleFunc("GET /ok", ok)
	return mux
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// serves posts an object as a decent client does: it comes again when it is turned away.
func (e *edge) serves(t *testing.T, bound time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	have := "nothing"
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+e.addr+"/", strings.NewReader(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			have = err.Error()
		} else {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if have = resp.Status; resp.StatusCode == 200 {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Errorf("the decent client got %s within %v", have, bound)
}

// gang is the attackers' side.
type gang struct {
	conns []net.Conn
	stop  chan struct{}
	wg    sync.WaitGroup
}

func assault(t *testing.T, e *edge, a attack) *gang {
	t.Helper()
	g := &gang{stop: make(chan struct{})}
	for range a.clients {
		c, err := net.DialTimeout("tcp", e.addr, patience)
		if err != nil {
			g.leave()
			t.Fatalf("attacker %d: %v", len(g.conns), err)
		}
		g.conns = append(g.conns, c)
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, a.send) // the server may be quicker
	}
	if a.drip {
		g.wg.Go(func() {
			for {
				for _, c := range g.conns {
					_, _ = c.Write([]byte("1"))
				}
				select {
				case <-g.stop:
					return
				case <-time.After(200 * time.Millisecond):
				}
			}
		})
	}
	return g
}

func (g *gang) leave() {
	close(g.stop)
	g.wg.Wait()
	for _, c := range g.conns {
		_ = c.(*net.TCPConn).SetLinger(0) // so many sockets in TIME_WAIT would be in the next one's way
		_ = c.Close()
	}
}

// gets checks what the attackers are told. A reset before the answer is a cut connection, and right, too.
func (g *gang) gets(t *testing.T, want []int) {
	t.Helper()
	told := map[int]int{}
	for _, c := range g.conns {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		status := 0
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		switch e, ok := errors.AsType[net.Error](err); {
		case ok && e.Timeout():
			t.Fatal("an attacker is neither answered nor cut off")
		case err == nil:
			status = resp.StatusCode
			text, _ := io.ReadAll(resp.Body)
			if len(resp.Header["Set-Cookie"]) > 0 || strings.Contains(string(text), "root:") {
				t.Errorf("it worked: %v %s", resp.Header, text)
			}
		}
		told[status]++
	}
	expected := told[0]
	for _, status := range want {
		expected += told[status]
	}
	if expected != len(g.conns) || told[0] == len(g.conns) {
		t.Errorf("have %v, want %v or a cut connection", told, want)
	}
}
