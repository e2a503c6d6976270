package outbox_test

import (
	"context"
	"fmt"
	"time"

	"example.com/base-app/pkg/outbox"
)

func Example() {
	readings := outbox.New(outbox.Options[int]{
		Name: "readings", Items: 3, Batch: 10,
		Deliver: func(_ context.Context, batch []int) error {
			fmt.Println("delivered:", batch)
			return nil
		},
	})
	for n := range 5 {
		if dropped := readings.Post(n); len(dropped) > 0 { // more than may wait: the oldest give way
			fmt.Println("dropped:", dropped)
		}
	}
	readings.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	lost, err := readings.Close(ctx)
	fmt.Println("lost:", lost, err)
	// Output:
	// dropped: [0]
	// dropped: [1]
	// delivered: [2 3 4]
	// lost: 0 <nil>
}
