package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"
)

// loop is b.Loop, with the processor's time besides the clock's, which a busy machine stretches.
func loop(b *testing.B, do func()) {
	b.ReportAllocs()
	before := processor()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64(processor()-before)/float64(b.N), "cpu-ns/op")
}

func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkUnsampledSpan(b *testing.B) {
	for _, sampler := range []string{"always_off", "parentbased_traceidratio"} {
		b.Run(sampler, func(b *testing.B) {
			tel, _ := open(b, Options{OTel: OTel{Endpoint: "http://127.0.0.1:1", MetricsExporter: "none", TracesSampler: sampler, TracesSamplerArg: "0"}})
			loop(b, func() {
				_, span := tel.tracer.Start(context.Background(), "span")
				span.End()
			})
		})
	}
}

func BenchmarkMetricUpdate(b *testing.B) {
	tel, _ := open(b, Options{Prometheus: true})
	hook := tel.Socket()
	b.Run("histogram", func(b *testing.B) {
		o := tel.zmq.of("inproc://a").options
		loop(b, func() { tel.zmqRecv.Record(context.Background(), 0.001, o...) })
	})
	b.Run("a-message-received", func(b *testing.B) {
		loop(b, func() { hook("inproc://a", -1, 0) })
	})
	b.Run("a-message-sent", func(b *testing.B) {
		loop(b, func() { hook("inproc://a", 1, 0) })
	})
}

// BenchmarkEvent is what is added to one event on its way, by what is switched on.
func BenchmarkEvent(b *testing.B) {
	off := OTel{}
	traces := func(sampler, arg string) OTel {
		return OTel{Endpoint: "http://127.0.0.1:1", MetricsExporter: "none", TracesSampler: sampler, TracesSamplerArg: arg}
	}
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"off", Options{OTel: off}},
		{"metrics", Options{Prometheus: true}},
		{"metrics-and-1%-of-traces", Options{Prometheus: true, OTel: traces("parentbased_traceidratio", "0.01")}},
		{"metrics-and-all-traces", Options{Prometheus: true, OTel: traces("", "")}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tel, _ := open(b, c.o)
			loop(b, func() { work(tel, 1) })
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, o := range map[string]Options{"metrics": {Prometheus: true}, "metrics-and-1%-of-traces": {Prometheus: true, OTel: OTel{Endpoint: "http://127.0.0.1:1", MetricsExporter: "none", TracesSampler: "traceidratio", TracesSamplerArg: "0.01"}}} {
		b.Run(name, func(b *testing.B) {
			tel, _ := open(b, o)
			h := tel.Server()(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
			loop(b, func() { h.ServeHTTP(w, r) })
		})
	}
}
