package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

func TestRequestID(t *testing.T) {
	type attrsKey struct{}
	seen := make(chan string, 2)
	e := start(t, web.Options{
		WithAttrs: func(ctx context.Context, attrs ...slog.Attr) context.Context {
			return context.WithValue(ctx, attrsKey{}, attrs[0].Key+"="+attrs[0].Value.String())
		},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			seen <- web.RequestID(r.Context())
			seen <- r.Context().Value(attrsKey{}).(string)
		}),
	})
	long := strings.Repeat("x", 128)
	for _, c := range []struct{ name, trace, request, want string }{ // an empty want: a new one
		{"none", "", "", ""},
		{"X-Request-ID", "", "abc-1.2_Z", "abc-1.2_Z"},
		{"X-Trace-ID", "trace", "", "trace"},
		{"X-Trace-ID comes first", "trace", "request", "trace"},
		{"X-Request-ID if the other is bad", "bad one", "request", "request"},
		{"the longest", "", long, long},
		{"too long", "", long + "x", ""},
		{"a space", "", "a b", ""},
		{"a quote", "", `a"b`, ""},
		{"a line break in disguise", "", "a%0d%0aSet-Cookie:x", ""},
		{"a tab", "", "a\tb", ""},
		{"not ASCII", "", "ä", ""},
		{"a path", "", "../../etc/passwd", ""},
		{"terminal codes", "", "a\x7fb", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.trace != "" {
				header = append(header, "X-Trace-ID: "+c.trace)
			}
			if c.request != "" {
				header = append(header, "X-Request-ID: "+c.request)
			}
			resp, _ := e.ask(t, "GET", "/", header...)
			have := resp.Header.Get("X-Request-ID")
			if resp.StatusCode == http.StatusBadRequest { // net/http's own refusal: not a header at all
				if c.name != "terminal codes" {
					t.Fatalf("have %s", resp.Status)
				}
				return
			}
			if inside := <-seen; inside != have {
				t.Errorf("have %q inside, %q outside", inside, have)
			}
			if inside := <-seen; inside != "request_id="+have {
				t.Errorf("log attributes: have %q", inside)
			}
			if c.want != "" {
				if have != c.want {
					t.Errorf("have %q, want %q", have, c.want)
				}
			} else if id, err := uuid.Parse(have); err != nil || id.Version() != 7 {
				t.Errorf("have %q, want a new UUIDv7", have)
			}
		})
	}
	t.Run("a line break ends in two headers, never in one id", func(t *testing.T) {
		resp, _ := e.ask(t, "GET", "/", "X-Request-ID: a\r\nX-Injected: b")
		<-seen
		<-seen
		if resp.Header.Get("X-Request-ID") != "a" || resp.Header.Get("X-Injected") != "" {
			t.Errorf("have %v", resp.Header)
		}
	})
	if have := web.RequestID(context.Background()); have != "" {
		t.Errorf("outside of a request: have %q", have)
	}
}

func routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{id}", ok)
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { web.WriteProblem(w, r, 503, "draining") })
	mux.HandleFunc("GET /missing", http.NotFound)
	mux.HandleFunc("POST /things", ok)
	mux.HandleFunc("GET /bad", func(w http.ResponseWriter, r *http.Request) {
		web.WriteProblem(w, r, http.StatusBadGateway, "the other one is down")
	})
	return mux
}

