package statsd

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/goleak"

	"example.com/base-app/pkg/telemetry/export"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatWouldEndALineOfStatsDIsReplaced(t *testing.T) {
	e := &statsD{"127.0.0.1:1", [][2]string{{"app", "a,b|c#d\ne"}, {"device", ""}}, &export.Loss{}}
	var have []string
	e.lines(export.Point{Name: "x", Kind: export.Counter, Value: 0.25, Attrs: attribute.NewSet(attribute.String("http.route", "/a,b|c\n"))}, func(l string) { have = append(have, l) })
	e.lines(export.Point{Name: "x", Kind: export.Counter}, func(l string) { have = append(have, l) }) // nothing happened
	if want := "x:0.25|c|#app:a_b_c_d_e,http_route:/a_b_c_"; strings.Join(have, "\n") != want {
		t.Errorf("want %s, have %q", want, have)
	}
}
