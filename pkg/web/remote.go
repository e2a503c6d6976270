package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds how many elements of X-Forwarded-For are looked at: nobody has more proxies of his own in a row.
const maxHops = 16

// clientOf returns who asks: the peer, or whom the trusted proxies in front name in X-Forwarded-For. Without an IP address
// (a unix socket) it is the zero Addr.
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

// forwarded walks the list from its end, where the nearest proxy wrote, as long as who wrote is trusted. What stands
// before that may be the client's invention. It stops at what is no address.
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

// homeBits is the part of an IPv6 address that stands for one customer: within a /64 everybody picks addresses at will.
const homeBits = 64

// home returns what one client can't easily change of its address.
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
