package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/telemetry"
)

// A worker that handles an event, and Prometheus who asks.
func Example() {
	t, err := telemetry.New(telemetry.Options{App: "shop", Prometheus: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = t.Close(context.Background()) }()
	ctx := telemetry.NewContext(context.Background(), t) // the nanny gives it to each worker

	e := event.Event{ID: "order-1"}
	_, end := telemetry.FromContext(ctx).Handle(ctx, &e)
	end(telemetry.Retried, errors.New("no stock"))

	answer := httptest.NewRecorder()
	t.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "event_handle_duration_seconds_count") || strings.HasPrefix(line, "uncaught") {
			fmt.Print(line)
		}
	}
	// Output:
	// event_handle_duration_seconds_count{outcome="retried"} 1
	// uncaught_exceptions_total{kind="unhandled",where="handler"} 1
}
