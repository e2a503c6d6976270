package web_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

// partner is a dependency on loopback, with the client that calls it.
type partner struct {
	*web.Client
	dep   *dependency.Dependency
	url   string
	asked atomic.Int64
	conns atomic.Int64 // that were opened
}

func newPartner(t testing.TB, p dependency.Policy, o web.ClientOptions, h http.HandlerFunc) *partner {
	t.Helper()
	d, err := dependency.New(dependency.Options{}).Add("partner", p)
	if err != nil {
		t.Fatal(err)
	}
	x := &partner{Client: web.NewClient(d, o), dep: d}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.asked.Add(1); h(w, r) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			x.conns.Add(1)
		}
	}
	s.Start()
	x.url = s.URL
	t.Cleanup(func() { x.Close(); s.CloseClientConnections(); s.Close() })
	return x
}

// newPartnerInBubble is newPartner for a test in virtual time (testing/synctest): the connections are pipes.
func newPartnerInBubble(t testing.TB, p dependency.Policy, h http.HandlerFunc) *partner {
	t.Helper()
	d, err := dependency.New(dependency.Options{}).Add("partner", p)
	if err != nil {
		t.Fatal(err)
	}
	x := &partner{dep: d, url: "http://partner"}
	l := newPipeListener()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.asked.Add(1); h(w, r) })}
	go func() { _ = s.Serve(l) }()
	pipes := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		x.conns.Add(1)
		return l.dial(ctx, network, addr)
	}}
	x.Client = web.NewClient(d, web.ClientOptions{Wrap: func(http.RoundTripper) http.RoundTripper { return pipes }})
	t.Cleanup(func() { pipes.CloseIdleConnections(); _ = s.Close() })
	return x
}

func (x *partner) request(t testing.TB, method string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, x.url+"/path?key=s3cret", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (x *partner) get(t testing.TB) (string, error) {
	t.Helper()
	resp, err := x.Do(x.request(t, "GET", nil))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// quickTries has pauses that no test needs to wait for.
var quickTries = dependency.Policy{Pause: time.Millisecond}

// statuses answers with one after the other, and with 200 from then on.
func statuses(list ...int) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if i := int(n.Add(1)) - 1; i < len(list) {
			w.WriteHeader(list[i])
		}
		_, _ = w.Write(body)
	}
}

func TestACallIsTriedAgainWhereThatIsSafe(t *testing.T) {
	text := func() io.Reader { return strings.NewReader("body") }
	for _, c := range []struct {
		name, method string
		body         io.Reader
		key          string
		statuses     []int
		asked        int64
		status       int // of the error; 0: none
	}{
		{"GET", "GET", nil, "", []int{503, 502}, 3, 0},
		{"HEAD", "HEAD", nil, "", []int{504}, 2, 0},
		{"PUT with a body", "PUT", text(), "", []int{408, 429}, 3, 0},
		{"DELETE", "DELETE", nil, "", []int{503}, 2, 0},
		{"OPTIONS", "OPTIONS", nil, "", []int{503}, 2, 0},
		{"POST", "POST", text(), "", []int{503}, 1, 503},
		{"POST, too many", "POST", text(), "", []int{429}, 1, 429},
		{"PATCH", "PATCH", text(), "", []int{503}, 1, 503},
		{"POST with a key", "POST", text(), "order-1", []int{503}, 2, 0},
		{"PUT with a body that can't be had again", "PUT", io.NopCloser(text()), "", []int{503}, 1, 503},
		{"GET, a failure that stays", "GET", nil, "", []int{500}, 1, 500},
		{"GET, in vain", "GET", nil, "", []int{503, 503, 503, 503}, 3, 503},
		{"GET, our mistake", "GET", nil, "", []int{400}, 1, 0},
		{"GET, not there", "GET", nil, "", []int{404}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newPartner(t, quickTries, web.ClientOptions{}, statuses(c.statuses...))
			r := x.request(t, c.method, c.body)
			if c.key != "" {
				r.Header.Set("Idempotency-Key", c.key)
			}
			resp, err := x.Do(r)
			if err == nil {
				have, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if c.body != nil && string(have) != "body" {
					t.Errorf("want the body sent again, have %q", have)
				}
			}
			e, _ := errors.AsType[*web.StatusError](err)
			if c.status == 0 && err != nil || c.status != 0 && (e == nil || e.Status != c.status || fault.Of(err) != fault.KindDependency) {
				t.Errorf("want status %d in a dependency's error (0: none), have %v", c.status, err)
			}
			if x.asked.Load() != c.asked || x.dep.Health().InFlight != 0 {
				t.Errorf("want %d tries and no place held, have %d and %d", c.asked, x.asked.Load(), x.dep.Health().InFlight)
			}
			if n := x.conns.Load(); n != 1 {
				t.Errorf("want the connection used again, have %d", n)
			}
		})
	}
}

