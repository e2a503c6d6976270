package cluster_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

func TestWhatWatchesTheAppIsAsSafeAsTheAppAndOnThisMachineAlone(t *testing.T) {
	p := compose(t, nil, "compose.observability.yml")
	app := compose(t, nil).Services["app"]
	if names := p.ServiceNames(); !slices.Equal(names, []string{"alertmanager", "app", "collector", "grafana", "influxdb", "jaeger", "prometheus"}) {
		t.Fatalf("want all of it started, have %q", names)
	}
	for _, s := range nodes(p) {
		if _, tag, _ := strings.Cut(s.Image, ":"); !regexp.MustCompile(`^v?\d+\.\d+\.\d+`).MatchString(tag) {
			t.Errorf("%s: want a version, have %s", s.Name, s.Image)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, app.CapDrop) || !slices.Equal(s.SecurityOpt, app.SecurityOpt) || s.PidsLimit != app.PidsLimit || s.MemLimit <= 0 || s.Restart != app.Restart {
			t.Errorf("%s has other rights than the app", s.Name)
		}
		if fmt.Sprint(s.Logging) != fmt.Sprint(app.Logging) {
			t.Errorf("%s logs in another way than the app: %v", s.Name, s.Logging)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || port.Published != fmt.Sprint(port.Target) {
				t.Errorf("%s: want the loopback address alone, have %v", s.Name, port)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s: want a file of ours that it can only read, have %v, %v", s.Name, v, err)
			}
		}
		// What it is told to read is mounted there.
		for _, arg := range s.Command {
			file, ok := strings.CutPrefix(strings.Replace(arg, "--config.file=", "--config=", 1), "--config=")
			if !ok {
				continue
			}
			found := false
			for _, v := range s.Volumes {
				if inside, below := strings.CutPrefix(file, v.Target); below && v.Type == "bind" {
					_, err := os.Stat(v.Source + inside)
					found = found || err == nil
				}
			}
			if !found {
				t.Errorf("%s: %s is not mounted", s.Name, file)
			}
		}
	}
	// What the overlay doesn't mean to change is as it was; the metrics are for the network alone.
	watched := p.Services["app"]
	if fmt.Sprint(watched.Ports) != fmt.Sprint(app.Ports) || !watched.ReadOnly || watched.MemLimit != app.MemLimit || len(watched.DependsOn) > 0 {
		t.Errorf("want the app as it was, and waiting for nobody, have %v", watched)
	}
}

func TestTheVersionsAreThoseThatTheTestsRun(t *testing.T) {
	p := compose(t, nil, "compose.observability.yml")
	// The module of Prometheus 3.15.1 is v0.315.1.
	m := regexp.MustCompile(`(?m)^\tgithub.com/prometheus/prometheus v0\.(\d)0?(\d+)\.(\d+)$`)
	text, err := os.ReadFile(filepath.Join(root, "docker/observability/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	v := m.FindStringSubmatch(string(text))
	if want := fmt.Sprintf("prom/prometheus:v%s.%s.%s", v[1], v[2], v[3]); p.Services["prometheus"].Image != want {
		t.Errorf("want %s, whose parser reads the expressions, have %s", want, p.Services["prometheus"].Image)
	}
	if want := compose(t, nil, "compose.demo.yml").Services["jaeger"].Image; p.Services["jaeger"].Image != want {
		t.Errorf("want the demo's Jaeger, %s, have %s", want, p.Services["jaeger"].Image)
	}
	want := "otel/opentelemetry-collector-contrib:" + find(t, "docker/observability/collector/go.mod", `^\tgo.opentelemetry.io/collector/otelcol v(\S+)$`)[0]
	if p.Services["collector"].Image != want {
		t.Errorf("want %s, which the test of collector.yml runs, have %s", want, p.Services["collector"].Image)
	}
}

// Each address that a file names is a service of the overlay, which listens there.
func TestEachFindsTheOthers(t *testing.T) {
	p := compose(t, nil, "compose.observability.yml")
	app := p.Services["app"]
	listens := map[string][]string{
		"app": {find(t, "docker/compose.observability.yml", `^ +METRICS_ADDR: :(\d+)$`)[0]}, "alertmanager": {"9093"}, "grafana": {"3000"}, "influxdb": {"8086"},
		"prometheus": {"9090"}, "jaeger": {"4318", "16686"},
		"collector": append(find(t, "docker/observability/collector/collector.yml", `endpoint: "0\.0\.0\.0:(\d+)"`), find(t, "docker/observability/collector/collector.yml", `host: 0\.0\.0\.0, port: (\d+)`)...),
	}
	meet := func(where, address string) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || !slices.Contains(listens[host], port) {
			t.Errorf("%s: nobody listens at %s", where, address)
		}
	}
	var names []string
	for name, value := range app.Environment {
		names = append(names, name)
		if u, err := url.Parse(*value); err == nil && u.Scheme == "http" {
			meet(name, u.Host)
		}
	}
	settingsExist(t, "compose.observability.yml", names)
	meet("prometheus.yml", "app:"+find(t, "docker/observability/prometheus/prometheus.yml", `names: \[app\], type: A, port: (\d+)`)[0])
	for _, address := range find(t, "docker/observability/prometheus/prometheus.yml", `targets: \["(\w+:\d+)"\]`) {
		meet("prometheus.yml", strings.Replace(address, "localhost", "prometheus", 1))
	}
	for _, file := range []string{"docker/observability/collector/collector.yml", "docker/observability/grafana/provisioning/datasources/datasources.yml"} {
		for _, address := range find(t, file, `http://([a-z]+:\d+)`) {
			meet(file, address)
		}
	}
	// Docker itself sends the lines, from outside of the network.
	published := p.Services["collector"].Ports
	if _, port, _ := net.SplitHostPort(app.Logging.Options["fluentd-address"]); len(published) != 2 || published[1].Published != port || !slices.Contains(listens["collector"], port) {
		t.Errorf("want docker to find the collector at %s, have %v", app.Logging.Options["fluentd-address"], published)
	}
	if app.Logging.Driver != "fluentd" || app.Logging.Options["fluentd-async"] != "true" || app.Logging.Options["mode"] != "non-blocking" {
		t.Errorf("want docker to wait for nobody, have %v", app.Logging)
	}
	// Exemplars lead to a data source that there is.
	const sources = "docker/observability/grafana/provisioning/datasources/datasources.yml"
	if uids := find(t, sources, `^    uid: (\w+)$`); !slices.Contains(uids, find(t, sources, `datasourceUid: (\w+)`)[0]) || !slices.Contains(uids, "prometheus") {
		t.Errorf("want the data sources that are named, have %q", uids)
	}
	// Grafana reads the dashboard where its provider looks.
	folder := find(t, "docker/observability/grafana/provisioning/dashboards/dashboards.yml", `path: (\S+)}`)[0]
	if !slices.ContainsFunc(p.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == folder && strings.HasSuffix(v.Source, "/dashboards")
	}) {
		t.Errorf("want the dashboards mounted at %s", folder)
	}
}
