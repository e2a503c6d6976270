package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

func TestAHandlerThatFailsIsAnsweredByTheKindOfItsError(t *testing.T) {
	errInner := errors.New("db-7 is on fire")
	for _, c := range []struct {
		name       string
		err        error
		status     int
		retryAfter string
		log, level string
		reports    int
	}{
		{"a dependency", fault.Dependency("users-db", errInner), 503, "1", "failed", "WARN", 0},
		{"a dependency, wrapped", fmt.Errorf("users: %w", fault.Dependency("users-db", errInner)), 503, "1", "failed", "WARN", 0},
		{"an open breaker", fault.Dependency("users-db", dependency.ErrOpen), 503, "5", "failed", "WARN", 0},
		{"an error that nobody expected", errInner, 500, "", "failed", "ERROR", 1},
		{"a client that has gone", fmt.Errorf("call users-db: %w", context.Canceled), 503, "", "the client has gone", "DEBUG", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			reports := make(chan *fault.Error, 2)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /x", func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				if errors.Is(c.err, context.Canceled) {
					cancel()
				}
				web.Fail(w, r.WithContext(ctx), c.err)
			})
			e := start(t, web.Options{Handler: mux, Report: func(_ context.Context, f *fault.Error) { reports <- f }})
			resp, body := e.ask(t, "GET", "/x")
			problem(t, resp, body)
			if after := resp.Header.Get("Retry-After"); resp.StatusCode != c.status || after != c.retryAfter {
				t.Errorf("want %d and Retry-After %q, have %s and %q", c.status, c.retryAfter, resp.Status, after)
			}
			if strings.Contains(body, "users-db") {
				t.Errorf("want nothing of the error in the answer, have %s", body)
			}
			record := e.logs.find(t, c.log)
			if record["level"] != c.level || record["error"] != c.err.Error() || record["subject"] != "handler GET /x" {
				t.Errorf("want it logged at %s with its cause, have %v", c.level, record)
			}
			if len(reports) != c.reports {
				t.Errorf("want %d reports, have %d", c.reports, len(reports))
			}
		})
	}
}

// A handler's own test needs no server.
func TestFailAnswersWithoutAServer(t *testing.T) {
	w := httptest.NewRecorder()
	web.Fail(w, httptest.NewRequest("GET", "/x", nil), fault.Dependency("users-db", dependency.ErrBusy))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("have %d %v", w.Code, w.Header())
	}
}
