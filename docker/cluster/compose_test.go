package cluster_test

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"
)

// compose loads docker-compose.yml with overlays as docker compose does, with these variables and no .env.
func compose(t *testing.T, env types.Mapping, overlays ...string) *types.Project {
	t.Helper()
	logrus.SetOutput(io.Discard) // the loader prints a line for each variable that is not set
	files := []string{filepath.Join(root, "docker-compose.yml")}
	for _, o := range overlays {
		files = append(files, filepath.Join(root, "docker", o))
	}
	details := types.ConfigDetails{WorkingDir: root, ConfigFiles: types.ToConfigFiles(files), Environment: env}
	p, err := loader.LoadWithContext(t.Context(), details, func(o *loader.Options) { o.SkipResolveEnvironment = true })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeLoadsEachOverlayWithoutDocker(t *testing.T) {
	overlays, _ := filepath.Glob(filepath.Join(root, "docker/compose.*.yml"))
	if len(overlays) < 6 {
		t.Fatalf("want the overlays, have %q", overlays)
	}
	for _, o := range overlays {
		compose(t, nil, filepath.Base(o))
	}
}

func nodes(p *types.Project) []types.ServiceConfig {
	var list []types.ServiceConfig
	for _, name := range p.ServiceNames() {
		if name != "app" {
			list = append(list, p.Services[name])
		}
	}
	return list
}

func TestSeveralAppsDontGetInEachOthersWay(t *testing.T) {
	p := compose(t, nil, "compose.cluster.yml")
	app := p.Services["app"]
	if app.GetScale() < 2 {
		t.Fatalf("want several apps, have %d", app.GetScale())
	}
	if seven := compose(t, types.Mapping{"REPLICAS": "7"}, "compose.cluster.yml").Services["app"]; seven.GetScale() != 7 {
		t.Errorf("want the number that REPLICAS says, have %d", seven.GetScale())
	}
	if app.ContainerName != "" || app.Hostname != "" {
		t.Errorf("want no name that all apps share, have container %q, host %q", app.ContainerName, app.Hostname)
	}
	for _, v := range app.Volumes {
		if v.Source != "" {
			t.Errorf("the apps share %s at %s", v.Source, v.Target)
		}
	}
	if len(app.Volumes) != 1 || app.Volumes[0].Target != find(t, "Dockerfile", `^ENV DATA_DIR=(\S+)`)[0] {
		t.Errorf("want a data folder for each app, have %v", app.Volumes)
	}
	if len(app.Ports) != 1 {
		t.Fatalf("want one range of ports, have %v", app.Ports)
	}
	port := app.Ports[0]
	first, last, _ := strings.Cut(port.Published, "-")
	from, _ := strconv.Atoi(first)
	to, err := strconv.Atoi(last)
	if room := to - from + 1; err != nil || room < app.GetScale() {
		t.Errorf("want a port of the host for each of %d apps, have %q", app.GetScale(), port.Published)
	}
	if port.HostIP != "127.0.0.1" || port.Target != 8080 {
		t.Errorf("want the app's port, on the loopback address, have %v", port)
	}
	// What the overlay doesn't mean to change is as it was.
	one := compose(t, nil).Services["app"]
	if app.Restart != one.Restart || app.MemLimit != one.MemLimit || !app.ReadOnly || len(app.Tmpfs) != len(one.Tmpfs) || *app.StopGracePeriod != *one.StopGracePeriod {
		t.Errorf("want the app's restart policy, limits and times, have %v", app)
	}
}

func TestTheNodesAreAsSafeAsTheAppAndReachableForItAlone(t *testing.T) {
	p := compose(t, nil, "compose.cluster.yml")
	app, list := p.Services["app"], nodes(p)
	if len(list) != 3 {
		t.Fatalf("want three nodes, have %d", len(list))
	}
	quorum, _ := healthPaths(t)
	var clients []string
	for _, n := range list {
		clients = append(clients, n.Name+":4222")
		if n.Image != natsImage(t) {
			t.Errorf("%s: want the version that these tests run, %s, have %s", n.Name, natsImage(t), n.Image)
		}
		if name := n.Environment["NATS_NAME"]; name == nil || *name != n.Name {
			t.Errorf("%s doesn't know its name", n.Name)
		}
		if len(n.Ports) > 0 || len(n.Networks) != 1 {
			t.Errorf("%s: want no port of the host and one network, have %v, %v", n.Name, n.Ports, n.Networks)
		}
		for network := range n.Networks {
			if _, reaches := app.Networks[network]; !reaches || !p.Networks[network].Internal {
				t.Errorf("%s: want %s to be for it and the app alone", n.Name, network)
			}
		}
		if n.Restart != app.Restart || !n.ReadOnly || !slices.Equal(n.CapDrop, app.CapDrop) || !slices.Equal(n.SecurityOpt, app.SecurityOpt) || n.PidsLimit != app.PidsLimit {
			t.Errorf("%s has other rights than the app", n.Name)
		}
		if fmt.Sprint(n.Logging) != fmt.Sprint(app.Logging) {
			t.Errorf("%s logs in another way than the app: %v", n.Name, n.Logging)
		}
		limit, err := units.RAMInBytes(*n.Environment["GOMEMLIMIT"])
		if err != nil || limit <= 0 || limit >= int64(n.MemLimit) {
			t.Errorf("%s: want a GOMEMLIMIT below its memory, have %d of %d, %v", n.Name, limit, n.MemLimit, err)
		}
		if h := n.HealthCheck; h == nil || h.Test[len(h.Test)-1] != fmt.Sprintf("http://127.0.0.1:%d%s", options(t, composeConf, n.Name).HTTPPort, quorum) {
			t.Errorf("%s: want a health check that tells whether there is a quorum, have %v", n.Name, h)
		}
		if len(n.Volumes) != 2 || n.Volumes[0].Source != n.Name || n.Volumes[0].Target != options(t, composeConf, n.Name).StoreDir {
			t.Errorf("%s: want its own volume for its events, have %v", n.Name, n.Volumes)
		}
		if d := app.DependsOn[n.Name]; d.Required {
			t.Errorf("the app doesn't start without %s", n.Name)
		}
	}
	if have := hosts(t, *app.Environment["QUEUE_URL"]); !slices.Equal(have, clients) {
		t.Errorf("want the app to know %q, have %q", clients, have)
	}
	var routes []string
	for _, r := range options(t, composeConf, "nats-1").Routes {
		host, _, _ := net.SplitHostPort(r.Host)
		routes = append(routes, host+":4222")
	}
	if !slices.Equal(routes, clients) {
		t.Errorf("want each node to look for all, have %q", routes)
	}
	if r, _ := strconv.Atoi(*app.Environment["QUEUE_REPLICAS"]); r != len(list) {
		t.Errorf("want each event on every node, have it on %d", r)
	}
}

func TestTheOverlaysSetWhatTheAppKnows(t *testing.T) {
	for _, overlay := range []string{"compose.cluster.yml", "compose.queue.yml"} {
		app := compose(t, nil, overlay).Services["app"]
		var names []string
		for name, value := range app.Environment {
			names = append(names, name)
			// A file that a setting names is one of the secrets.
			if file, ok := strings.CutPrefix(*value, "/run/secrets/"); ok && !slices.ContainsFunc(app.Secrets, func(s types.ServiceSecretConfig) bool { return s.Source == file }) {
				t.Errorf("%s: %s names %s, which is no secret of the app", overlay, name, file)
			}
		}
		slices.Sort(names)
		settingsExist(t, overlay, names)
	}
}
