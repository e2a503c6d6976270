package control_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

func Example() {
	dir, _ := os.MkdirTemp("", "data")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "control.sock")

	server, err := control.Listen(control.Options{Path: path})
	if err != nil {
		fmt.Println(err, fault.Hint(err))
		return
	}
	server.Handle("GET /status", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.WriteJSON(w, r, http.StatusOK, map[string]int{"workers": 3})
	}))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()

	client := control.NewClient(path)
	var status struct{ Workers int }
	fmt.Println(client.Get(ctx, "/status", &status), status.Workers)
	stop()
	fmt.Println(<-done)

	err = client.Get(context.Background(), "/status", &status)
	fmt.Println(fault.Of(err), "-", fault.Hint(err))
	// Output:
	// <nil> 3
	// <nil>
	// dependency - is the app running? set DATA_DIR or CONTROL_SOCKET as it has
}
