package web_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"example.com/base-app/pkg/web"
)

// BenchmarkServer compares a bare net/http server with the whole chain: log line (JSON, thrown away), limiter and load
// included, and a client that is looked up in X-Forwarded-For.
func BenchmarkServer(b *testing.B) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}\n") })
	b.Run("bare", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := &http.Server{Handler: mux}
		go func() { _ = s.Serve(l) }()
		load(b, l.Addr().String())
		_ = s.Close()
	})
	b.Run("web", func(b *testing.B) {
		s, err := web.Listen(b.Context(), web.Options{Addr: "127.0.0.1:0", Handler: mux, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
			Rate: 1e6, Burst: 1e6, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- s.Serve(ctx) }()
		load(b, s.Addr().String())
		stop()
		<-done
	})
}

// load reports processor time, too, client and server together: on a machine with other work it is what can be compared.
func load(b *testing.B, addr string) {
	b.ReportAllocs()
	used := processorTime(b)
	defer func() { b.ReportMetric(float64(processorTime(b)-used)/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		c := http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		for pb.Next() {
			req, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
			req.Header.Set("X-Forwarded-For", "203.0.113.7")
			resp, err := c.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}

func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkCheckObject(b *testing.B) {
	for name, in := range map[string][]byte{
		"64B":  []byte(`{"id":"0197a","kind":"order","n":12345,"items":[{"a":1},{"b":2}]}`),
		"900K": []byte(`{"a":[` + strings.Repeat(`{"a":1,"b":"xyz"},`, 50_000) + `1]}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if err := web.CheckObject(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
