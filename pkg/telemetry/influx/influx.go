// Package influx exports metrics to an InfluxDB, version 2 or one with its write API (1.8 and later). Each 10 s it makes a
// snapshot of all metrics, which waits in an outbox until it is written: an outage of a quarter of an hour loses nothing.
package influx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/telemetry/export"
	"example.com/base-app/pkg/web"
)

const (
	// maxBytes is what may wait: at 50 KiB a snapshot a quarter of an hour.
	maxBytes = 4 << 20
	// maxBatch is how many snapshots one write has, after an outage: some thousand lines, as InfluxDB advises.
	maxBatch = 10
	// writeTime bounds one write, so that a server which never answers delays the next by that much.
	writeTime = 5 * time.Second
	// maxAnswer is what is read of an answer, to use its connection again.
	maxAnswer = 4 << 10
)

// Exporter names an InfluxDB. For version 1, Token is user:password and Bucket is database/retention-policy. With an empty URL
// it is off.
type Exporter struct{ URL, Token, Org, Bucket string }

// Settings name it in the environment.
type Settings struct {
	URL    string        `envconfig:"INFLUX_URL" desc:"http://host:8086 of an InfluxDB, told each 10 s through the write API of version 2; empty means none"`
	Token  config.Secret `envconfig:"INFLUX_TOKEN" desc:"that may write to the bucket; user:password for version 1"`
	Org    string        `envconfig:"INFLUX_ORG" desc:"organisation that owns the bucket; not for version 1"`
	Bucket string        `envconfig:"INFLUX_BUCKET" desc:"bucket for the metrics; database/retention-policy for version 1"`
}

// Exporter returns the exporter that the settings name.
func (s *Settings) Exporter() Exporter {
	return Exporter{URL: s.URL, Token: s.Token.Reveal(), Org: s.Org, Bucket: s.Bucket}
}

// Check looks at all settings.
func (i Exporter) Check() (on bool, err error) {
	u, err := i.writeURL()
	return u != "", err
}

// Open has the metrics sent.
func (i Exporter) Open(c *export.Core) error {
	u, err := i.writeURL()
	if err == nil {
		c.Push(newInflux(u, i.Token, c.Tags, c.NewLoss("influx")), export.PushInterval)
	}
	return err
}

// writeURL returns where to write to, empty if it is off.
func (i Exporter) writeURL() (string, error) {
	if i.URL == "" {
		if i.Token+i.Org+i.Bucket != "" {
			return "", export.Wrong("INFLUX_URL", "set it, or remove the other INFLUX_ settings", "missing, though others of InfluxDB are set")
		}
		return "", nil
	}
	if err := export.CheckURL("INFLUX_URL", i.URL, "INFLUX_TOKEN"); err != nil {
		return "", err
	}
	switch {
	case i.Bucket == "":
		return "", export.Wrong("INFLUX_BUCKET", "set it, for version 1 to database/retention-policy", "missing, though INFLUX_URL is set")
	case i.Token == "":
		return "", export.Wrong("INFLUX_TOKEN", "set it, for version 1 to user:password", "missing, though INFLUX_URL is set")
	case strings.ContainsFunc(i.Token, export.IsControl):
		return "", export.Wrong("INFLUX_TOKEN", "it may end with a line break that is no part of it", "has a control character")
	}
	query := url.Values{"bucket": {i.Bucket}, "precision": {"ns"}}
	if i.Org != "" {
		query.Set("org", i.Org)
	}
	return strings.TrimRight(i.URL, "/") + "/api/v2/write?" + query.Encode(), nil
}

// influx writes snapshots as line protocol: https://docs.influxdata.com/influxdb/v2/api/#operation/PostWrite. What
// can't be written waits; when that is too much the oldest goes. A line that is written twice is one line to InfluxDB.
type influx struct {
	url, token string
	tags       [][2]string
	loss       *export.Loss
	client     *http.Client
	box        *outbox.Outbox[snapshot]
}

// snapshot is all metrics at one moment, as line protocol.
type snapshot struct {
	text  []byte
	lines int
}

func newInflux(url, token string, tags [][2]string, l *export.Loss) *influx {
	e := &influx{url: url, token: token, tags: tags, loss: l}
	e.client = &http.Client{
		Timeout: writeTime,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: writeTime}).DialContext,
			MaxIdleConns: 1, IdleConnTimeout: 4 * export.PushInterval, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
	}
	e.box = outbox.New(outbox.Options[snapshot]{Name: "influx", Deliver: e.write, Batch: maxBatch, Warnings: l.Warnings,
		Bytes: maxBytes, Size: func(s snapshot) int { return len(s.text) },
		Outcome: func(s snapshot, o outbox.Outcome) {
			if o != outbox.Delivered {
				l.Dropped.Add(uint64(s.lines))
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
		e.loss.Dropped.Add(uint64(dropped.lines))
	}
	return nil
}

func (e *influx) encode(m *metricdata.ResourceMetrics) (s snapshot) {
	var enc lineprotocol.Encoder
	enc.SetPrecision(lineprotocol.Nanosecond)
	export.Points(m, func(p export.Point) {
		enc.StartLine(p.Name)
		for _, t := range p.Tags(e.tags) {
			enc.AddTag(t[0], t[1])
		}
		field := func(name string, value float64) {
			if v, ok := lineprotocol.FloatValue(value); ok { // no line can have NaN or an infinity
				enc.AddField(name, v)
			}
		}
		if p.Kind == export.Histogram {
			below := uint64(0)
			for i, n := range p.Buckets {
				below += n
				field(export.Bound(p.Bounds, i), float64(below))
			}
			field("count", float64(p.Count))
			field("sum", p.Value)
		} else {
			field("value", p.Value)
		}
		enc.EndLine(p.At)
		if enc.Err() == nil {
			s.lines++
			return
		}
		enc.ClearErr() // the encoder takes back what it has of the line
		e.loss.Dropped.Add(1)
	})
	s.text = enc.Bytes()
	return s
}

// write sends snapshots. Its error has no URL, which names bucket and organisation.
func (e *influx) write(ctx context.Context, batch []snapshot) error {
	err := e.post(ctx, batch)
	if err != nil {
		e.loss.Failed.Add(1)
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
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer)
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
