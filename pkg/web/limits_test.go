package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/web"
)

// crawl is so slow a rate that no test lives to see the next token.
const crawl = 0.001

func TestAClientOverItsRateIsToldSo(t *testing.T) {
	e := start(t, web.Options{Handler: routes(), Rate: crawl, Burst: 3})
	for left := 2; left >= 0; left-- {
		resp, _ := e.ask(t, "GET", "/things/7")
		want := fmt.Sprintf(`"default";r=%d;t=`, left)
		if have := resp.Header.Get("RateLimit"); resp.StatusCode != 200 || !strings.HasPrefix(have, want) {
			t.Fatalf("have %s with %s, want 200 with %s", resp.Status, have, want)
		}
		if have := resp.Header.Get("RateLimit-Policy"); have != `"default";q=3;w=3000` {
			t.Errorf("have %s", have)
		}
	}
	resp, body := e.ask(t, "GET", "/things/8")
	if p := problem(t, resp, body); p.Status != 429 || resp.Header.Get("Retry-After") != "1000" || !strings.HasPrefix(resp.Header.Get("RateLimit"), `"default";r=0;t=`) {
		t.Errorf("have %+v %v", p, resp.Header)
	}
	if record := e.logs.find(t, "request"); record["route"] != "GET /things/{id}" {
		t.Errorf("have %v", record)
	}
	t.Run("another route has a bucket of its own", func(t *testing.T) {
		if resp, _ := e.ask(t, "POST", "/things"); resp.StatusCode != 200 {
			t.Errorf("have %s", resp.Status)
		}
	})
	t.Run("all that nothing is served under has one together", func(t *testing.T) {
		for i, want := range []int{404, 404, 404, 429} {
			if resp, _ := e.ask(t, "GET", fmt.Sprintf("/nothing/%d", i)); resp.StatusCode != want {
				t.Errorf("have %s, want %d", resp.Status, want)
			}
		}
	})
	t.Run("probes are never limited", func(t *testing.T) {
		for range 10 {
			if resp, _ := e.ask(t, "GET", "/healthz"); resp.StatusCode != 200 || resp.Header.Get("RateLimit") != "" {
				t.Errorf("have %s %v", resp.Status, resp.Header)
			}
		}
	})
}

func TestBehindATrustedProxyEachClientHasItsOwnRate(t *testing.T) {
	for name, c := range map[string]struct {
		trusted string
		second  int
		remote  string
	}{
		"trusted": {"127.0.0.0/8", 200, "203.0.113.1"},
		"unknown": {"10.0.0.0/8", 429, "127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, web.Options{Handler: routes(), Rate: crawl, Burst: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix(c.trusted)}})
			for _, step := range []struct {
				client string
				want   int
			}{{"203.0.113.1", 200}, {"203.0.113.2", c.second}, {"203.0.113.1", 429}, {"2001:db8::1", c.second}, {"2001:db8::2", 429}} {
				if resp, _ := e.ask(t, "GET", "/things/7", "X-Forwarded-For: "+step.client); resp.StatusCode != step.want {
					t.Errorf("%s: have %s, want %d", step.client, resp.Status, step.want)
				}
			}
			if have, _ := e.logs.find(t, "request")["remote"].(string); !strings.HasPrefix(have, c.remote) {
				t.Errorf("remote: have %s, want %s", have, c.remote)
			}
		})
	}
}

func TestARefusedRequestKeepsItsConnectionIfItsBodyIsThere(t *testing.T) {
	e := start(t, web.Options{Handler: routes(), Rate: crawl, Burst: 1})
	w := e.dial(t)
	for _, want := range []int{200, 429, 429} {
		w.send("POST /things HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\n{}")
		if resp, _ := w.answer(); resp.StatusCode != want || resp.Close {
			t.Fatalf("have %s, close %v, want %d", resp.Status, resp.Close, want)
		}
	}
	began := time.Now()
	w.send("POST /things HTTP/1.1\r\nHost: app\r\nContent-Length: 20\r\n\r\n{")
	resp, _ := w.answer()
	if took := time.Since(began); resp.StatusCode != 429 || took > patience/2 { // the read timeout is 30 s
		t.Errorf("have %s after %v", resp.Status, took)
	}
	w.closed()
}