func TestAnErrorSaysWhoAndHowOftenAndNoSecret(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{}, statuses(503, 503, 503))
	_, err := x.get(t)
	if want := "dependency: partner: tried 3 times: answered 503 Service Unavailable"; err == nil || err.Error() != want {
		t.Errorf("want %q, have %v", want, err)
	}
	x.url = "http://user:s3cret@127.0.0.1:1"
	if _, err = x.get(t); fault.ExitCode(err) != fault.ExitDependency || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("want a dependency's error without a secret, have %v", err)
	}
	if h := x.dep.Health(); strings.Contains(h.LastError, "s3cret") || !strings.Contains(h.LastError, "refused") {
		t.Errorf("have the last error %q", h.LastError)
	}
}

func TestWhenNoConnectionCameAboutEvenAPostIsTriedAgain(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{}, statuses())
	x.url = "http://127.0.0.1:1"
	if _, err := x.Do(x.request(t, "POST", strings.NewReader("body"))); err == nil || !strings.Contains(err.Error(), "tried 3 times") {
		t.Errorf("have %v", err)
	}
}

func TestRetryAfterIsObeyedWithinTheCallsTime(t *testing.T) {
	again := func(after string) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusTooManyRequests)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)
		for _, c := range []struct {
			after string
			least time.Duration
		}{{date, 2 * time.Second}, {"1", time.Second}} {
			x := newPartnerInBubble(t, dependency.Policy{Pause: time.Millisecond, Total: 2 * patience}, again(c.after))
			began := time.Now()
			_, err := x.get(t)
			if took := time.Since(began); err != nil || took < c.least || took > c.least+2*time.Millisecond {
				t.Errorf("%s: want an answer after %v, have %v after %v", c.after, c.least, err, took)
			}
		}
		x := newPartnerInBubble(t, quickTries, again("3600"))
		began := time.Now()
		if _, err := x.get(t); err == nil || x.asked.Load() != 1 || time.Since(began) != 0 {
			t.Errorf("want the call given up at once, have %v after %v and %d tries", err, time.Since(began), x.asked.Load())
		}
	})
}

func TestABodyThatIsLeftUnreadCostsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPartnerInBubble(t, quickTries, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 32<<10)) })
		for range 20 {
			resp, err := x.Do(x.request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadFull(resp.Body, make([]byte, 10))
			_ = resp.Body.Close()
			synctest.Wait() // the connection is idle
		}
		if n := x.conns.Load(); n != 1 {
			t.Errorf("want one connection, have %d", n)
		}
	})
}

