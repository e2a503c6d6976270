package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/web"
)

const (
	// influxBytes is what may wait: at 50 KiB a snapshot a quarter of an hour.
	influxBytes = 4 << 20
	// influxBatch is how many snapshots one write has, after an outage: some thousand lines, as InfluxDB advises.
	influxBatch = 10
	// influxTime bounds one write, so that a server which never answers delays the next by that much.
	influxTime = 5 * time.Second
	// influxRead is what is read of an answer, to use its connection again.
	influxRead = 4 << 10
)

// influx writes snapshots as line protocol: https://docs.influxdata.com/influxdb/v2/api/#operation/PostWrite. What
// can't be written waits; when that is too much the oldest goes. A line that is written twice is one line to InfluxDB.
type influx struct {
	url, token string
	tags       [][2]string
	loss       *loss
	client     *http.Client
	box        *outbox.Outbox[snapshot]
}

// snapshot is all metrics at one moment, as line protocol.
type snapshot struct {
	text  []byte
	lines int
}

func newInflux(url, token string, tags [][2]string, l *loss) *influx {
	e := &influx{url: url, token: token, tags: tags, loss: l}
	e.client = &http.Client{
		Timeout: influxTime,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: influxTime}).DialContext,
			MaxIdleConns: 1, IdleConnTimeout: 4 * pushInterval, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
	}
	e.box = outbox.New(outbox.Options[snapshot]{Name: "influx", Deliver: e.write, Batch: influxBatch, Warnings: l.warnings,
		Bytes: influxBytes, Size: func(s snapshot) int { return len(s.text) },
		Outcome: func(s snapshot, o outbox.Outcome) {
			if o != outbox.Delivered {
				l.dropped.Add(uint64(s.lines))
			}
		}})
	e.box.Start()
	return e
}

// Temporality asks for sums since the start.
func (e *influx) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

// Aggregation is the standard one.
func (e *influx) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

// Export queues a snapshot. It never blocks.
func (e *influx) Export(_ context.Context, m *metricdata.ResourceMetrics) error {
	s := e.encode(m)
	if s.lines == 0 {
		return nil
	}
	for _, dropped := range e.box.Post(s) {
		e.loss.dropped.Add(uint64(dropped.lines))
	}
	return nil
}

func (e *influx) encode(m *metricdata.ResourceMetrics) (s snapshot) {
	var enc lineprotocol.Encoder
	enc.SetPrecision(lineprotocol.Nanosecond)
	points(m, func(p point) {
		enc.StartLine(p.name)
		for _, t := range p.tags(e.tags) {
			enc.AddTag(t[0], t[1])
		}
		field := func(name string, value float64) {
			if v, ok := lineprotocol.FloatValue(value); ok { // no line can have NaN or an infinity
				enc.AddField(name, v)
			}
		}
		if p.kind == Histogram {
			below := uint64(0)
			for i, n := range p.buckets {
				below += n
				field(bound(p.bounds, i), float64(below))
			}
			field("count", float64(p.count))
			field("sum", p.value)
		} else {
			field("value", p.value)
		}
		enc.EndLine(p.at)
		if enc.Err() == nil {
			s.lines++
			return
		}
		enc.ClearErr() // the encoder takes back what it has of the line
		e.loss.dropped.Add(1)
	})
	s.text = enc.Bytes()
	return s
}

// write sends snapshots. Its error has no URL, which names bucket and organisation.
func (e *influx) write(ctx context.Context, batch []snapshot) error {
	err := e.post(ctx, batch)
	if err != nil {
		e.loss.failed.Add(1)
	}
	return err
}

func (e *influx) post(ctx context.Context, batch []snapshot) error {
	var body bytes.Buffer
	for _, s := range batch {
		body.Write(s.text)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, &body)
	if err != nil {
		return outbox.Final(err)
	}
	req.Header.Set("Authorization", "Token "+e.token)
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("Accept", "application/json")
	answer, err := e.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, influxRead)
	_ = answer.Body.Close()
	err = fmt.Errorf("answered %d", answer.StatusCode)
	switch s := answer.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s == http.StatusTooManyRequests || s >= 500:
		return outbox.RetryAfter(err, web.RetryAfter(answer.Header, time.Now()))
	}
	return outbox.Final(err)
}

// ForceFlush has nothing to do: what waits is sent as soon as that is possible.
func (e *influx) ForceFlush(context.Context) error { return nil }

// Shutdown tries what is left once, until ctx ends; the rest is lost.
func (e *influx) Shutdown(ctx context.Context) error {
	_, err := e.box.Close(ctx)
	e.client.CloseIdleConnections()
	return err
}
