package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/warnlimit"
)

// maxLogged bounds what a foreign server can bring into the log.
const maxLogged = 300

// newWarnings logs what goes wrong with an exporter, once a minute at most.
func newWarnings(log *slog.Logger, exporter string) *warnlimit.Limiter {
	return &warnlimit.Limiter{
		Warn: func(_ context.Context, err error, more int) {
			said := text.Ellipsis(text.OneLine(dependency.Scrub(err.Error())), maxLogged)
			log.Warn("telemetry can't be sent", "exporter", exporter, "error", said, "more", more)
		},
		Over: func(_ context.Context, failures int) {
			log.Info("telemetry is sent again", "exporter", exporter, "failures", failures)
		}}
}

// loss counts what an exporter gave up, and logs why.
type loss struct {
	exporter string
	dropped  atomic.Uint64 // spans, data points or lines
	failed   atomic.Uint64 // exports
	warnings *warnlimit.Limiter
}

// fail counts an export that failed, with what was lost by it.
func (l *loss) fail(err error, lost int) {
	l.failed.Add(1)
	l.dropped.Add(uint64(lost))
	l.warnings.Failed(context.Background(), err)
}

// succeed records that an export arrived.
func (l *loss) succeed() { l.warnings.Recovered(context.Background()) }

// newLoss returns the loss of an exporter, which is measured from now on. It is called while t is made.
func (t *Telemetry) newLoss(exporter string) *loss {
	l := &loss{exporter: exporter, warnings: newWarnings(t.log, exporter)}
	t.losses = append(t.losses, l)
	return l
}