func TestAnAnswerOverTheLimitIsAnErrorThatNamesIt(t *testing.T) {
	const limit = 100 << 10
	for name, h := range map[string]http.HandlerFunc{
		"announced": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(limit+1))
			_, _ = w.Write(make([]byte, limit+1))
		},
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			for range limit / 100 {
				_, _ = w.Write(make([]byte, 101))
			}
		},
		"packed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 3*limit))
			_ = z.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPartner(t, quickTries, web.ClientOptions{MaxResponse: limit}, h)
			if _, err := x.Do(x.request(t, "HEAD", nil)); err != nil {
				t.Errorf("want no body, and none refused, have %v", err)
			}
			resp, err := x.Do(x.request(t, "GET", nil))
			if (err != nil) != (name == "announced") {
				t.Errorf("want an error before the body if it is announced, have %v", err)
			}
			var text []byte
			if err == nil {
				text, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "longer than 102400 bytes") || fault.Of(err) != fault.KindDependency || len(text) > limit {
				t.Errorf("have %d bytes and %v", len(text), err)
			}
			if h := x.dep.Health(); h.InFlight != 0 || h.Failures != 0 {
				t.Errorf("want the place free and nobody blamed, have %+v", h)
			}
		})
	}
	x := newPartner(t, quickTries, web.ClientOptions{MaxResponse: limit}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, limit)) })
	if text, err := x.get(t); err != nil || len(text) != limit {
		t.Errorf("want exactly the limit let through, have %d and %v", len(text), err)
	}
}

func TestACallHoldsItsPlaceUntilTheBodyIsClosedOrItsTimeIsOver(t *testing.T) {
	x := newPartner(t, dependency.Policy{Concurrent: 1, Wait: 10 * time.Millisecond, Total: 500 * time.Millisecond}, web.ClientOptions{},
		func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(make([]byte, 1<<20)) // more than anybody buffers
			<-r.Context().Done()
		})
	if _, err := x.Do(x.request(t, "GET", nil)); err != nil { // and its body is forgotten
		t.Fatal(err)
	}
	if _, err := x.get(t); !errors.Is(err, dependency.ErrBusy) {
		t.Errorf("want the second refused, have %v", err)
	}
	for deadline := time.Now().Add(patience); x.dep.Health().InFlight > 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the place is never free again")
		}
	}
}

func TestAnAnswerWithoutABodyHoldsNoPlace(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, method := range []string{"GET", "HEAD"} {
		if _, err := x.Do(x.request(t, method, nil)); err != nil || x.dep.Health().InFlight != 0 { // and nobody closes its body
			t.Errorf("%s: have %v and %d places held", method, err, x.dep.Health().InFlight)
		}
	}
}

func TestABodyMayTakeLongerThanATry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPartnerInBubble(t, dependency.Policy{Attempt: time.Second, Total: 2 * patience}, func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(patience)
			_, _ = io.WriteString(w, "late")
		})
		if text, err := x.get(t); err != nil || text != "late" {
			t.Errorf("have %q and %v", text, err)
		}
	})
}

func TestTheCallersEndIsNobodysFailure(t *testing.T) {
	arrived := make(chan struct{}, 1)
	x := newPartner(t, quickTries, web.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := x.Do(x.request(t, "GET", nil).WithContext(ctx))
	if !errors.Is(err, context.Canceled) || fault.Of(err) == fault.KindDependency || err.Error() != "call partner: context canceled" {
		t.Errorf("have %v", err)
	}
	if h := x.dep.Health(); h.Failures != 0 || h.InFlight != 0 {
		t.Errorf("have %+v", h)
	}
}

func TestWhatTheCallerSendsWrongIsNobodysFailure(t *testing.T) {
	x := newPartner(t, dependency.Policy{Failures: 1}, web.ClientOptions{}, statuses())
	broken := errors.New("the upload ended")
	for name, r := range map[string]*http.Request{
		"a header": x.request(t, "GET", nil, "X-Name", "a\r\nb"),
		"a name":   x.request(t, "GET", nil, "X Name", "a"),
		"a scheme": x.request(t, "GET", nil).Clone(t.Context()),
		"a body":   x.request(t, "PUT", io.MultiReader(strings.NewReader("beginning"), readerFunc(func() error { return broken }))),
	} {
		if name == "a scheme" {
			r.URL.Scheme = "ftp"
		}
		_, err := x.Do(r)
		if err == nil || fault.Of(err) == fault.KindDependency || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: want an error of ours, have %v", name, err)
		}
		if name == "a body" && !errors.Is(err, broken) {
			t.Errorf("want the cause, have %v", err)
		}
	}
	if h := x.dep.Health(); h.Failures != 0 || h.InFlight != 0 || x.asked.Load() > 1 {
		t.Errorf("have %+v, and %d requests arrived", h, x.asked.Load())
	}
}

