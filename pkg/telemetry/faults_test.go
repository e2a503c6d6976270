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

// work is what the app's way does with each of n events; it returns how long it took.
func work(tel *Telemetry, n int) time.Duration {
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
	return time.Since(began)
}

// Whatever is at the other end, the start, the work and the end of the app are not held up, memory stays bounded, and
// what is lost is counted and told.
func TestNobodyIsHeldUpByWhoDoesNotListen(t *testing.T) {
	const (
		events = 200 // four spans each: three times what the queue holds
		rounds = 5
		ratio  = 3
		budget = 300 * time.Millisecond
		slack  = 5 * time.Second // a machine that is busy
		memory = 64 << 20
	)
	c, db := collect(t), influxDB(t, nil)
	o := everything(listenStatsD(t).LocalAddr().String())
	o.OTel.Endpoint, o.Influx.URL = c.URL, db.URL
	whole, _ := open(t, o)
	for _, f := range faultserver.Servers() {
		if f.Name == faultserver.Nonsense || f.Name == faultserver.Moved { // some exporters read no more than the status
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			addr := f.Start(t)
			before := heap()
			began := time.Now()
			tel, log := open(t, everything(addr))
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("want a start at once, it took %v", took)
			}
			broken, sound := time.Duration(0), time.Duration(0) // the best of a few, in turns
			for range rounds {
				broken, sound = atMost(broken, work(tel, events)), atMost(sound, work(whole, events))
			}
			if broken > ratio*sound {
				t.Errorf("want at most %d times what it takes with sound exporters, have %v and %v an event", ratio, broken/events, sound/events)
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
			for _, l := range tel.losses {
				if lost := l.dropped.Load(); lost == 0 && (l.exporter != "statsd" || f.Name == faultserver.NoName) {
					t.Errorf("want %s's losses counted", l.exporter)
				}
			}
			if lines := strings.Count(log.String(), "\n"); lines > 2*len(tel.losses) {
				t.Errorf("want a line for each exporter at most, have %d:\n%s", lines, log)
			}
		})
	}
}

// atMost is the smaller one; 0 is none.
func atMost(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
