package web_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
)

// What stands in Options.Trace sees each request with its id, gives the log line its attributes, and knows the answer.
func TestATraceKnowsTheRequestAndItsAnswer(t *testing.T) {
	type seen struct {
		id     string
		answer web.Answer
	}
	told := make(chan seen, 1)
	logs := &logs{}
	l, err := logging.New(logging.Options{Out: logs, Format: "json", Syslog: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tea/{kind}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("GET /broken", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("GET /silent", func(http.ResponseWriter, *http.Request) {})
	e := start(t, web.Options{Handler: mux, Log: l.Logger(), WithAttrs: logging.With, Trace: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := logging.With(r.Context(), slog.String("trace_id", "trace-of-"+web.RequestID(r.Context())))
			next.ServeHTTP(w, r.WithContext(ctx))
			told <- seen{web.RequestID(ctx), web.AnswerOf(ctx)}
		})
	}})
	for path, want := range map[string]web.Answer{
		"/tea/green": {Route: "GET /tea/{kind}", Status: 418},
		"/broken":    {Route: "GET /broken", Status: 500},
		"/nothing":   {Status: 404},
		"/silent":    {Route: "GET /silent"},
	} {
		_, _ = e.ask(t, "GET", path, "X-Request-Id: id-7")
		have := <-told
		if have.answer.Bytes = 0; have != (seen{"id-7", want}) {
			t.Errorf("%s: want %+v, have %+v", path, want, have)
		}
	}
	if text := logs.String(); strings.Count(text, `"msg":"request"`) != 4 || strings.Count(text, `"trace_id":"trace-of-id-7"`) < 4 {
		t.Errorf("want the attribute in each line, have\n%s", text)
	}
	if have := web.AnswerOf(t.Context()); have != (web.Answer{}) {
		t.Errorf("want nothing outside of a request, have %+v", have)
	}
}
