// Package toxitest shows that the HTTP client of pkg/web holds when the network misbehaves: real calls over real
// connections, through a proxy (github.com/Shopify/toxiproxy) that delays, cuts, drips, resets and swallows. Each test
// first shows that the fault happened, then judges what the caller saw of it. Times are bounded generously: they are
// there to tell a call that ends from one that hangs.
package toxitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

// The proxy's own goroutines sleep on when it is stopped in the middle of a delay; ours must not.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"))
}

// patience bounds what should take a fraction of it.
const patience = 20 * time.Second

// partner is a healthy server behind a proxy, and a client that calls it as a dependency.
type partner struct {
	*web.Client
	dep   *dependency.Dependency
	proxy *toxiproxy.Proxy
	url   string
	asked atomic.Int64 // requests that arrived at the server

	mu       sync.Mutex
	breakers []dependency.Breaker
}

// Try is dependency.Observer's.
func (*partner) Try(context.Context, string, time.Duration, error) {}

// Breaker is dependency.Observer's.
func (x *partner) Breaker(_ string, s dependency.Breaker) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.breakers = append(x.breakers, s)
}

// body is what the partner answers.
var body = strings.Repeat("0123456789abcdef", 4<<10)

func newPartner(t *testing.T, p dependency.Policy) *partner {
	t.Helper()
	x := &partner{}
	d, err := dependency.New(dependency.Options{Observer: x}).Add("partner", p)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Query().Get("connection") == "new" {
			w.Header().Set("Connection", "close") // the next call meets the fault with a chance of its own
		}
		if r.URL.Query().Get("body") == "long" {
			_, _ = io.WriteString(w, body)
		}
	}))
	x.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "partner", "127.0.0.1:0", strings.TrimPrefix(s.URL, "http://"))
	if err := x.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	x.dep, x.Client, x.url = d, web.NewClient(d, web.ClientOptions{}), "http://"+x.proxy.Listen
	t.Cleanup(func() {
		x.Close()
		x.proxy.Stop()
		s.CloseClientConnections()
		s.Close()
	})
	return x
}

// poison adds a toxic to what the partner sends: https://github.com/Shopify/toxiproxy#toxics.
func (x *partner) poison(t *testing.T, kind string, toxicity float64, attributes string) {
	t.Helper()
	text := fmt.Sprintf(`{"name":%q,"type":%q,"stream":"downstream","toxicity":%v,"attributes":{%s}}`, kind, kind, toxicity, attributes)
	if _, err := x.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// heal takes all toxics away. A connection that was poisoned may not end by itself.
func (x *partner) heal(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	x.proxy.Toxics.ResetToxics(ctx)
	x.Close()
}

// ask makes one call and reads its answer. It fails the test if that hangs, or leaves a place taken.
func (x *partner) ask(t *testing.T, method, query string) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("the test's patience is over"))
	defer cancel()
	var in io.Reader
	if method == http.MethodPost {
		in = strings.NewReader("order")
	}
	r, err := http.NewRequestWithContext(ctx, method, x.url+"/?"+query, in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := x.Do(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if ctx.Err() != nil {
		t.Fatalf("the call hung for %v: %v", patience, err)
	}
	return err
}

// blamed checks that err is what a worker wants to hear of a dependency.
func blamed(t *testing.T, err error) {
	t.Helper()
	if fault.ExitCode(err) != fault.ExitDependency || !strings.Contains(err.Error(), "partner") {
		t.Errorf("want a dependency's error with its name, have %v", err)
	}
}
