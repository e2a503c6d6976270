package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"example.com/base-app/pkg/web"
)

const browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func failing() *http.ServeMux {
	mux := routes()
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("GET /hostile", func(w http.ResponseWriter, r *http.Request) {
		web.WriteProblem(w, r, 502, `</p><script>alert("1")</script>`)
	})
	return mux
}

func TestPeopleGetAPage(t *testing.T) {
	e := start(t, web.Options{Handler: failing(), Rate: crawl, Burst: 2})
	for _, c := range []struct {
		path string
		want int
		says string
	}{
		{"/nothing", 404, "nothing is served under this path"},
		{"/things", 405, "answers only to POST"},
		{"/nothing", 429, "a second are allowed"},
		{"/bad", 502, "the other one is down"},
		{"/panic", 500, "Report: <code>"},
		{"/hostile", 502, "&lt;script&gt;"},
	} {
		resp, body := e.ask(t, "GET", c.path, browser)
		if resp.StatusCode != c.want || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(body, c.says) {
			t.Errorf("%s: have %s %v %s, want %d with %s", c.path, resp.Status, resp.Header, body, c.want, c.says)
		}
		if id := resp.Header.Get("X-Request-ID"); !strings.Contains(body, "Request: <code>"+id+"</code>") {
			t.Errorf("%s: the request id is not on the page", c.path)
		}
		if strings.Contains(body, "<form") || strings.Contains(body, "<script") || regexp.MustCompile(`(src|href)=`).MatchString(body) {
			t.Errorf("%s: something is on the page that shouldn't be: %s", c.path, body)
		}
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)
		if style == nil {
			t.Fatalf("%s: no style in %s", c.path, body)
		}
		sum := sha256.Sum256([]byte(style[1]))
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("%s: the policy %s doesn't allow the page's style", c.path, policy)
		}
	}
	t.Run("and programs get JSON as ever", func(t *testing.T) {
		resp, body := e.ask(t, "GET", "/panic", "Accept: */*")
		if p := problem(t, resp, body); p.Status != 500 {
			t.Errorf("have %+v", p)
		}
	})
}

func TestAFailureThatIsReportedIsFoundByItsID(t *testing.T) {
	e := start(t, web.Options{Handler: failing()})
	_, body := e.ask(t, "GET", "/panic", browser)
	id := regexp.MustCompile(`Report: <code>([0-9a-f]{32})</code>`).FindStringSubmatch(body)
	if id == nil {
		t.Fatalf("no report id in %s", body)
	}
	if record := e.logs.find(t, "request"); record["report_id"] != id[1] {
		t.Errorf("want %s, have %v", id[1], record)
	}
}

// form fills in what the page has.
func form(t *testing.T, body string) url.Values {
	t.Helper()
	v := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(body, -1) {
		v.Set(m[1], m[2])
	}
	if len(v) != 3 || !strings.Contains(body, `<form method="post" action="/feedback">`) {
		t.Fatalf("no form in %s", body)
	}
	return v
}

func (e *edge) send(t *testing.T, v url.Values, header ...string) (int, string) {
	t.Helper()
	w := e.dial(t)
	header = append(header, "Content-Type: application/x-www-form-urlencoded", "Connection: close", "")
	w.send("POST /feedback HTTP/1.1\r\nHost: app\r\n%s%s", strings.Join(header, "\r\n"), sized(v.Encode()))
	resp, body := w.answer()
	return resp.StatusCode, body
}

func TestWhatPeopleWriteAboutAFailureArrives(t *testing.T) {
	told := make(chan web.Feedback, 2)
	take := func(_ context.Context, f web.Feedback) { told <- f }
	e := start(t, web.Options{Handler: failing(), Feedback: take})
	resp, body := e.ask(t, "GET", "/panic", browser)
	v := form(t, body)
	with := func(name, value string) url.Values {
		c := url.Values{"comment": {"it broke"}}
		for k := range v {
			c.Set(k, v.Get(k))
		}
		c.Set(name, value)
		return c
	}
	full := with("name", "Ann")
	full.Set("email", "ann@example.com")
	status, text := e.send(t, full, browser)
	if status != 200 || !strings.Contains(text, "Thank you") {
		t.Fatalf("have %d %s", status, text)
	}
	want := web.Feedback{ReportID: v.Get("report_id"), RequestID: resp.Header.Get("X-Request-ID"), Comment: "it broke", Name: "Ann", Email: "ann@example.com"}
	if have := <-told; have != want {
		t.Errorf("have %+v, want %+v", have, want)
	}
	if status, text := e.send(t, full); status != 200 || text != fmt.Sprintf("{\"report_id\":%q}\n", want.ReportID) {
		t.Errorf("for a program: have %d %s", status, text)
	}
	<-told

	other := start(t, web.Options{Handler: failing(), Feedback: take})
	_, body = other.ask(t, "GET", "/panic", browser)
	for name, c := range map[string]struct {
		form url.Values
		want int
	}{
		"of another report":    {with("report_id", strings.Repeat("0", 32)), 403},
		"of another request":   {with("request_id", "other"), 403},
		"with no token":        {with("token", ""), 403},
		"with a made-up one":   {with("token", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 403},
		"of another server":    {with("token", form(t, body).Get("token")), 403},
		"without a word":       {with("comment", ""), 400},
		"too long":             {with("comment", strings.Repeat("ä", 2001)), 400},
		"not UTF-8":            {with("name", "\xff"), 400},
		"far too long":         {with("comment", strings.Repeat("ä", 20_000)), 413},
		"as long as it may be": {with("comment", strings.Repeat("ä", 2000)), 200},
	} {
		if status, text := e.send(t, c.form); status != c.want {
			t.Errorf("%s: have %d %s, want %d", name, status, text, c.want)
		}
	}
	if have := len(told); have != 1 {
		t.Errorf("have %d told, want only the good one", have)
	}
	e.until(t, 429, func() int { // faster than people write
		status, _ := e.send(t, full)
		for len(told) > 0 {
			<-told
		}
		return status
	})
	if resp, _ := e.ask(t, "GET", "/feedback"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("have %s %v", resp.Status, resp.Header)
	}
	e = start(t, web.Options{Handler: failing()})
	if status, _ := e.send(t, full); status != 404 {
		t.Errorf("without anybody who listens: have %d, want 404", status)
	}
}
