package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/base-app/pkg/event"
)

func TestAnEventIsHandledAndCounted(t *testing.T) {
	h := &handler{log: slog.New(slog.DiscardHandler), greeting: "hi"}
	if err := h.any(context.Background(), event.Event{ID: "one", Body: []byte(`{"greeting":"hello"}`)}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.routes(mux)
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/hello", nil))
	if want, have := `{"greeting":"hi","handled":1}`, strings.TrimSpace(answer.Body.String()); have != want {
		t.Errorf("want %s, have %s", want, have)
	}
}
