package telemetry

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/base-app/internal/faultserver"
	"example.com/base-app/pkg/event"
)

// everything is all exporters, all to one address.
func everything(addr string) Options {
	return Options{Prometheus: true, StatsD: addr, Influx: influxTo("http://" + addr), OTel: OTel{Endpoint: "http://" + addr, MetricInterval: 1000, MaxQueueSize: 256}}
}

// work is what the app's way does with each of n events.
func work(tel *Telemetry, n int) {
	began := time.Now()
	for range n {
		events, end := tel.Publish(context.Background(), []event.Event{{ID: "e", Time: began}})
		end("e", nil)
		e := events[0]
		tel.Deliver(context.Background(), &e)
		_, sent := tel.Send(context.Background(), &e, "inproc://a")
		sent(nil)
		_, handled := tel.Handle(context.Background(), &e)
		handled(Processed, nil)
	}
}

// Whatever is at the other end, the start, the work and the end of the app are not held up, memory stays bounded, and
// what is lost is counted and logged. A call that waited for the network once in a hundred events would break the bound; a busy
// machine does not.
func TestNobodyIsHeldUpByWhoDoesNotListen(t *testing.T) {
	const (
		events = 2000 // four spans each: thirty times what the queue holds
		budget = 300 * time.Millisecond
		slack  = 5 * time.Second // a machine that is busy
		memory = 64 << 20
	)
	for _, f := range faultserver.Servers() {
		if f.Name == faultserver.Nonsense || f.Name == faultserver.Moved { // some exporters read no more than the status
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			addr := f.Start(t)
			before := heap()
			began := time.Now()
			tel, log := open(t, everything(addr))
			work(tel, events)
			if took := time.Since(began); took > slack {
				t.Errorf("want the start and the work not to wait, they took %v", took)
			}
			if grown := heap() - before; grown > memory {
				t.Errorf("want at most %d MiB held, have %d", memory>>20, grown>>20)
			}
			began = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			_ = tel.Close(ctx)
			if took := time.Since(began); took > budget+slack {
				t.Errorf("want the end within %v, it took %v", budget, took)
			}
			tel.ending.Wait()
			if took := time.Since(began); took > budget+slack {
				t.Errorf("want nothing left in the background after %v, it took %v", budget, took)
			}
			for _, l := range tel.core.Losses {
				if lost := l.Dropped.Load(); lost == 0 && (l.Exporter != "statsd" || f.Name == faultserver.NoName) {
					t.Errorf("want %s's losses counted", l.Exporter)
				}
			}
			if lines := strings.Count(log.String(), "\n"); lines > 2*len(tel.core.Losses) {
				t.Errorf("want a line for each exporter at most, have %d:\n%s", lines, log)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
