package zmq_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/go-zeromq/zmq4"

	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
)

// BenchmarkPipeline sends events from one goroutine to another, each way in turn so that their ratios are of one run:
// a buffered channel (each event allocated, as Recv's are), the raw library's inproc (with the 255 bytes at most that
// it survives), and the sockets of this package.
func BenchmarkPipeline(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("%dB/chan", size), func(b *testing.B) { benchChannel(b, size) })
		if size <= 255 {
			b.Run(fmt.Sprintf("%dB/raw-inproc", size), func(b *testing.B) { benchRaw(b, size) })
		}
		for _, ep := range []string{"inproc://bench", "ipc://" + b.TempDir() + "/s", "tcp://127.0.0.1:0"} {
			b.Run(fmt.Sprintf("%dB/ours-%s", size, scheme(ep)), func(b *testing.B) { benchOurs(b, ep, size) })
		}
	}
}

func scheme(ep string) string { return ep[:bytes.IndexByte([]byte(ep), ':')] }

func benchChannel(b *testing.B, size int) {
	events := make(chan []byte, 1024)
	msg := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			events <- bytes.Clone(msg)
		}
	}()
	for range b.N {
		if len(<-events) != size {
			b.Error("wrong size")
		}
	}
}

func benchRaw(b *testing.B, size int) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ep := "inproc://bench-" + b.Name() + fmt.Sprint(b.N)
	pull, push := zmq4.NewPull(ctx), zmq4.NewPush(ctx)
	defer pull.Close()
	defer push.Close()
	if err := pull.Listen(ep); err != nil {
		b.Fatal(err)
	}
	if err := push.Dial(ep); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			push.Send(zmq4.NewMsg(make([]byte, size))) // it keeps the slice
		}
	}()
	for range b.N {
		if _, err := pull.Recv(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchOurs(b *testing.B, ep string, size int) {
	ctx := worker.NewContext(b.Context(), worker.New("bench"))
	c := zmq.NewContext(zmq.Options{})
	pull, push := newSocket(b, c, ctx, zmq.Pull), newSocket(b, c, ctx, zmq.Push)
	bind(b, pull, ep)
	connect(b, push, pull.Endpoint())
	msg := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if err := push.Send(ctx, msg); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	for range b.N {
		msg, err := pull.Recv(ctx)
		if err != nil || len(msg) != size {
			b.Fatal(len(msg), err)
		}
	}
}
