package logging

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/fault"
)

// devLog is where the host's syslog daemon listens.
const devLog = "/dev/log"

// dialTimeout is for a peer that does not even refuse. It bounds name resolution too.
const dialTimeout = 5 * time.Second

// address is where a syslog daemon listens.
type address struct {
	network string // udp, tcp or unix
	host    string // host:port, or a path
}

func (a address) String() string { return a.network + "://" + a.host }

// parseAddress returns where to send to, nil for nowhere. local is whether devLog is a socket. Its error does not
// hold s: settings are not echoed.
func parseAddress(s string, local bool) (*address, error) {
	switch {
	case s == "off", s == "" && !local:
		return nil, nil
	case s == "":
		return &address{"unix", devLog}, nil
	}
	a, err := splitAddress(s)
	if err != nil {
		return nil, fault.Config("set SYSLOG_ADDRESS to udp://host:514, tcp://host:601, unix:///dev/log, or off",
			errors.New("logging: SYSLOG_ADDRESS: "+err.Error()))
	}
	return a, nil
}

func splitAddress(s string) (*address, error) {
	network, _, ok := strings.Cut(s, "://")
	if !ok {
		return nil, errors.New("no scheme")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("not an address")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return nil, errors.New("more than a place")
	}
	switch network {
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.Contains(u.Path, "\x00") {
			return nil, errors.New("no absolute path")
		}
		return &address{network, u.Path}, nil
	case "udp", "tcp":
		port := u.Port()
		switch {
		case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "[]") || u.Path != "" && u.Path != "/":
			return nil, errors.New("no host")
		case port == "" && network == "udp":
			port = "514" // RFC 5426
		case port == "":
			port = "601" // RFC 3195 reserved it, RFC 6587 lists it
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("not a port")
		}
		return &address{network, net.JoinHostPort(u.Hostname(), port)}, nil
	}
	return nil, errors.New("unknown scheme")
}

// dial connects, and returns how messages are separated there. It blocks for at most dialTimeout.
func (a address) dial(ctx context.Context) (net.Conn, framing, error) {
	d := net.Dialer{Timeout: dialTimeout}
	switch a.network {
	case "udp":
		conn, err := d.DialContext(ctx, "udp", a.host)
		return conn, datagram, err
	case "tcp":
		conn, err := d.DialContext(ctx, "tcp", a.host)
		return conn, octetCounting, err
	}
	conn, err := d.DialContext(ctx, "unixgram", a.host)
	if err == nil {
		return conn, datagram, nil
	}
	if conn, streamErr := d.DialContext(ctx, "unix", a.host); streamErr == nil {
		return conn, lines, nil
	}
	return nil, datagram, err
}

// isSocket returns whether path is a socket; a folder of that name is what docker makes of a missing one.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}
