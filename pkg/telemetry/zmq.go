package telemetry

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// endpoints are what the sockets of this process are bound and connected to.
type endpoints struct {
	names few
	all   sync.Map // string → *endpoint
}

type endpoint struct {
	inside   bool // both ends are in this process
	inFlight atomic.Int64
	options  []metric.RecordOption
}

func (e *endpoints) of(name string) *endpoint {
	if found, ok := e.all.Load(name); ok {
		return found.(*endpoint)
	}
	name = e.names.admit(name)
	fresh := &endpoint{inside: strings.HasPrefix(name, "inproc://"),
		options: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("endpoint", name)))}}
	found, _ := e.all.LoadOrStore(name, fresh)
	return found.(*endpoint)
}

func (e *endpoints) read(put Put) {
	e.all.Range(func(name, found any) bool {
		if p := found.(*endpoint); p.inside {
			put(nameZMQInFlight, float64(max(p.inFlight.Load(), 0)), name.(string))
		}
		return true
	})
}

// Socket is the hook for zmq.Options.Observe, nil while metrics are off.
func (t *Telemetry) Socket() func(endpoint string, change int, waited time.Duration) {
	if t == nil || t.meters == nil {
		return nil
	}
	return func(name string, change int, waited time.Duration) {
		e := t.zmq.of(name)
		if e.inside {
			e.inFlight.Add(int64(change))
		}
		if change < 0 && waited >= 0 {
			t.zmqRecv.Record(context.Background(), waited.Seconds(), e.options...)
		}
	}
}
