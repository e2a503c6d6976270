package main

import (
	"net/http"

	"example.com/base-app/pkg/web"
)

// routes adds what the app serves beside /events, /healthz, /readyz and /version.
func (h *handler) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /hello", h.hello)
}

func (h *handler) hello(w http.ResponseWriter, r *http.Request) {
	web.WriteJSON(w, r, http.StatusOK, map[string]any{"greeting": h.greeting, "handled": h.handled.Load()})
}
