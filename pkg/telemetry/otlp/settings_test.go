package otlp

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyWhatIsSetIsOn(t *testing.T) {
	for _, c := range []struct {
		o               Exporter
		traces, metrics string
	}{
		{Exporter{Endpoint: "http://c:4318"}, "http://c:4318/v1/traces", "http://c:4318/v1/metrics"},
		{Exporter{Endpoint: "http://c:4318/base/"}, "http://c:4318/base/v1/traces", "http://c:4318/base/v1/metrics"},
		{Exporter{Endpoint: "http://c:4318", MetricsExporter: "none"}, "http://c:4318/v1/traces", ""},
		{Exporter{TracesEndpoint: "https://t/x"}, "https://t/x", ""},
		{Exporter{TracesExporter: "otlp"}, "http://localhost:4318/v1/traces", ""},
		{Exporter{Endpoint: "http://c", SDKDisabled: true}, "", ""},
	} {
		p, err := c.o.plan()
		if err != nil || p.traces != c.traces || p.metrics != c.metrics {
			t.Errorf("%+v: have %q, %q, %v", c.o, p.traces, p.metrics, err)
		}
	}
}
