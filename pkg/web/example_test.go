package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/base-app/pkg/web"
)

func Example() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		body, ok := web.ReadJSONObject(w, r, 1<<20)
		if !ok {
			return // it has been answered
		}
		web.WriteJSON(w, r, http.StatusAccepted, map[string]any{"bytes": len(body)})
	})
	server, err := web.Listen(context.Background(), web.Options{Addr: "127.0.0.1:0", Handler: mux})
	if err != nil {
		fmt.Println(err) // its hint says what to do
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()

	for _, body := range []string{`{"kind":"order"}`, `{"kind":1,"kind":2}`} {
		request, _ := http.NewRequest("POST", "http://"+server.Addr().String()+"/events", strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Request-ID", "example-1")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(err)
			return
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		fmt.Printf("%d %s", answer.StatusCode, text)
	}
	stop()
	fmt.Println(<-done)
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 202 {"bytes":16}
	// 400 {"title":"Bad Request","status":400,"detail":"json: the name \"kind\" is there twice, at byte 10","instance":"/events","request_id":"example-1"}
	// <nil>
}
