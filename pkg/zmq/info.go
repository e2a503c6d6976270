package zmq

import (
	"fmt"
	"path"
	"runtime"
	"strconv"
	"time"
)

// SocketInfo describes a socket at one moment. Times are zero for what has not happened yet.
type SocketInfo struct {
	ID       uint64    `json:"id"`       // counts from 1 in each Context
	Type     Type      `json:"type"`     // PUSH or PULL
	Endpoint string    `json:"endpoint"` // inproc://app-relay; a tcp port 0 is resolved; empty before Bind and Connect
	Bound    bool      `json:"bound"`    // true by Bind, false by Connect
	Owner    string    `json:"owner"`    // the worker that made it, empty if none
	Origin   string    `json:"origin"`   // where it was made, as app/reader.go:42
	Opened   time.Time `json:"opened"`
	LastSend time.Time `json:"last_send,omitzero"` // when a peer last received messages
	LastRecv time.Time `json:"last_recv,omitzero"` // when Recv last began a frame; on inproc that is a batch of messages
	Sent     uint64    `json:"sent"`               // messages that Send accepted
	Received uint64    `json:"received"`           // messages that Recv returned
	Dropped  uint64    `json:"dropped"`            // messages of several parts that a peer sent
	Peers    int       `json:"peers"`              // connections that are ready
	Blocked  string    `json:"blocked,omitempty"`  // the call that waits now: send, recv, connect
}

// String returns a line for a list of sockets: type, endpoint, owner and origin.
func (i SocketInfo) String() string {
	way, ep, owner := "connected to ", i.Endpoint, i.Owner
	if i.Bound {
		way = "bound to "
	}
	if ep == "" {
		way, ep = "", "unused"
	}
	if owner == "" {
		owner = "nobody"
	}
	return fmt.Sprintf("%s %s%s, owned by %s, made at %s", i.Type, way, ep, owner, i.Origin)
}

// info describes the socket. It needs only the lock, which nobody holds while waiting.
func (s *Socket) info() SocketInfo {
	s.mu.Lock()
	i := SocketInfo{
		ID: s.id, Type: s.typ, Endpoint: s.endpoint, Bound: s.bound, Owner: s.owner.Name(),
		Opened: s.opened, LastSend: s.lastSend, LastRecv: s.lastRecv,
		Sent: s.sent, Received: s.received, Dropped: s.dropped, Peers: s.peers,
	}
	switch {
	case s.connecting > 0:
		i.Blocked = "connect"
	case s.waiting > 0 && s.typ == Push:
		i.Blocked = "send"
	case s.waiting > 0:
		i.Blocked = "recv"
	}
	s.mu.Unlock()
	i.Origin = origin(s.origin[:])
	return i
}

// origin returns the call site as text. It is resolved only when it is read, since that costs a microsecond and memory.
func origin(pcs []uintptr) string {
	frame, _ := runtime.CallersFrames(pcs).Next()
	if frame.File == "" {
		return "unknown"
	}
	folder := path.Base(path.Dir(frame.File))
	return folder + "/" + path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
}
