// Package export is what the exporters of pkg/telemetry have in common. Each is a folder beside this one: its settings, the
// check of them, and what it attaches to the meters and tracers of the Core.
//
// An exporter never blocks who measures, and sends in the background; what it gives up it counts (Loss). It knows no other
// exporter, and pkg/telemetry knows it by the lines in options.go that end with "part" and its name: without those lines and
// its folder the rest builds.
package export

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// PushInterval is how often those without an interval of their own are sent to; StatsD's own flush interval.
	PushInterval = 10 * time.Second
	// pushTime bounds one export, the sources' answers included.
	pushTime = 10 * time.Second
)

// Exporter is one place that measurements go to, and its settings. Its methods don't block.
type Exporter interface {
	// Check returns whether the settings switch it on. Its error is of fault.KindConfig and names each setting that is wrong,
	// never its value.
	Check() (on bool, err error)
	// Open attaches it to c. It is called once, if Check returned true.
	Open(c *Core) error
}

// Core is what exporters attach themselves to.
type Core struct {
	Log  *slog.Logger
	Tags [][2]string // app, device, deployment, version: for lines without a resource

	Resource []attribute.KeyValue              // what an exporter's settings add to the resource of all
	Readers  []sdkmetric.Reader                // of metrics; none: there is nothing to measure
	Traces   []sdktrace.TracerProviderOption   // none: there are no traces
	Handler  http.Handler                      // for whoever asks for metrics; nil: nobody does
	Losses   []*Loss                           // by exporter
	Closers  []func(ctx context.Context) error // called at once, at the end
}

// Read adds a reader of metrics.
func (c *Core) Read(r sdkmetric.Reader) {
	c.Readers, c.Closers = append(c.Readers, r), append(c.Closers, r.Shutdown)
}

// Push has all metrics given to e at each interval.
func (c *Core) Push(e sdkmetric.Exporter, interval time.Duration) {
	c.Read(sdkmetric.NewPeriodicReader(e, sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(pushTime)))
}

// NewLoss returns the loss of an exporter, which is measured.
func (c *Core) NewLoss(exporter string) *Loss {
	l := NewLoss(c.Log, exporter)
	c.Losses = append(c.Losses, l)
	return l
}
