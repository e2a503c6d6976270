package control

import (
	"fmt"
	"log/slog"
	"net"
	"syscall"
)

// guarded is a unix listener that accepts only connections of root and one user.
type guarded struct {
	*net.UnixListener
	self uint32
	log  *slog.Logger
}

// Accept returns the next connection of root or the user. All others are closed without an answer.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(c)
		if err == nil && (p.uid == 0 || p.uid == g.self) {
			return &conn{UnixConn: c, peer: p}, nil
		}
		g.log.Warn("control connection refused: only root and the app's own user may", "pid", p.pid, "uid", p.uid, "error", err)
		_ = c.Close()
	}
}

// peer is the process that connected, by the kernel's record of that moment (SO_PEERCRED, unix(7)). It may have ended since.
type peer struct {
	pid int32 // as seen from this PID namespace, 0 from outside of it
	uid uint32
}

func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *syscall.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); e != nil {
		return peer{}, e
	}
	if err != nil {
		return peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return peer{pid: cred.Pid, uid: cred.Uid}, nil
}

// conn has its peer as the remote address, since net/http passes that to handlers.
type conn struct {
	*net.UnixConn
	peer peer
}

func (c *conn) RemoteAddr() net.Addr { return c.peer }

// Network is net.Addr's.
func (p peer) Network() string { return "unix" }

// String returns the peer for the log lines of requests.
func (p peer) String() string { return fmt.Sprintf("pid=%d uid=%d", p.pid, p.uid) }
