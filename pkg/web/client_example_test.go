package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

// A partner's interface that stumbles once, and then is gone.
func ExampleClient() {
	stumbled := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !stumbled {
			stumbled = true
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "accepted "+r.Header.Get("Idempotency-Key"))
	}))

	dependencies := dependency.New(dependency.Options{})
	dep, err := dependencies.Add("partner", dependency.Policy{
		Attempt: 2 * time.Second, // their contract says one
		Rate:    50,              // and this
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	partner := web.NewClient(dep, web.ClientOptions{UserAgent: "my-app/1.0"})
	defer partner.Close()

	send := func(ctx context.Context, id, order string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/orders", strings.NewReader(order))
		if err != nil {
			return err
		}
		req.Header.Set("Idempotency-Key", id) // so that it may be sent again
		resp, err := partner.Do(req)
		if err != nil {
			return err // what a worker returns: the event comes again later, and nobody is woken up
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(text))
		return err
	}
	fmt.Println(send(context.Background(), "order-1", `{"tea":1}`))

	server.Close()
	for range 2 {
		err = send(context.Background(), "order-2", `{"tea":2}`)
		fmt.Println(fault.Of(err), fault.ExitCode(err), errors.Is(err, dependency.ErrOpen))
	}
	h := dependencies.List()[0]
	fmt.Println(h.Name, h.State, h.Breaker)
	// Output:
	// 200 accepted order-1
	// <nil>
	// dependency 69 false
	// dependency 69 true
	// partner down open
}