type readerFunc func() error

func (r readerFunc) Read([]byte) (int, error) { return 0, r() }

func TestTheBreakerCountsFailuresOfTheServerOnly(t *testing.T) {
	for status, opens := range map[int]bool{500: true, 503: true, 400: false, 404: false, 429: false, 408: false} {
		x := newPartner(t, dependency.Policy{Tries: 1}, web.ClientOptions{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		for range 2 * dependency.DefaultFailures {
			_, _ = x.get(t)
		}
		if open := x.dep.Health().Breaker == dependency.Open; open != opens {
			t.Errorf("%d: want open %v, have %v", status, opens, open)
		}
	}
}

func TestALibraryThatWantsAnHTTPClientIsUnderThePolicyToo(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{}, statuses(503, 503, 503, 418))
	resp, err := x.HTTP().Get(x.url) // tried three times, and then it is the library's to judge
	if err != nil || resp.StatusCode != 503 || x.asked.Load() != 3 {
		t.Fatalf("have %v, %v after %d tries", resp, err, x.asked.Load())
	}
	_ = resp.Body.Close()
	if h := x.dep.Health(); h.Calls != 1 || h.Tries != 3 || h.InFlight != 0 {
		t.Errorf("have %+v", h)
	}
	y := newPartner(t, quickTries, web.ClientOptions{}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) })
	for range dependency.DefaultFailures {
		resp, err := y.HTTP().Post(y.url, "text/plain", bytes.NewReader([]byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "broken\n" { // to the end, and not closed
			t.Errorf("have %q and %v", text, err)
		}
	}
	if _, err := y.HTTP().Get(y.url); !errors.Is(err, dependency.ErrOpen) || fault.Of(err) != fault.KindDependency {
		t.Errorf("want a refusal, have %v", err)
	}
}

func TestAnInjectedFaultIsTriedAgainWithTheBodyStillThere(t *testing.T) {
	strike := true
	d, err := dependency.New(dependency.Options{Fault: func(context.Context, string) error {
		if strike {
			strike = false
			return errors.New("injected")
		}
		return nil
	}}).Add("partner", dependency.Policy{Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		have = append(have, string(body))
	}))
	defer s.Close()
	c := web.NewClient(d, web.ClientOptions{})
	defer c.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("once")) // no key: the server must not see it twice
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(have) != 1 || have[0] != "once" || d.Health().Tries != 2 {
		t.Errorf("want one request with its body at the second try, have %q, %+v", have, d.Health())
	}
}

// The answer is lost after the partner has done it: only what is harmless twice is sent again.
func TestALostAnswerIsTriedAgainOnlyWhereThatIsSafe(t *testing.T) {
	for _, c := range []struct {
		method string
		served int
	}{{http.MethodPost, 1}, {http.MethodGet, 2}} {
		lost := 0
		d, err := dependency.New(dependency.Options{Fault: func(context.Context, string) error {
			if lost++; lost == 1 {
				return fmt.Errorf("%w: ordered", dependency.ErrLost)
			}
			return nil
		}}).Add("partner", dependency.Policy{Pause: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		var served atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
		client := web.NewClient(d, web.ClientOptions{})
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL, strings.NewReader("once"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		client.Close()
		s.Close()
		if again := c.served > 1; again != (err == nil) || int(served.Load()) != c.served {
			t.Errorf("%s: want it served %d times, have %d and %v", c.method, c.served, served.Load(), err)
		}
		if err != nil && (!errors.Is(err, dependency.ErrLost) || fault.Of(err) != fault.KindDependency) {
			t.Errorf("%s: want a lost answer of the dependency, have %v", c.method, err)
		}
		if h := d.Health(); h.Failures != 1 || h.InFlight != 0 {
			t.Errorf("%s: want one failure and nothing in flight, have %+v", c.method, h)
		}
	}
}
