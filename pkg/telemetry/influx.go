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
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/influxdata/line-protocol/v2/lineprotocol"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

const (
	// influxBytes is what may wait: at 50 KiB a snapshot a quarter of an hour.
	influxBytes = 4 << 20
	// influxTime bounds one write, so that a server which never answers delays the next by that much.
	influxTime = 5 * time.Second
	// The pause after a failed write doubles from the first to the longest, with jitter.
	influxFirstPause, influxLongestPause = time.Second, time.Minute
	// A server may ask for a longer one (Retry-After), but not for ever.
	influxMaxPause = 10 * time.Minute
	// influxRead is what is read of an answer, to use its connection again.
	influxRead = 4 << 10
)

// influx writes snapshots as line protocol: https://docs.influxdata.com/influxdb/v2/api/#operation/PostWrite. What
// can't be written waits; when that is too much the oldest goes.
type influx struct {
	url, token string
	tags       [][2]string
	loss       *loss
	tell       *teller
	client     *http.Client

	wake   chan struct{} // with room for one
	last   chan struct{} // closed when nothing follows
	ended  chan struct{} // closed when the goroutine is gone
	life   context.Context
	cancel context.CancelFunc
	once   sync.Once

	mu    sync.Mutex
	queue []batch // oldest first
	size  int
}

type batch struct {
	text  []byte
	lines int
}

func newInflux(url, token string, tags [][2]string, l *loss, tell *teller) *influx {
	e := &influx{url: url, token: token, tags: tags, loss: l, tell: tell,
		wake: make(chan struct{}, 1), last: make(chan struct{}), ended: make(chan struct{})}
	e.life, e.cancel = context.WithCancel(context.Background())
	e.client = &http.Client{
		Timeout: influxTime,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: influxTime}).DialContext,
			MaxIdleConns: 1, IdleConnTimeout: 4 * pushInterval, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
	}
	go e.run()
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
	b := e.encode(m)
	if b.lines == 0 {
		return nil
	}
	e.mu.Lock()
	e.queue = append(e.queue, b)
	e.size += len(b.text)
	for e.size > influxBytes {
		e.size -= len(e.queue[0].text)
		e.loss.dropped.Add(uint64(e.queue[0].lines))
		e.queue = slices.Delete(e.queue, 0, 1)
	}
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return nil
}

func (e *influx) encode(m *metricdata.ResourceMetrics) (b batch) {
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
			b.lines++
			return
		}
		enc.ClearErr() // the encoder takes back what it has of the line
		e.loss.dropped.Add(1)
	})
	b.text = enc.Bytes()
	return b
}

// run writes one batch after the other.
func (e *influx) run() {
	defer close(e.ended)
	pause := backoff.ExponentialBackOff{InitialInterval: influxFirstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: influxLongestPause}
	pause.Reset()
	for {
		b, ok := e.take()
		if !ok {
			select {
			case <-e.wake:
				continue
			case <-e.last:
				if b, ok = e.take(); !ok {
					return
				}
			}
		}
		again, asked, err := e.write(b)
		if err == nil {
			pause.Reset()
			continue
		}
		e.loss.failed.Add(1)
		e.tell.say(e.loss.exporter, err)
		if !again || e.closing() || !e.back(b) {
			e.loss.dropped.Add(uint64(b.lines))
		}
		if !again {
			continue
		}
		timer := time.NewTimer(max(min(asked, influxMaxPause), pause.NextBackOff()))
		select {
		case <-timer.C:
		case <-e.last:
		}
		timer.Stop()
	}
}

func (e *influx) closing() bool {
	select {
	case <-e.last:
		return true
	default:
		return false
	}
}

// take takes the oldest batch.
func (e *influx) take() (b batch, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return batch{}, false
	}
	b = e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	e.size -= len(b.text)
	return b, true
}

// back puts it back, if there is room.
func (e *influx) back(b batch) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.size+len(b.text) > influxBytes {
		return false
	}
	e.queue = slices.Insert(e.queue, 0, b)
	e.size += len(b.text)
	return true
}

// write sends a batch, and tells whether it can help to send it again, and after which time the server wants it.
func (e *influx) write(b batch) (again bool, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(e.life, http.MethodPost, e.url, bytes.NewReader(b.text))
	if err != nil {
		return false, 0, err
	}
	req.Header.Set("Authorization", "Token "+e.token)
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("Accept", "application/json")
	answer, err := e.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which names bucket and organisation
		}
		return true, 0, err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, influxRead)
	_ = answer.Body.Close()
	switch s := answer.StatusCode; {
	case s >= 200 && s < 300:
		return false, 0, nil
	case s == http.StatusTooManyRequests || s >= 500:
		return true, retryAfter(answer.Header.Get("Retry-After"), time.Now()), fmt.Errorf("answered %d", s)
	default:
		return false, 0, fmt.Errorf("answered %d", s)
	}
}

// retryAfter reads the header of that name, in seconds or as a date: RFC 9110, section 10.2.3.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// ForceFlush has nothing to do: what waits is sent as soon as that is possible.
func (e *influx) ForceFlush(context.Context) error { return nil }

// Shutdown tries each batch that is left once, until ctx ends; the rest is lost.
func (e *influx) Shutdown(ctx context.Context) error {
	e.once.Do(func() { close(e.last) })
	var err error
	select {
	case <-e.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
		e.cancel()
		<-e.ended
	}
	e.cancel()
	e.client.CloseIdleConnections()
	return err
}
