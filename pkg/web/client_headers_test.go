package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/web"
)

const (
	traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	baggage     = "tenant=7"
)

// tellOrigin answers with the headers that tell where a request comes from.
func tellOrigin(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"User-Agent", "X-Request-Id", "Traceparent", "Tracestate", "Baggage"} {
		_, _ = fmt.Fprintf(w, "%s=%s;", name, strings.Join(r.Header[name], "|"))
	}
}

func TestACallCarriesOnWhatItsRequestBrought(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{UserAgent: "base-app/1.2.3"}, tellOrigin)
	e := start(t, web.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := x.Do(x.request(t, "GET", nil).WithContext(r.Context()))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})})
	_, have := e.ask(t, "GET", "/", "X-Request-Id: id-1", "Traceparent: "+traceparent, "Tracestate: a=1", "Tracestate: b=2", "Baggage: "+baggage)
	if want := "User-Agent=base-app/1.2.3;X-Request-Id=id-1;Traceparent=" + traceparent + ";Tracestate=a=1,b=2;Baggage=" + baggage + ";"; have != want {
		t.Errorf("want %q\nhave %q", want, have)
	}
	_, have = e.ask(t, "GET", "/", "X-Request-Id: id-1", "Traceparent: nonsense", "Tracestate: a=1")
	if want := "User-Agent=base-app/1.2.3;X-Request-Id=id-1;Traceparent=;Tracestate=;Baggage=;"; have != want {
		t.Errorf("want %q\nhave %q", want, have)
	}
}

func TestACallCarriesOnWhatAnEventBrought(t *testing.T) {
	x := newPartner(t, quickTries, web.ClientOptions{}, tellOrigin)
	for _, c := range []struct {
		ctx  context.Context
		own  string
		want string
	}{
		{web.Propagate(t.Context(), "id-2", traceparent, baggage), "", "X-Request-Id=id-2;Traceparent=" + traceparent + ";Tracestate=;Baggage=" + baggage + ";"},
		{web.Propagate(t.Context(), "id-2", traceparent, baggage), "own", "X-Request-Id=own;Traceparent=" + traceparent + ";Tracestate=;Baggage=" + baggage + ";"},
		{web.Propagate(t.Context(), "a b", "x", "b\nc"), "", "X-Request-Id=;Traceparent=;Tracestate=;Baggage=;"},
		{t.Context(), "", "X-Request-Id=;Traceparent=;Tracestate=;Baggage=;"},
	} {
		r := x.request(t, "GET", nil).WithContext(c.ctx)
		if c.own != "" {
			r.Header.Set("X-Request-Id", c.own)
		}
		resp, err := x.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if have := string(text); !strings.HasSuffix(have, c.want) {
			t.Errorf("want %q\nhave %q", c.want, have)
		}
		if _, set := r.Header["User-Agent"]; set || len(r.Header) > 1 {
			t.Errorf("want the caller's request as it was, have %v", r.Header)
		}
	}
}

func TestWhatIsWrappedAroundTheTransportSeesEachTry(t *testing.T) {
	tries := 0
	x := newPartner(t, quickTries, web.ClientOptions{Wrap: func(next http.RoundTripper) http.RoundTripper {
		return tripperFunc(func(r *http.Request) (*http.Response, error) {
			tries++
			r = r.Clone(r.Context())
			r.Header.Set("Traceparent", traceparent)
			return next.RoundTrip(r)
		})
	}}, func(w http.ResponseWriter, r *http.Request) {
		if tries < 2 || r.Header.Get("Traceparent") != traceparent {
			w.WriteHeader(503)
		}
	})
	if _, err := x.get(t); err != nil || tries != 2 {
		t.Errorf("want 2 tries, have %d and %v", tries, err)
	}
}

type tripperFunc func(*http.Request) (*http.Response, error)

func (f tripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestARedirectToAnotherHostTakesNoSecretThere(t *testing.T) {
	var seen http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	defer other.Close()
	x := newPartner(t, quickTries, web.ClientOptions{UserAgent: "base-app/1"}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("to") {
		case "":
			http.Redirect(w, r, "/here?to=nowhere", http.StatusFound)
		case "nowhere":
			seen = r.Header
		default:
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}
	})
	secret := []string{"Authorization", "Bearer s3cret", "X-Api-Key", "s3cret", "Cookie", "s=s3cret", "Accept", "text/plain", "Baggage", "s3cret"}
	if resp, err := x.Do(x.request(t, "GET", nil, secret...)); err != nil || seen.Get("X-Api-Key") != "s3cret" {
		t.Errorf("want the headers kept on the same host, have %v, %v", seen, err)
	} else {
		_ = resp.Body.Close()
	}
	r := x.request(t, "GET", nil, secret...)
	r.URL.RawQuery = "to=other&key=s3cret"
	if resp, err := x.Do(r); err != nil || seen.Get("Accept") != "text/plain" || seen.Get("User-Agent") != "base-app/1" || strings.Contains(fmt.Sprint(seen), "s3cret") {
		t.Errorf("want only harmless headers elsewhere, have %v, %v", seen, err)
	} else {
		_ = resp.Body.Close()
	}
	seen = nil
	r = x.request(t, "POST", strings.NewReader("s3cret"))
	r.URL.RawQuery = "to=other"
	if _, err := x.Do(r); err == nil || seen != nil || !strings.Contains(err.Error(), "another host") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("want no body taken elsewhere, have %v, %v", seen, err)
	}
	if h := x.dep.Health(); h.Failures != 0 || h.InFlight != 0 {
		t.Errorf("have %+v", h)
	}
}

func TestRedirectsShareTheTimeOfOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quickTries
		p.Total = 3 * time.Second
		x := newPartnerInBubble(t, p, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(2 * time.Second):
			case <-r.Context().Done():
			}
			http.Redirect(w, r, "/again", http.StatusFound)
		})
		began := time.Now()
		if _, err := x.get(t); err == nil || x.asked.Load() != 2 || time.Since(began) != p.Total {
			t.Errorf("want the time over after %v at the second, have %v after %v at %d", p.Total, err, time.Since(began), x.asked.Load())
		}
	})
}
