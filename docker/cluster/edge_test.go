package cluster_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTheEdgeStandsBeforeAllAppsAndNothingElseGetsToThem(t *testing.T) {
	p := compose(t, nil, "compose.cluster.yml", "compose.edge.yml")
	app, edge := p.Services["app"], p.Services["edge"]
	const config = "docker/haproxy/haproxy.cfg"
	if len(edge.Volumes) != 1 || edge.Volumes[0].Target != "/usr/local/etc/haproxy/haproxy.cfg" || !edge.Volumes[0].ReadOnly {
		t.Fatalf("want the sample where the image looks for it, have %v", edge.Volumes)
	}
	text, err := os.ReadFile(filepath.Join(root, config))
	if have, wrong := os.ReadFile(edge.Volumes[0].Source); err != nil || wrong != nil || string(have) != string(text) {
		t.Errorf("want %s, have %s, %v, %v", config, edge.Volumes[0].Source, err, wrong)
	}
	// HAProxy finds by the service's name as many apps as there may be, on the port that they listen on.
	name, port := find(t, config, `^ +server-template app- \d+ (\S+):`)[0], find(t, config, `^ +server-template app- \d+ \S+:(\d+)$`)[0]
	if name != app.Name || port != find(t, "Dockerfile", `^EXPOSE (\d+)$`)[0] {
		t.Errorf("want the service app and its port, have %s:%s", name, port)
	}
	if room, err := strconv.Atoi(find(t, config, `^ +server-template app- (\d+) `)[0]); err != nil || room < app.GetScale() {
		t.Errorf("HAProxy has places for %d apps, and there are %d", room, app.GetScale())
	}
	shared := false
	for network := range edge.Networks {
		_, also := app.Networks[network]
		shared = shared || also
		if p.Networks[network].Internal {
			t.Errorf("the edge is on %s, which is for the queue", network)
		}
	}
	if !shared {
		t.Error("the edge is on no network of the apps")
	}
	if len(app.Ports) > 0 {
		t.Errorf("want the apps reachable through the edge alone, since they believe what it says about clients, have %v", app.Ports)
	}
	if len(edge.Ports) != 1 || edge.Ports[0].HostIP != "127.0.0.1" || fmt.Sprint(edge.Ports[0].Target) != find(t, config, `^ +bind :(\d+)$`)[0] {
		t.Errorf("want its public port, on the loopback address, have %v", edge.Ports)
	}
	if edge.Restart != app.Restart || !edge.ReadOnly || !slices.Equal(edge.CapDrop, app.CapDrop) || !slices.Equal(edge.SecurityOpt, app.SecurityOpt) || edge.PidsLimit != app.PidsLimit {
		t.Error("the edge has other rights than the app")
	}
	if fmt.Sprint(edge.Logging) != fmt.Sprint(app.Logging) {
		t.Errorf("the edge logs in another way than the app: %v", edge.Logging)
	}
	if inner := "http://" + find(t, config, `^ +bind (127\S+)$`)[0] + find(t, config, `^ +monitor-uri (\S+)$`)[0]; edge.HealthCheck.Test[len(edge.HealthCheck.Test)-1] != inner {
		t.Errorf("want its health asked for at %s, have %v", inner, edge.HealthCheck.Test)
	}
	// Requests in flight end before HAProxy does, and that before docker kills it.
	if soft := span(t, find(t, config, `^ +hard-stop-after (\S+)$`)[0]); edge.StopSignal != "SIGUSR1" || time.Duration(*edge.StopGracePeriod) <= soft {
		t.Errorf("want a soft stop of %v within docker's time, have %s, %v", soft, edge.StopSignal, edge.StopGracePeriod)
	}
	var names []string
	for name := range app.Environment {
		names = append(names, name)
	}
	settingsExist(t, "compose.edge.yml", names)
	for prefix := range strings.SplitSeq(*app.Environment["WEB_TRUSTED_PROXIES"], ",") {
		if n, err := netip.ParsePrefix(prefix); err != nil || !n.Addr().IsPrivate() {
			t.Errorf("want networks that are nobody else's trusted, have %s, %v", prefix, err)
		}
	}
}

// Each rung gives up later than the one below it, so that whoever knows the reason tells it.
func TestTheProxiesTimesFitTheApps(t *testing.T) {
	times := map[string]time.Duration{}
	row := find(t, "docs/http.md", `^\| time for a header, for a body, for all, idle \| ([^|]+) \|`)[0]
	for i, text := range strings.Split(strings.ReplaceAll(row, " s", "s"), ", ") {
		times[[]string{"header", "body", "all", "idle"}[i]] = span(t, strings.TrimSpace(text))
	}
	in := func(name, pattern string) time.Duration { return span(t, find(t, name, pattern)[0]) }
	const haproxy, nginx = "docker/haproxy/haproxy.cfg", "docker/nginx/nginx.conf"
	for _, c := range []struct {
		what        string
		early, late time.Duration
	}{
		{"HAProxy gives up on an answer after the app", times["all"], in(haproxy, `^ +timeout server (\S+)$`)},
		{"nginx gives up on an answer after the app", times["all"], in(nginx, `^ +proxy_read_timeout (\S+);`)},
		{"nginx closes idle connections to the app before it", in(nginx, `^        keepalive_timeout (\S+);`), times["idle"]},
		{"HAProxy's soft stop is as long as a request", times["all"] - 1, in(haproxy, `^ +hard-stop-after (\S+)$`)},
		{"HAProxy waits for a header as long as the app", times["header"] - 1, in(haproxy, `^ +timeout http-request (\S+)$`)},
		{"nginx waits for a header as long as the app", times["header"] - 1, in(nginx, `^ +client_header_timeout (\S+);`)},
	} {
		if c.early >= c.late {
			t.Errorf("%s: have %v and %v", c.what, c.early, c.late)
		}
	}
	if have := find(t, nginx, `^ +client_max_body_size (\d+)m;`)[0]; have != find(t, "docs/http.md", `or as a batch than (\d+) MiB`)[0] {
		t.Errorf("want nginx to let a batch through, have %s MiB", have)
	}
}
