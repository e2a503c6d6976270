package web

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxClients is how many buckets one generation remembers: one per client and route. There are two generations, and a
	// bucket is about 250 bytes. A limit per client is no help against a client with more addresses than that.
	maxClients = 16 << 10
	// minGeneration keeps the generations from being changed all the time when buckets fill fast.
	minGeneration = 10 * time.Second
	// maxHeaderFields is Apache's standard; browsers send about fifteen.
	maxHeaderFields = 100
	// refusalPatience is how long the server reads on when it has refused a body: a decent client keeps its connection.
	refusalPatience = 250 * time.Millisecond
)

// visitor is what has a bucket of its own: a client on a route.
type visitor struct {
	client netip.Addr
	route  string
}

// limits are the token buckets of the clients. Buckets are kept in two generations; when the young one ends it becomes
// the old one, and the buckets of the old one that were not used since are forgotten. The young generation ends
//   - when it is older than a bucket needs to fill: a forgotten bucket was full, and a new one is the same;
//   - when it has maxClients buckets, so that a flood of addresses doesn't fill the memory. Then a client that was silent
//     since gets a full bucket. That is no harm: load protects the server itself.
type limits struct {
	rate       float64
	burst      int
	policy     []string // the header, always the same
	generation time.Duration

	mu         sync.Mutex
	young, old map[visitor]*rate.Limiter
	born       time.Time // the young generation
}

// newLimits returns nil if there is no limit.
func newLimits(perSecond float64, burst int) *limits {
	if perSecond <= 0 {
		return nil
	}
	burst = max(burst, 1)
	fill := time.Duration(float64(burst) / perSecond * float64(time.Second))
	return &limits{rate: perSecond, burst: burst, generation: max(fill, minGeneration),
		policy: []string{fmt.Sprintf(`"default";q=%d;w=%d`, burst, seconds(fill.Seconds()))},
		young:  map[visitor]*rate.Limiter{}, born: time.Now()}
}

// seconds rounds up to whole seconds, of which there is at least one.
func seconds(s float64) int { return max(1, int(math.Ceil(s))) }

func (l *limits) bucket(v visitor, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.born) > l.generation || len(l.young) >= maxClients {
		l.old, l.young, l.born = l.young, make(map[visitor]*rate.Limiter), now
	}
	b := l.young[v]
	if b == nil {
		if b = l.old[v]; b == nil {
			b = rate.NewLimiter(rate.Limit(l.rate), l.burst)
		}
		l.young[v] = b
	}
	return b
}

// allow removes a token from b, if there is one, and returns whether there was. It sets the answer's headers of
// draft-ietf-httpapi-ratelimit-headers-10: q tokens fit into the bucket, which fills within w seconds; r are left, and
// in t seconds it is full.
func (l *limits) allow(h http.Header, b *rate.Limiter, now time.Time) bool {
	ok := b.AllowN(now, 1)
	left := b.TokensAt(now)
	var room [48]byte
	text := append(room[:0], `"default";r=`...)
	text = strconv.AppendInt(text, int64(max(left, 0)), 10)
	text = append(text, ";t="...)
	text = strconv.AppendInt(text, int64(seconds((float64(l.burst)-left)/l.rate)), 10)
	h["Ratelimit-Policy"] = l.policy
	h["Ratelimit"] = []string{string(text)}
	if !ok {
		h.Set("Retry-After", strconv.Itoa(seconds((1-left)/l.rate)))
	}
	return ok
}

func (l *limits) problem() *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Detail: fmt.Sprintf("too many requests: %g a second are allowed", l.rate),
		Hint: "wait as long as Retry-After says, or send fewer requests with more in each"}
}

// limited is the stage that bounds one client: the number of its header fields, and its rate.
func limited(next http.Handler, s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if countFields(r.Header) > maxHeaderFields {
			refuse(w, r, &Problem{Status: http.StatusRequestHeaderFieldsTooLarge,
				Detail: fmt.Sprintf("the header has more than %d fields", maxHeaderFields)})
			return
		}
		if s.limits == nil || probe(r) {
			next.ServeHTTP(w, r)
			return
		}
		x := exchangeOf(r.Context())
		if !s.limits.allow(w.Header(), s.limits.bucket(visitor{home(x.client), s.routeOf(r)}, x.began), x.began) {
			refuse(w, r, s.limits.problem())
			return
		}
		next.ServeHTTP(w, r)
	})
}

func countFields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// refuse answers a request whose body has not been read. net/http reads the rest of the body, so that the connection can
// be used again; the deadline bounds that.
func refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusalPatience))
	}
	p.Write(w, r)
}

// probe returns whether r asks how the server is. Such a request is neither limited nor shed: a supervisor that decides
// about a restart needs an answer even when the server is full.
func probe(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/version":
		return true
	}
	return false
}
