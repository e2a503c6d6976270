package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// A metric that the app declares goes wherever the table's go.
func TestAMetricOfTheAppsOwnReachesEveryExporter(t *testing.T) {
	c, db, statsd := collect(t), influxDB(t, nil), listenStatsD(t)
	tel, logs := open(t, Options{Prometheus: true, StatsD: statsd.LocalAddr().String(), Influx: influxTo(db.URL), OTel: OTel{MetricsEndpoint: c.URL + "/v1/metrics"}})
	waiting := Metric{Name: "orders_open", Kind: Gauge, Labels: []string{"region"}, Meaning: "orders that wait"}
	taken := Metric{Name: "orders_taken", Kind: Counter, Meaning: "orders"}
	read := func(_ context.Context, put Put) {
		put("orders_open", 3, "eu")
		put("orders_taken", 5)
		put("orders_lost", 1)
	}
	if err := tel.Observe(read, waiting, taken); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, _ := io.ReadAll(w.Result().Body)
	for _, want := range []string{`orders_open{region="eu"} 3`, "orders_taken_total 5"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("prometheus: want %s, have\n%s", want, text)
		}
	}
	flush(t, tel)
	statsd.find("orders_open:3|g|#app:shop,deployment:blue,device:box-1,region:eu,")
	statsd.find("orders_taken_total:5|c|#")
	if have := fmt.Sprint(db.fields["orders_open"], db.fields["orders_taken_total"]); have != "map[value:3] map[value:5]" {
		t.Errorf("influx: have %s", have)
	}
	if c.metrics["orders_open"] != 1 || c.metrics["orders_taken"] != 1 {
		t.Errorf("otlp: have %v", c.metrics)
	}
	if !strings.Contains(logs.String(), "orders_lost") {
		t.Errorf("want what was not declared in the log, have %s", logs)
	}
}

func TestAWrongMetricIsRefusedThoughNothingIsOn(t *testing.T) {
	var off *Telemetry
	for name, m := range map[string]Metric{
		"a name that exporters change":     {Name: "orders.open", Kind: Gauge, Meaning: "x"},
		"a name of the table":              {Name: "queue_depth", Kind: Gauge, Meaning: "x"},
		"a name that meets one's exported": {Name: "http_server_active_requests", Kind: Gauge, Meaning: "x"},
		"a histogram":                      {Name: "orders", Kind: Histogram, Meaning: "x"},
		"without a meaning":                {Name: "orders", Kind: Gauge},
		"a label that exporters change":    {Name: "orders", Kind: Gauge, Meaning: "x", Labels: []string{"the region"}},
	} {
		if err := off.Observe(nil, m); err == nil {
			t.Errorf("want %s refused", name)
		}
	}
}
