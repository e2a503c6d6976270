package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"example.com/base-app/pkg/web"
)

// reader reads as much of a body as the path says.
func reader(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
		}
		ok(w, r)
	})
}

// post sends a body and returns when the request's line is in the log, before which that of the body stands.
func (e *edge) post(t *testing.T, path, body string, header ...string) {
	t.Helper()
	w := e.dial(t)
	w.send("POST %s HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), strings.Join(append(header, ""), "\r\n"), body)
	if resp, _ := w.answer(); resp.StatusCode != http.StatusOK {
		t.Fatalf("have %s", resp.Status)
	}
	e.logs.find(t, "request")
}

func TestATextOfARequestIsInTheLogAtDebug(t *testing.T) {
	const thing = `{"greeting":"hello"}`
	for name, c := range map[string]struct {
		path, body string
		header     []string
		want       string // empty: no line
	}{
		"JSON":                   {"/read", thing, []string{"Content-Type: application/json"}, thing},
		"JSON of a kind":         {"/read", thing, []string{"Content-Type: application/vnd.x+json; charset=utf-8"}, thing},
		"a batch":                {"/read", thing + "\n" + thing, []string{"Content-Type: application/x-ndjson"}, thing + "\n" + thing},
		"text":                   {"/read", "hello", []string{"Content-Type: text/plain"}, "hello"},
		"a secret":               {"/read", `{"password":"s3cret \"s3cret","url":"https://app:s3cret@bank/s3cret"}`, []string{"Content-Type: application/json"}, `{"password":[redacted],"url":"https://bank"}`},
		"a secret with brackets": {"/read", `{"token":{"v":"}s3cret"},"pass\u0077ord":["]s3cret"]}`, []string{"Content-Type: application/json"}, `{"token":[redacted],"pass\u0077ord":[redacted]}`},
		"what is not UTF-8":      {"/read", "\xff", []string{"Content-Type: text/plain"}, "?"},
		"a form":                 {"/read", "user=me&password=s3cret", []string{"Content-Type: application/x-www-form-urlencoded"}, ""},
		"bytes":                  {"/read", "s3cret", []string{"Content-Type: application/octet-stream"}, ""},
		"without a type":         {"/read", "s3cret", nil, ""},
		"what is compressed":     {"/read", "s3cret", []string{"Content-Type: text/plain", "Content-Encoding: gzip"}, ""},
		"what nobody reads":      {"/unread", thing, []string{"Content-Type: application/json"}, ""},
		"a type that is no type": {"/read", "s3cret", []string{"Content-Type: text"}, ""},
		"nothing":                {"/read", "", []string{"Content-Type: application/json"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, web.Options{Handler: reader(t)})
			e.post(t, c.path, c.body, c.header...)
			if c.want == "" {
				if strings.Contains(e.logs.String(), "request body") {
					t.Errorf("want no body, have %s", e.logs)
				}
				return
			}
			have := e.logs.find(t, "request body")
			if have["body"] != c.want || have["level"] != "DEBUG" || have["bytes"] != float64(len(c.body)) || have["whole"] != true {
				t.Errorf("want %q of %d bytes, have %v", c.want, len(c.body), have)
			}
			if strings.Contains(e.logs.String(), "s3cret") {
				t.Errorf("a secret is in the log: %s", e.logs)
			}
		})
	}
}

func TestALongBodyIsCutBetweenWords(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"text":         {strings.Repeat("word ", 100_000), strings.TrimSpace(strings.Repeat("word ", 204))},
		"half a URL":   {`{"a":"` + strings.Repeat("x", 1000) + `","url":"https://app:s3cret@bank/` + strings.Repeat("x", 1000) + `"}`, `{"a":"` + strings.Repeat("x", 1000) + `","url":`},
		"no words":     {strings.Repeat("x", 5000), ""},
		"a half token": {`{"a":"` + strings.Repeat("x", 990) + `","token":"` + strings.Repeat("s3cret ", 1000) + `"}`, `{"a":"` + strings.Repeat("x", 990) + `","token":[redacted]`},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, web.Options{Handler: reader(t)})
			e.post(t, "/read", c.body, "Content-Type: text/plain")
			have := e.logs.find(t, "request body")
			if have["body"] != c.want || have["bytes"] != float64(len(c.body)) || have["whole"] != false {
				t.Errorf("want %q of %d bytes, have %v", c.want, len(c.body), have)
			}
		})
	}
}

func TestNoBodyIsLoggedAboveDebug(t *testing.T) {
	l := &logs{}
	e := start(t, web.Options{Log: slog.New(slog.NewJSONHandler(l, nil)), Handler: reader(t)})
	e.logs = l
	e.post(t, "/read", `"hello"`, "Content-Type: application/json")
	if strings.Contains(l.String(), "hello") {
		t.Errorf("want no body in the log, have %s", l)
	}
}
