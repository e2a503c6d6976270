package web_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/web"
)

const bodyLimit = 1 << 10

func echo(w http.ResponseWriter, r *http.Request) {
	if body, ok := web.ReadJSONObject(w, r, bodyLimit); ok {
		web.WriteJSON(w, r, http.StatusOK, string(body))
	}
}

func sized(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

func chunked(body string) string {
	return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
}

// object returns an object of exactly n bytes.
func object(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }

func TestReadJSONObject(t *testing.T) {
	const typed = "Content-Type: application/json\r\n"
	for _, c := range []struct {
		name, rest string // what follows the Host header
		want       int
		detail     string
	}{
		{"an object", typed + sized(`{"id":"1"}`), 200, ""},
		{"an object in chunks", typed + chunked(`{"id":"1"}`), 200, ""},
		{"with a charset", "Content-Type: Application/JSON; charset=UTF-8\r\n" + sized(`{}`), 200, ""},
		{"as long as allowed", typed + sized(object(bodyLimit)), 200, ""},
		{"as long as allowed, in chunks", typed + chunked(object(bodyLimit)), 200, ""},

		{"one byte too long", typed + sized(object(bodyLimit+1)), 413, "larger than 1024 bytes"},
		{"one byte too long, in chunks", typed + chunked(object(bodyLimit+1)), 413, "larger than 1024 bytes"},
		{"a length of eight exabytes and no body", typed + "Content-Length: 9000000000000000000\r\n\r\n", 413, "larger"},
		{"asks before it sends too much", typed + "Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n", 413, "larger"},
		{"longer than its length says", typed + "Content-Length: 2\r\n\r\n" + `{}{"smuggled":1}`, 200, ""},
		{"slower than allowed", typed + "Content-Length: 20\r\n\r\n" + `{"id":`, 408, "in time"},
		{"garbage for chunks", typed + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400, "chunks"},

		{"no type", sized(`{}`), 415, "application/json"},
		{"another type", "Content-Type: text/plain\r\n" + sized(`{}`), 415, "application/json"},
		{"a form", "Content-Type: application/x-www-form-urlencoded\r\n" + sized(`{}`), 415, "application/json"},
		{"a malformed type", "Content-Type: application/json; charset\r\n" + sized(`{}`), 415, "application/json"},
		{"another charset", "Content-Type: application/json; charset=latin1\r\n" + sized(`{}`), 415, "UTF-8"},
		{"compressed", typed + "Content-Encoding: gzip\r\n" + sized("\x1f\x8b"), 415, "Content-Encoding"},

		{"empty", typed + sized(""), 400, "empty"},
		{"no body at all", typed + "\r\n", 400, "empty"},
		{"an array", typed + sized(`[{}]`), 400, "object is expected at byte 0"},
		{"malformed", typed + sized(`{"a":}`), 400, "at byte 5"},
		{"a name twice", typed + sized(`{"a":1,"a":2}`), 400, `"a" is there twice`},
		{"not UTF-8", typed + sized("{\"a\":\"\xff\"}"), 400, "invalid UTF-8 at byte 6"},
		{"deep", typed + sized(strings.Repeat(`{"a":`, 65)+"1"+strings.Repeat("}", 65)), 400, "deeper than 64"},
		{"two objects", typed + sized(`{} {}`), 400, "something follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := startInBubble(t, web.Options{Handler: http.HandlerFunc(echo), ReadTimeout: 2 * time.Second}).dial(t)
				w.send("POST / HTTP/1.1\r\nHost: app\r\n%s", c.rest)
				resp, body := w.answer()
				if resp.StatusCode != c.want {
					t.Fatalf("have %s %q, want %d", resp.Status, body, c.want)
				}
				if c.want == 200 {
					return
				}
				if p := problem(t, resp, body); !strings.Contains(p.Detail, c.detail) {
					t.Errorf("have %q, want %q in it", p.Detail, c.detail)
				}
				if c.want == 413 || c.want == 408 {
					w.closed()
				}
			})
		})
	}
}

func TestABodyThatEndsEarlyNeverReachesTheHandler(t *testing.T) {
	result := make(chan bool, 1)
	e := start(t, web.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, ok := web.ReadJSONObject(w, r, bodyLimit)
		result <- ok
	})})
	w := e.dial(t)
	w.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{}")
	_ = w.Close()
	if <-result {
		t.Error("it was taken for whole")
	}
}

func TestALyingContentLengthReservesNoMemory(t *testing.T) {
	const limit, claims = 64 << 20, 50
	arrived := make(chan struct{}, claims)
	e := start(t, web.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		_, _ = web.ReadJSONObject(w, r, limit)
	})})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range claims {
		e.dial(t).send("POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", limit)
		<-arrived
	}
	runtime.ReadMemStats(&after)
	if have := after.TotalAlloc - before.TotalAlloc; have > limit {
		t.Errorf("%d claims of %d bytes each took %d bytes", claims, limit, have)
	}
}
