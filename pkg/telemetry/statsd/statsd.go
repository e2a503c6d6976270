// Package statsd exports metrics to a dogstatsd server. It sends each 10 s what happened since the last time, over UDP: what
// is lost on the way nobody knows, and what the server's host refuses is counted.
package statsd

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/base-app/pkg/telemetry/export"
)

const (
	// maxDatagram fits into an Ethernet frame behind all headers, so that nothing on the way has to cut it.
	maxDatagram = 1432
	// statsDTime bounds the look-up of the server's name, and one datagram.
	statsDTime = 2 * time.Second
)

// statsD sends what happened since the last time as dogstatsd datagrams: counters as |c, gauges as |g, and a histogram as counters
// of its buckets, since the single values are not kept. DataDog's own client takes only whole numbers as counts, and
// a sum of seconds is none.
// Source: https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/
type statsD struct {
	addr string
	tags [][2]string // of every line
	loss *export.Loss
}

// Settings name it in the environment.
type Settings struct {
	Addr string `envconfig:"STATSD_ADDR" desc:"host:port of a dogstatsd server, told each 10 s over UDP; empty means none"`
}

// Exporter is the host:port of a dogstatsd server; empty: it is off.
type Exporter string

// Check looks at the address.
func (x Exporter) Check() (on bool, err error) {
	if x == "" {
		return false, nil
	}
	if _, port, err := net.SplitHostPort(string(x)); err != nil || !export.IsPort(port) {
		return false, export.Wrong("STATSD_ADDR", "write host:port, 127.0.0.1:8125 for example", "not an address")
	}
	return true, nil
}

// Open has the metrics sent.
func (x Exporter) Open(c *export.Core) error {
	c.Push(&statsD{string(x), c.Tags, c.NewLoss("statsd")}, export.PushInterval)
	return nil
}

// tagValue replaces what would end a tag, or the line.
func tagValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ',' || r == '|' || r == '#' || export.IsControl(r) {
			return '_'
		}
		return r
	}, s)
}

// Temporality asks for differences, where a value adds up.
func (e *statsD) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.DeltaTemporalitySelector(k)
}

// Aggregation is the standard one.
func (e *statsD) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

// Export sends a datagram for each handful of lines. It looks the server up each time, so it follows one that moves.
func (e *statsD) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	var packets []packet
	export.Points(m, func(p export.Point) { e.lines(p, func(line string) { packets = pack(packets, line) }) })
	if len(packets) == 0 {
		return nil
	}
	conn, err := (&net.Dialer{Timeout: statsDTime}).DialContext(ctx, "udp", e.addr)
	if err != nil {
		e.lost(packets, err)
		return nil
	}
	defer conn.Close()
	for i := range packets {
		_ = conn.SetWriteDeadline(time.Now().Add(statsDTime))
		if _, err := conn.Write(packets[i].text); err != nil { // it answers the datagram before: nothing listens there
			e.lost(packets[i:i+1], err)
		}
		if ctx.Err() != nil {
			e.lost(packets[i+1:], context.Cause(ctx))
			break
		}
	}
	return nil
}

func (e *statsD) lost(packets []packet, err error) {
	lines := 0
	for _, p := range packets {
		lines += p.lines
	}
	e.loss.Fail(err, lines)
}

type packet struct {
	text  []byte
	lines int
}

// pack adds a line to the last packet, or begins another.
func pack(list []packet, line string) []packet {
	if n := len(list); n > 0 && len(list[n-1].text)+1+len(line) <= maxDatagram {
		list[n-1].text = append(append(list[n-1].text, '\n'), line...)
		list[n-1].lines++
		return list
	}
	return append(list, packet{[]byte(line), 1})
}

// lines yields the lines of a point: none if nothing happened.
func (e *statsD) lines(p export.Point, yield func(string)) {
	var tags strings.Builder
	for _, t := range p.Tags(e.tags) {
		tags.WriteString("," + t[0] + ":" + tagValue(t[1]))
	}
	put := func(name string, value float64, kind, more string) {
		line := name + ":" + strconv.FormatFloat(value, 'f', -1, 64) + "|" + kind
		if all := strings.TrimPrefix(more+tags.String(), ","); all != "" {
			line += "|#" + all
		}
		yield(line)
	}
	switch {
	case p.Kind == export.Gauge:
		put(p.Name, p.Value, "g", "")
	case p.Kind == export.Counter && p.Value != 0:
		put(p.Name, p.Value, "c", "")
	case p.Kind == export.Histogram && p.Count > 0:
		below := uint64(0)
		for i, n := range p.Buckets {
			if below += n; below > 0 {
				put(p.Name+"_bucket", float64(below), "c", ",le:"+export.Bound(p.Bounds, i))
			}
		}
		put(p.Name+"_sum", p.Value, "c", "")
		put(p.Name+"_count", float64(p.Count), "c", "")
	}
}

// ForceFlush has nothing to do: nothing waits.
func (e *statsD) ForceFlush(context.Context) error { return nil }

// Shutdown has nothing to do.
func (e *statsD) Shutdown(context.Context) error { return nil }
