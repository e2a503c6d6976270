package web

import (
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// The places must hold even while those that gave way have not ended yet, a moment that real sockets don't offer.
func TestWhoGaveWayIsNotAskedTwice(t *testing.T) {
	l := &conns{max: 2, log: slog.New(slog.DiscardHandler), open: map[net.Conn]uint64{}}
	var list [5]net.Conn
	for i := range list {
		list[i], _ = net.Pipe()
	}
	closed := func(c net.Conn) bool { return c.SetDeadline(time.Time{}) != nil }
	for i, c := range list[:4] {
		if !l.admit(c) {
			t.Fatalf("connection %d is refused although others wait", i)
		}
	}
	for i, want := range []bool{true, true, false, false} {
		if have := closed(list[i]); have != want {
			t.Errorf("connection %d closed: have %v, want %v", i, have, want)
		}
	}
	l.state(list[0], http.StateActive) // its request was read just before it was closed
	l.state(list[2], http.StateActive)
	l.state(list[3], http.StateActive)
	if l.admit(list[4]) {
		t.Error("a connection is let in although requests have all places")
	}
	gone := l.gone()
	for i, c := range list[:4] {
		select {
		case <-gone:
			t.Fatalf("all are gone with %d still open", 4-i)
		default:
		}
		l.state(c, http.StateClosed)
		_ = c.Close()
	}
	<-gone
	if !l.admit(list[4]) || l.left != 0 {
		t.Errorf("places are lost: %d leaving", l.left)
	}
}
