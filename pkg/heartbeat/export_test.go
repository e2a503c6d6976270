package heartbeat

import (
	"testing"

	"example.com/base-app/pkg/zmq"
)

// Beater returns what Run does at each tick.
func Beater(b *testing.B, addr string) (beat func(), stop func()) {
	c := New(Options{Addr: addr})
	push, err := zmq.NewContext(zmq.Options{}).Connect(b.Context(), zmq.Push, addr)
	if err != nil {
		b.Fatal(err)
	}
	return func() { c.once(b.Context(), push) }, func() { push.Close() }
}
