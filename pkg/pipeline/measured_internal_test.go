package pipeline

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/zmq"
)

// BenchmarkPipelineMeasured is how fast events go through the queue and the workers with all exporters on and one trace
// in a hundred kept, beside the same with everything off, in turns: the share of the rate, and of the processor's time.
func BenchmarkPipelineMeasured(b *testing.B) {
	const events = 5000
	ok := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer ok.Close()
	o := telemetry.Options{App: "app", Device: "d", Version: "v"}
	o.Prometheus = true                                                                // part prometheus
	o.StatsD = "127.0.0.1:9"                                                           // part statsd
	o.Influx = telemetry.Influx{URL: ok.URL, Token: "t", Bucket: "b"}                  // part influx
	o.OTel = telemetry.OTel{Endpoint: ok.URL, MetricInterval: 1000}                    // part otlp
	o.OTel.TracesSampler, o.OTel.TracesSamplerArg = "parentbased_traceidratio", "0.01" // part otlp
	on, err := telemetry.New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = on.Close(context.Background()) }()
	workers := runtime.GOMAXPROCS(0)
	q, err := queue.Open(b.Context(), queue.Options{Dir: b.TempDir(), InFlight: perWorker * workers})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = q.Close(context.Background()) }()

	var took, used [2]time.Duration
	for b.Loop() {
		for i, tel := range []*telemetry.Telemetry{nil, on} {
			fill(b, q, tel, events)
			began, before := time.Now(), processorTime()
			drain(b, q, tel, workers, events)
			took[i] += time.Since(began)
			used[i] += processorTime() - before
		}
	}
	b.ReportMetric(float64(b.N*events)/took[1].Seconds(), "events/s")
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "of-the-rate-without")
	b.ReportMetric(used[0].Seconds()/used[1].Seconds(), "of-the-rate-without-by-cpu")
}

func fill(b *testing.B, q *queue.Queue, tel *telemetry.Telemetry, n int) {
	for range n / 1000 {
		batch := make([]event.Event, 0, 1000)
		for range 1000 {
			one, end := tel.Publish(b.Context(), []event.Event{{ID: event.NewID(), Body: []byte(`{"greeting":"hello, this is an event of 64 bytes in all, or so"}`)}})
			end(one[0].ID, nil)
			batch = append(batch, one...)
		}
		if _, err := q.Publish(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}

// drain runs the workers until n events are handled and settled.
func drain(b *testing.B, q *queue.Queue, tel *telemetry.Telemetry, workers, n int) {
	log := slog.New(slog.DiscardHandler)
	f := newFlow(measured{q, tel}, log, nil)
	f.zmq = zmq.NewContext(zmq.Options{Log: log, Observe: tel.Socket()})
	stop := through(telemetry.NewContext(b.Context(), tel), b, f, workers, n)
	for {
		if s, err := q.Stats(b.Context()); err == nil && s.InFlight == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
