package control

import (
	"fmt"
	"log/slog"
	"net"
	"syscall"
)

// guarded is a unix listener that lets only root and one user in.
type guarded struct {
	*net.UnixListener
	self uint32
	log  *slog.Logger
}

// Accept returns the next connection of somebody who may connect. All others are closed without a word.
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

// peer is who connected, as the kernel noted at that moment (SO_PEERCRED, unix(7)). The process may be gone since.
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

// conn carries its peer where TCP connections carry addresses, since that is what net/http hands on.
type conn struct {
	*net.UnixConn
	peer peer
}

func (c *conn) RemoteAddr() net.Addr { return c.peer }

// Network is net.Addr's.
func (p peer) Network() string { return "unix" }

// String is what access log lines show as the remote end.
func (p peer) String() string { return fmt.Sprintf("pid=%d uid=%d", p.pid, p.uid) }
