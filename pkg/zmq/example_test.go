package zmq_test

import (
	"context"
	"fmt"
	"time"

	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

func Example() {
	ctx := context.Background()
	sockets := zmq.NewContext(zmq.Options{})

	relay, _ := sockets.Socket(ctx, zmq.Pull)
	defer relay.Close()
	relay.Bind(ctx, "inproc://app-relay")

	reader, _ := sockets.Socket(ctx, zmq.Push)
	defer reader.Close()
	reader.Connect(ctx, "inproc://app-relay")

	reader.Send(ctx, []byte("an event"))
	msg, err := relay.Recv(ctx)
	fmt.Printf("%s, %v\n", msg, err)
	// Output: an event, <nil>
}

// A socket that its owner forgot is told at the end, with the place where it was made.
func ExampleContext_Term() {
	ctx := worker.NewContext(context.Background(), worker.New("reader"))
	sockets := zmq.NewContext(zmq.Options{})
	pull, _ := sockets.Socket(ctx, zmq.Pull)
	pull.Bind(ctx, "inproc://app-relay")

	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	fmt.Println(sockets.Term(ctx))
	// Output: zmq: terminate: sockets left open: PULL bound to inproc://app-relay, owned by reader, made at zmq/example_test.go:34: context deadline exceeded
}
