package queue_test

import (
	"context"
	"fmt"
	"os"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	q, err := queue.Open(ctx, queue.Options{Dir: dir})
	if err != nil {
		panic(err)
	}
	if _, err := q.Publish(ctx, event.Event{ID: "order-7", Body: []byte(`{"beds":2}`)}); err != nil {
		panic(err) // not accepted
	}
	e, err := q.Next(ctx)
	if err != nil {
		panic(err)
	}
	if err := q.Begin(e.Receipt); err != nil {
		panic(err)
	}
	fmt.Printf("%s, delivery %d: %s\n", e.ID, e.Delivery, e.Body)
	if err := q.Ack(e.Receipt); err != nil {
		panic(err)
	}
	if err := q.Close(ctx); err != nil {
		panic(err)
	}
	// Output: order-7, delivery 1: {"beds":2}
}
