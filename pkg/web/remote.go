package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds how many elements of X-Forwarded-For are read: nobody has more proxies of their own in a row.
const maxHops = 16

// clientOf returns the client's address: the peer's, or the one that trusted proxies name in X-Forwarded-For. For a peer
// without an IP address (a unix socket) it is the zero Addr.
func clientOf(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 {
		return addr
	}
	return forwarded(r.Header["X-Forwarded-For"], addr, trusted)
}

// forwarded reads the list from its end, where the nearest proxy wrote, as long as the writer of an element is trusted:
// the client may have invented the elements before that. It stops at an element that is no address.
func forwarded(list []string, peer netip.Addr, trusted []netip.Prefix) netip.Addr {
	addr := peer
	hops := 0
	for i := len(list) - 1; i >= 0; i-- {
		for rest, more := list[i], true; more; {
			element := rest
			at := strings.LastIndexByte(rest, ',')
			if more = at >= 0; more {
				rest, element = rest[:at], rest[at+1:]
			}
			if hops++; hops > maxHops || !contains(trusted, addr) {
				return addr
			}
			next, ok := parseHop(strings.Trim(element, " \t"))
			if !ok {
				return addr
			}
			addr = next
		}
	}
	return addr
}

// parseHop reads 192.0.2.1, 192.0.2.1:80, 2001:db8::1 and [2001:db8::1]:80, all of which proxies write.
func parseHop(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if pair, err := netip.ParseAddrPort(s); err == nil {
		return pair.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// homeBits is the part of an IPv6 address that stands for one customer: within a /64 a client picks addresses at will.
const homeBits = 64

// home returns the part of an address that a client can't easily change.
func home(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	p, err := addr.Prefix(homeBits)
	if err != nil {
		return addr
	}
	return p.Addr()
}
