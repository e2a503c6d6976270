package influx

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/telemetry/export"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a step may take that should be immediate: the machine may be busy.
const patience = 10 * time.Second

// newLoss returns a loss, and its log.
func newLoss() (*export.Loss, *testlog.Log) {
	log := &testlog.Log{}
	return export.NewLoss(log.Logger(slog.LevelInfo), "influx"), log
}

var filler = strings.Repeat("x", 1000)

// fill is a snapshot of so many points, a KiB each.
func fill(points int) *metricdata.ResourceMetrics {
	data := metricdata.Gauge[float64]{}
	for i := range points {
		data.DataPoints = append(data.DataPoints, metricdata.DataPoint[float64]{Time: time.Now(), Value: 1, Attributes: attribute.NewSet(attribute.Int("n", i), attribute.String("filler", filler))})
	}
	return &metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{{Name: "many", Data: data}}}}}
}

func TestInfluxDBTriesAgainWhatCanHelp(t *testing.T) {
	for _, c := range []struct {
		status, asked   int
		after           string
		dropped, failed uint64
		atLeast         time.Duration
	}{
		{http.StatusInternalServerError, 3, "", 0, 2, 0},
		{http.StatusTooManyRequests, 3, "7", 0, 2, 14 * time.Second},
		{http.StatusServiceUnavailable, 3, "nonsense", 0, 2, 0},
		{http.StatusBadRequest, 1, "", 10, 1, 0},
		{http.StatusUnauthorized, 1, "", 10, 1, 0},
		{http.StatusFound, 1, "", 10, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked, began, last := 0, time.Now(), time.Time{}
			l, log := newLoss()
			e := newInflux("http://db/api/v2/write", "t", nil, l)
			e.client.Transport = tripFunc(func(r *http.Request) (*http.Response, error) {
				asked, last = asked+1, time.Now()
				w := httptest.NewRecorder()
				if asked < 3 {
					w.Header().Set("Retry-After", c.after)
					w.Header().Set("Location", "http://elsewhere/")
					w.WriteHeader(c.status)
				} else {
					w.WriteHeader(http.StatusNoContent)
				}
				return w.Result(), nil
			})
			_ = e.Export(t.Context(), fill(10))
			time.Sleep(time.Hour)
			synctest.Wait()
			if asked != c.asked || l.Dropped.Load() != c.dropped || l.Failed.Load() != c.failed {
				t.Errorf("%d: want %d tries, %d dropped, %d failures; have %d, %d, %d", c.status, c.asked, c.dropped, c.failed, asked, l.Dropped.Load(), l.Failed.Load())
			}
			if err := e.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "telemetry can't be sent"); n != 1 {
				t.Errorf("%d: want it told once a minute, have %d lines", c.status, n)
			}
			if took := last.Sub(began); took < c.atLeast {
				t.Errorf("%d: want the server's pauses kept, it took %v", c.status, took)
			}
		})
	}
}

type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestInfluxDBDropsTheOldestOfTooMuch(t *testing.T) {
	release := make(chan struct{})
	l, _ := newLoss()
	e := newInflux("http://db/api/v2/write", "t", nil, l)
	e.client.Transport = tripFunc(func(r *http.Request) (*http.Response, error) {
		<-release
		return nil, errors.New("gone")
	})
	const points, rounds = 200, 50
	for range rounds {
		_ = e.Export(t.Context(), fill(points))
	}
	size := len(e.encode(fill(points)).text)
	if waiting := e.box.Stats().Waiting; waiting*size > maxBytes || waiting == 0 || l.Dropped.Load() == 0 {
		t.Errorf("want at most %d bytes and the rest counted, have %d snapshots of %d and %d dropped", maxBytes, waiting, size, l.Dropped.Load())
	}
	close(release)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if have := l.Dropped.Load(); have != points*rounds {
		t.Errorf("want all %d counted in the end, have %d", points*rounds, have)
	}
}