func TestWhatTheMuxRefusesIsAProblem(t *testing.T) {
	e := start(t, web.Options{Handler: routes()})
	for _, c := range []struct {
		method, path string
		want         int
		allow        string
	}{
		{"GET", "/nothing/here", 404, ""},
		{"PUT", "/things", 405, "POST"},
		{"DELETE", "/things/7", 405, "GET, HEAD"},
	} {
		t.Run(c.method+c.path, func(t *testing.T) {
			resp, body := e.ask(t, c.method, c.path)
			p := problem(t, resp, body)
			if resp.StatusCode != c.want || resp.Header.Get("Allow") != c.allow {
				t.Errorf("have %d with Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
			}
			if p.Instance != c.path || !strings.Contains(p.Detail, c.allow) {
				t.Errorf("have %+v", p)
			}
		})
	}
	t.Run("a handler's own 404 is left alone", func(t *testing.T) {
		resp, body := e.ask(t, "GET", "/missing")
		if resp.StatusCode != 404 || body != "404 page not found\n" {
			t.Errorf("have %s %q", resp.Status, body)
		}
	})
	t.Run("OPTIONS for the whole server has an id too", func(t *testing.T) {
		if resp, _ := e.ask(t, "OPTIONS", "*"); resp.Header.Get("X-Request-ID") == "" {
			t.Errorf("have %v", resp.Header)
		}
	})
}

func TestAccessLog(t *testing.T) {
	for _, c := range []struct {
		method, path, route string
		level               string
		status              float64
	}{
		{"GET", "/things/7?token=secret", "GET /things/{id}", "INFO", 200},
		{"GET", "/bad", "GET /bad", "WARN", 502},
		{"GET", "/nowhere", "", "INFO", 404},
		{"GET", "/healthz", "GET /healthz", "DEBUG", 200},
		{"GET", "/readyz", "GET /readyz", "DEBUG", 503},
	} {
		t.Run(c.path, func(t *testing.T) {
			e := start(t, web.Options{Handler: routes()})
			_, body := e.ask(t, c.method, c.path, "Content-Type: text/x-test")
			have := e.logs.find(t, "request")
			path, _, _ := strings.Cut(c.path, "?")
			for key, want := range map[string]any{"method": c.method, "path": path, "route": c.route, "level": c.level,
				"status": c.status, "bytes": float64(len(body)), "content_type": "text/x-test"} {
				if have[key] != want {
					t.Errorf("%s: have %v, want %v", key, have[key], want)
				}
			}
			if remote, _ := have["remote"].(string); !strings.HasPrefix(remote, "127.0.0.1:") {
				t.Errorf("remote: have %v", have["remote"])
			}
			if d, _ := have["duration_ms"].(float64); d <= 0 {
				t.Errorf("duration_ms: have %v", have["duration_ms"])
			}
			if strings.Contains(e.logs.String(), "secret") {
				t.Error("the query is in the log")
			}
		})
	}
}

func TestPanics(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		whole   bool // a 500 is answered, else the connection is cut
		reports int
	}{
		{"before the answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Content-Encoding", "gzip")
			panic(boom)
		}, true, 1},
		{"an answer that is no JSON", func(w http.ResponseWriter, r *http.Request) {
			web.WriteJSON(w, r, 200, func() {})
		}, true, 1},
		{"within the answer", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of")
			w.(http.Flusher).Flush()
			panic(boom)
		}, false, 1},
		{"to abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /panic/{id}", c.handler)
			mux.HandleFunc("GET /", ok)
			reports := make(chan *fault.Error, 2)
			e := start(t, web.Options{Handler: mux, Report: func(_ context.Context, err *fault.Error) { reports <- err }})
			w := e.dial(t)
			w.send("GET /panic/7 HTTP/1.1\r\nHost: app\r\n\r\n")
			if c.whole {
				resp, body := w.answer()
				if p := problem(t, resp, body); p.Status != 500 || strings.Contains(p.Detail, "boom") || resp.Header.Get("Content-Encoding") != "" {
					t.Errorf("have %+v %v", p, resp.Header)
				}
			} else if have := w.closed(); strings.HasSuffix(have, "0\r\n\r\n") {
				t.Errorf("it looks whole: %q", have)
			}
			record := e.logs.find(t, "request")
			if record["level"] != "WARN" || (record["cut"] == true) == c.whole {
				t.Errorf("have %v", record)
			}
			if have := len(reports); have != c.reports {
				t.Fatalf("have %d reports, want %d", have, c.reports)
			}
			if c.reports > 0 {
				err := <-reports
				if err.Kind != fault.KindPanic || err.Subject != "handler GET /panic/{id}" || len(err.Stack) == 0 {
					t.Errorf("have %v of %q", err.Kind, err.Subject)
				}
				failed := e.logs.find(t, "failed")
				if stack, _ := failed["stack"].(string); failed["level"] != "ERROR" || !strings.Contains(stack, "chain_test.go") && !strings.Contains(stack, "problem.go") {
					t.Errorf("have %v", failed)
				}
			}
			if resp, _ := e.ask(t, "GET", "/"); resp.StatusCode != 200 {
				t.Errorf("afterwards: have %s", resp.Status)
			}
		})
	}
}

func TestSecurityHeadersStandOnEachAnswerAndCanBeReplaced(t *testing.T) {
	mux := routes()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		ok(w, r)
	})
	e := start(t, web.Options{Handler: mux})
	for _, path := range []string{"/healthz", "/nowhere", "/bad"} {
		resp, _ := e.ask(t, "GET", path)
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer"} {
			if have := resp.Header.Get(name); have != want {
				t.Errorf("%s %s: have %q, want %q", path, name, have, want)
			}
		}
	}
	if resp, _ := e.ask(t, "GET", "/page"); resp.Header.Get("Content-Security-Policy") != "default-src 'self'" {
		t.Errorf("have %v", resp.Header)
	}
}

func TestHandlersCanStreamAndSetDeadlines(t *testing.T) {
	letGo := make(chan struct{})
	e := start(t, web.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		if err := errors.Join(c.SetWriteDeadline(time.Now().Add(patience)), c.Flush()); err != nil {
			t.Error(err)
		}
		<-letGo
		_, _ = io.WriteString(w, "later")
	})})
	w := e.dial(t)
	w.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(w.r, nil) // it comes before the handler ends
	if err != nil {
		t.Fatal(err)
	}
	close(letGo)
	if body, _ := io.ReadAll(resp.Body); string(body) != "later" {
		t.Errorf("have %q", body)
	}
}
