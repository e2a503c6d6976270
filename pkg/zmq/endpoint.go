package zmq

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"example.com/base-app/pkg/fault"
)

// maxPath is the longest path of a unix socket on Linux (sun_path, less its closing zero).
const maxPath = 107

// address is a parsed endpoint.
type address struct {
	scheme string // inproc, ipc, tcp
	rest   string // name, path, host:port
}

func (a address) String() string { return a.scheme + "://" + a.rest }

// network returns the name of the network for package net.
func (a address) network() string {
	if a.scheme == "ipc" {
		return "unix"
	}
	return a.scheme
}

func parse(endpoint string) (address, error) {
	const hint = "write inproc://name, ipc:///path/of/socket or tcp://127.0.0.1:port"
	scheme, rest, ok := strings.Cut(endpoint, "://")
	a := address{scheme, rest}
	switch {
	case !ok || rest == "":
		return a, fault.Config(hint, errors.New("not an endpoint"))
	case scheme == "inproc":
		return a, nil
	case scheme == "ipc" && (rest[0] == '@' || strings.ContainsRune(rest, 0)):
		return a, fault.Config("give the path of a file", errors.New("an abstract socket has no permissions: refused"))
	case scheme == "ipc" && len(rest) > maxPath:
		return a, fault.Config("choose a shorter path", fmt.Errorf("a socket's path has at most %d bytes, this has %d", maxPath, len(rest)))
	case scheme == "ipc":
		return a, nil
	case scheme == "tcp":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return a, fault.Config(hint, err)
		}
		return a, nil
	}
	return a, fault.Config(hint, fmt.Errorf("unknown transport %q", scheme))
}

// listen opens a listener that only this machine (tcp) or this user (ipc) can reach.
func listen(ctx context.Context, a address) (net.Listener, address, error) {
	var config net.ListenConfig
	if a.scheme == "tcp" {
		host, port, _ := net.SplitHostPort(a.rest)
		if host == "localhost" {
			host = "127.0.0.1" // even if a hosts file says otherwise
		}
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			return nil, a, fault.Config("bind to tcp://127.0.0.1:port; ZeroMQ has neither encryption nor passwords here",
				fmt.Errorf("%q is not a loopback address: refused", host))
		}
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			return nil, a, fault.Config("free the address or choose another", err)
		}
		return l, address{a.scheme, l.Addr().String()}, nil
	}

	if err := removeDead(ctx, a.rest); err != nil {
		return nil, a, err
	}
	// Linux gives the file the mode that the socket has before bind, less the umask. So there is no moment at which
	// another user could connect.
	config.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		if cerr := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}
	l, err := config.Listen(ctx, "unix", a.rest)
	if err != nil {
		return nil, a, fault.Config("the folder must exist and be writable", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	mine, err := os.Lstat(a.rest)
	if err != nil {
		l.Close()
		return nil, a, fault.Config("", err)
	}
	return &fileListener{Listener: l, path: a.rest, mine: mine}, a, nil
}

// removeDead removes a socket file that nobody listens on. If two processes do so at the same moment, the first one's new
// file may be removed, and nobody reaches it. A program that can be started twice needs a lock; the app has one on its
// data folder.
func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Config("", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fault.Config("choose another path or remove the file", fmt.Errorf("%s exists and is not a socket", path))
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		err = fmt.Errorf("%s is in use: somebody listens on it", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return fault.Config("stop the other process or choose another path", err)
}

// fileListener removes its own file at the end, but not a file that another process put in its place.
type fileListener struct {
	net.Listener
	path string
	mine fs.FileInfo
}

func (l *fileListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.mine) {
		os.Remove(l.path)
	}
	return l.Listener.Close()
}
