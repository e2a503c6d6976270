package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestWhoPrefersHTML(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": true, // Firefox and Chromium
		"*/*":                                  false, // curl
		"application/json":                     false,
		"text/html":                            true,
		"TEXT/HTML":                            true,
		"text/*":                               true,
		"text/html;q=0":                        false,
		"text/html, application/json":          false, // a tie
		"text/html;q=0.9, application/json":    false,
		"text/html, application/json;q=0.9":    true,
		"text/html;q=0.5, */*;q=0.4":           true,
		"text/html;q=0.4, */*;q=0.5":           false,
		"text/html;q=0, */*":                   false,
		"text/html, application/problem+json":  false,
		"text/html;q=0.8, application/*;q=0.9": false,
		"text/*;q=0.3, text/html;q=0.7, application/json;q=.5": true, // ".5" is no qvalue: that element is passed over
		"text/html;level=1":            true,
		`text/html;a="b,c;q=0"`:        true,
		`text/plain;a="x,text/html"`:   false,
		`text/plain;a="x\",text/html"`: false,
		"text/html;q=1.000":            true,
		"text/html;q=1.001":            false,
		"text/html;q=0.0001":           false,
		"text/html;q=2":                false,
		"text/html;q=-1":               false,
		"text/html;q":                  false,
		"text/html ; q=0.001":          true,
		"*/html":                       false,
		"text":                         false,
		"te xt/html":                   false,
		",,, text/html":                true,
	} {
		if have := prefersHTML([]string{accept}); have != want {
			t.Errorf("%s: have %v, want %v", accept, have, want)
		}
	}
	if !prefersHTML([]string{"application/json;q=0.1", "text/html"}) {
		t.Error("the second header line is not read")
	}
}

func FuzzAccept(f *testing.F) {
	for _, s := range []string{"text/html,*/*;q=0.8", `a/b;c="\"`, "text/html;q=0.123", ";;,,//", `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if prefersHTML([]string{s}) && !strings.Contains(strings.ToLower(s), "text/") {
			t.Errorf("%q prefers HTML without a word of it", s)
		}
		if s != "" && prefersHTML([]string{s}) != prefersHTML([]string{s, "nonsense"}) {
			t.Errorf("%q: what is no media range has a say", s)
		}
		if prefersHTML([]string{s, "application/json"}) {
			t.Errorf("%q: something is better than best", s)
		}
	})
}

func networks(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestWhoTheClientIs(t *testing.T) {
	trusted := networks("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		name, peer string
		list       []string
		want       string
	}{
		{"a peer that is no proxy", "192.0.2.1:5", []string{"203.0.113.7"}, "192.0.2.1"},
		{"a proxy without the header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"a proxy", "10.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{"two proxies", "10.0.0.1:5", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"two proxies, a line each", "10.0.0.1:5", []string{"203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		{"what the client made up", "10.0.0.1:5", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{"what the client made up, as a proxy", "10.0.0.1:5", []string{"198.51.100.1,10.9.9.9", "203.0.113.7"}, "203.0.113.7"},
		{"all are ours", "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no address", "10.0.0.1:5", []string{"203.0.113.7, unknown"}, "10.0.0.1"},
		{"no address before one of ours", "10.0.0.1:5", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an empty element", "10.0.0.1:5", []string{"203.0.113.7,"}, "10.0.0.1"},
		{"a port", "10.0.0.1:5", []string{"203.0.113.7:1234"}, "203.0.113.7"},
		{"IPv6", "[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with a port", "[fd00::1]:5", []string{"[2001:db8::7]:99"}, "2001:db8::7"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:5", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"more proxies than anybody has", "10.0.0.1:5", []string{"203.0.113.7" + strings.Repeat(",10.0.0.2", 10_000)}, "10.0.0.2"},
		{"a unix socket", "pid 7 uid 0", []string{"203.0.113.7"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.list}}
		if have := clientOf(r, trusted).String(); have != c.want {
			t.Errorf("%s: have %s, want %s", c.name, have, c.want)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"203.0.113.7, 10.0.0.2", "[::1]:80", ",,,", "fe80::1%eth0", "10.0.0.1:99999"} {
		f.Add(s, "10.0.0.1")
	}
	trusted := networks("10.0.0.0/8", "::1/128")
	f.Fuzz(func(t *testing.T, list, last string) {
		peer := netip.MustParseAddr("10.0.0.1")
		have := forwarded([]string{list}, peer, trusted)
		if !have.IsValid() || have.Zone() != "" || have.Is4In6() {
			t.Errorf("%q: have %v", list, have)
		}
		stranger := netip.MustParseAddr("192.0.2.1")
		if have := forwarded([]string{list}, stranger, trusted); have != stranger {
			t.Errorf("%q: a stranger's header counts: %v", list, have)
		}
		if strings.Contains(last, ",") {
			return
		}
		if addr, ok := parseHop(strings.Trim(last, " \t")); ok && !contains(trusted, addr) {
			if have := forwarded([]string{list, last}, peer, trusted); have != addr {
				t.Errorf("%q before %q: have %v, want what our proxy wrote", list, last, have)
			}
		}
	})
}

func TestOneHomeIsOneClient(t *testing.T) {
	var homes []netip.Addr
	for _, s := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"} {
		homes = append(homes, home(netip.MustParseAddr(s)))
	}
	if homes[0] == homes[1] || homes[2] != homes[3] || homes[3] == homes[4] {
		t.Errorf("have %v", homes)
	}
	if slices.Contains(homes, home(netip.Addr{})) {
		t.Error("no address is somebody's")
	}
}
