package web

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/dependency"
)

func TestRetryAfterIsInSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{"0", "", 0},
		{"-7", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{strings.Repeat("9", 40), "", (1<<31 - 1) * time.Second},
		{at(time.Minute), "", time.Minute},
		{at(-time.Minute), "", 0},
		{at(time.Hour), at(time.Hour - time.Minute), time.Minute}, // the server's clock is ahead
		{at(time.Hour), "nonsense", time.Hour},
	} {
		h := http.Header{"Retry-After": {c.value}, "Date": {c.date}}
		if have := RetryAfter(h, now); have != c.want {
			t.Errorf("%q, date %q: want %v, have %v", c.value, c.date, c.want, have)
		}
	}
}

func TestTheClientSpeaksHTTP2OverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	d, err := dependency.New(dependency.Options{}).Add("partner", dependency.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(d, ClientOptions{})
	defer c.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c.http.Transport.(*transport).base.TLSClientConfig = &tls.Config{RootCAs: roots}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", server.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || string(text) != "body" {
			t.Errorf("have %s, %q and %v", resp.Proto, text, err)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:00 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		if have := RetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Unix(1<<30, 0)); have < 0 {
			t.Errorf("have %v", have)
		}
	})
}