func TestTooManyHeaderFields(t *testing.T) {
	e := start(t, web.Options{Handler: routes()})
	if resp, _ := e.ask(t, "GET", "/healthz", strings.Split(strings.Repeat("X-A: b\n", 95)+"X-A: b", "\n")...); resp.StatusCode != 200 {
		t.Errorf("96 fields: have %s", resp.Status)
	}
	resp, body := e.ask(t, "GET", "/healthz", strings.Split(strings.Repeat("X-A: b\n", 100)+"X-A: b", "\n")...)
	if p := problem(t, resp, body); p.Status != 431 {
		t.Errorf("have %+v", p)
	}
}

func TestAFullServerShedsAndStillAnswersProbes(t *testing.T) {
	h := newHold()
	mux := http.NewServeMux()
	mux.Handle("/", h)
	e := start(t, web.Options{Handler: mux, MaxRequests: 2})
	var held []*wire
	for range 2 {
		w := e.dial(t)
		w.send(getHold)
		<-h.arrived
		held = append(held, w)
	}
	resp, body := e.ask(t, "GET", "/")
	if p := problem(t, resp, body); p.Status != 503 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("have %+v %v", p, resp.Header)
	}
	if resp, _ := e.ask(t, "GET", "/healthz"); resp.StatusCode != 200 {
		t.Errorf("probe: have %s", resp.Status)
	}
	close(h.letGo)
	for _, w := range held {
		if resp, _ := w.answer(); resp.StatusCode != 200 {
			t.Errorf("have %s", resp.Status)
		}
	}
	e.until(t, 200, func() int { resp, _ := e.ask(t, "GET", "/"); return resp.StatusCode })
}

// until asks again and again until the status is the wanted one.
func (e *edge) until(t *testing.T, want int, ask func() int) {
	t.Helper()
	have := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if have = ask(); have == want {
			return
		}
	}
	t.Fatalf("have %d, want %d in the end", have, want)
}

const slowPost = "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"

func TestAFullServerLetsSlowBodiesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startInBubble(t, web.Options{MaxRequests: 2, Handler: http.HandlerFunc(echo)})
		answers := make(chan string, 2)
		for range 2 {
			w := e.dial(t)
			w.send(slowPost)
			go func() {
				text, _ := io.ReadAll(w.r)
				answers <- string(text)
			}()
			synctest.Wait() // its body is being read
		}
		time.Sleep(time.Second - time.Nanosecond)
		if resp, _ := e.ask(t, "POST", "/"); resp.StatusCode != 503 {
			t.Errorf("within a second a body gave way: have %s", resp.Status)
		}
		time.Sleep(time.Nanosecond)
		if resp, _ := e.ask(t, "POST", "/"); resp.StatusCode != 415 {
			t.Errorf("after a second no body gave way: have %s", resp.Status)
		}
		if text := <-answers; !strings.HasPrefix(text, "HTTP/1.1 408 ") || !strings.Contains(text, "too slowly for a server that is full") {
			t.Errorf("have %q", text)
		}
	})
}

func TestAllBodiesTogetherAreBounded(t *testing.T) {
	const room = 10 << 10
	read := make(chan struct{}, 2)
	letGo := make(chan struct{})
	e := start(t, web.Options{MaxBodyBytes: room, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, k := web.ReadBody(w, r, 1<<20, "application/json")
		if !k {
			if n, err := r.Body.Read(make([]byte, 10)); n > 0 || err == nil {
				t.Errorf("a body with a hole is read on: %d, %v", n, err)
			}
			return
		}
		if len(body) > 100 {
			read <- struct{}{}
			<-letGo
		}
		ok(w, r)
	})})
	const typed = "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n"
	big := e.dial(t)
	big.send("%s", typed+sized(object(room-100)))
	<-read
	next := e.dial(t)
	next.send("%s", typed+sized(object(200)))
	resp, body := next.answer()
	if p := problem(t, resp, body); p.Status != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("have %+v %v", p, resp.Header)
	}
	small := e.dial(t)
	small.send("%s", typed+sized(object(50)))
	if resp, _ := small.answer(); resp.StatusCode != 200 {
		t.Errorf("what still fits: have %s", resp.Status)
	}
	close(letGo)
	if resp, _ := big.answer(); resp.StatusCode != 200 {
		t.Errorf("have %s", resp.Status)
	}
	again := e.dial(t)
	again.send("%s", typed+sized(object(room-100)))
	if resp, _ := again.answer(); resp.StatusCode != 200 {
		t.Errorf("when there is room again: have %s", resp.Status)
	}
}
