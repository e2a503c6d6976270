package web_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/web"
)

// BenchmarkClient compares calls under a policy with those of a bare http.Client, to the same server in one run: "web"
// is the Client's Do, "library" its http.Client. What "bare" and they differ in is the policy's cost.
func BenchmarkClient(b *testing.B) {
	x := newPartner(b, dependency.Policy{}, web.ClientOptions{UserAgent: "bench/1"}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}\n") })
	bare := http.Client{Transport: &http.Transport{}}
	defer bare.CloseIdleConnections()
	for _, c := range []struct {
		name string
		do   func(*http.Request) (*http.Response, error)
	}{{"bare", bare.Do}, {"web", x.Do}, {"library", x.HTTP().Do}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := c.do(x.request(b, "GET", nil))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

// BenchmarkClientRefusal is a call while the breaker is open.
func BenchmarkClientRefusal(b *testing.B) {
	x := newPartner(b, dependency.Policy{Failures: 1, Tries: 1, Cooldown: 1 << 60}, web.ClientOptions{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	_, _ = x.get(b)
	r := x.request(b, "GET", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Do(r); !errors.Is(err, dependency.ErrOpen) {
			b.Fatal(err)
		}
	}
}
