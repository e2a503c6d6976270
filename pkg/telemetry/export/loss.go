package export

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

// NewWarnings logs what goes wrong with an exporter, once a minute at most.
func NewWarnings(log *slog.Logger, exporter string) *warnlimit.Limiter {
	return &warnlimit.Limiter{
		Warn: func(_ context.Context, err error, more int) {
			said := text.Ellipsis(text.OneLine(dependency.Scrub(err.Error())), maxLogged)
			log.Warn("telemetry can't be sent", "exporter", exporter, "error", said, "more", more)
		},
		Over: func(_ context.Context, failures int) {
			log.Info("telemetry is sent again", "exporter", exporter, "failures", failures)
		}}
}

// Loss counts what an exporter gave up, and logs why.
type Loss struct {
	Exporter string
	Dropped  atomic.Uint64 // spans, data points or lines
	Failed   atomic.Uint64 // exports
	Warnings *warnlimit.Limiter
}

// NewLoss returns the loss of an exporter.
func NewLoss(log *slog.Logger, exporter string) *Loss {
	return &Loss{Exporter: exporter, Warnings: NewWarnings(log, exporter)}
}

// Fail counts an export that failed, with what was lost by it.
func (l *Loss) Fail(err error, lost int) {
	l.Failed.Add(1)
	l.Dropped.Add(uint64(lost))
	l.Warnings.Failed(context.Background(), err)
}

// Succeed records that an export arrived.
func (l *Loss) Succeed() { l.Warnings.Recovered(context.Background()) }
