package web

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func number(i int) visitor {
	return visitor{client: netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))))}
}

func TestABucketFillsAndSaysHowItStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(2, 10)
		take := func(n int) (bool, http.Header) {
			var h http.Header
			ok := true
			for range n {
				h = http.Header{}
				ok = l.allow(h, l.bucket(number(1), time.Now()), time.Now())
			}
			return ok, h
		}
		for _, c := range []struct {
			after       time.Duration
			take        int
			want        bool
			limit, wait string
		}{
			{0, 1, true, `"default";r=9;t=1`, ""},
			{0, 9, true, `"default";r=0;t=5`, ""},
			{0, 1, false, `"default";r=0;t=5`, "1"},
			{time.Second, 1, true, `"default";r=1;t=5`, ""},
			{time.Second, 4, false, `"default";r=0;t=5`, "1"},
			{time.Minute, 10, true, `"default";r=0;t=5`, ""},
		} {
			time.Sleep(c.after)
			ok, h := take(c.take)
			if ok != c.want || h["Ratelimit"][0] != c.limit || h.Get("Retry-After") != c.wait || h["Ratelimit-Policy"][0] != `"default";q=10;w=5` {
				t.Errorf("%+v: have %v, %v", c, ok, h)
			}
		}
	})
}

func TestClientsAreForgottenOnlyWhenThatChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst, perSecond = 100, 1 // it takes 100 s to fill
		l := newLimits(perSecond, burst)
		empty := func(i int) bool { return l.bucket(number(i), time.Now()).TokensAt(time.Now()) < burst }
		l.bucket(number(1), time.Now()).AllowN(time.Now(), burst)
		for range 99 {
			time.Sleep(time.Second)
			l.bucket(number(2), time.Now())
		}
		if !empty(1) {
			t.Error("a bucket was forgotten before it was full")
		}
		for range 4 {
			time.Sleep(100 * time.Second)
			l.bucket(number(2), time.Now())
		}
		if l.young[number(1)] != nil || l.old[number(1)] != nil || l.young[number(2)] == nil {
			t.Errorf("have %v and %v remembered, want the one that still comes", l.young, l.old)
		}
	})
}

func TestAFloodOfAddressesFillsNoMemoryAndFreesNobodyWhoIsStillThere(t *testing.T) {
	l := newLimits(1, 2)
	now := l.born // the clock stands still: a generation ends by its number of clients alone
	greedy := 0
	for i := range 4 * maxClients {
		l.bucket(number(i+10), now)
		if have := len(l.young) + len(l.old); have > 2*maxClients {
			t.Fatalf("have %d clients remembered, want at most %d", have, 2*maxClients)
		}
		if i%(maxClients/2) == 0 && l.bucket(number(1), now).AllowN(now, 1) {
			greedy++
		}
	}
	if greedy > 2 {
		t.Errorf("one client got %d tokens although the clock stood still, want the 2 that there were", greedy)
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimits(1_000_000, 1_000_000)
	for i := range maxClients / 2 {
		l.bucket(number(i), time.Now())
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		h := http.Header{}
		for i := 0; pb.Next(); i++ {
			now := time.Now()
			l.allow(h, l.bucket(number(i%(maxClients/2)), now), now)
		}
	})
}
