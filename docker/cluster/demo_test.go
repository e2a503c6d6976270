package cluster_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestTheDemoRunsOnTheTemplatesLadderAndItsDatabaseIsForOneServiceAlone(t *testing.T) {
	p := compose(t, nil, "compose.demo.yml")
	if names := p.ServiceNames(); !slices.Equal(names, []string{"jaeger", "service1", "service2", "users-db"}) {
		t.Fatalf("want the two services, the database and the traces' collector started, have %q", names)
	}
	with, err := p.WithProfiles([]string{"load"})
	if err != nil {
		t.Fatal(err)
	}
	app := compose(t, nil).Services["app"]
	for name, port := range map[string]string{"service1": "81", "service2": "82", "load": ""} {
		s := with.Services[name]
		if s.MemLimit != app.MemLimit || !s.ReadOnly || !slices.Equal(s.CapDrop, app.CapDrop) || !slices.Equal(s.SecurityOpt, app.SecurityOpt) || s.PidsLimit != app.PidsLimit {
			t.Errorf("%s has other rights than the app", name)
		}
		if arg := s.Build.Args["PACKAGE"]; arg == nil || *arg != "./"+name || *s.Build.Args["MODULE"] != "examples/demo" {
			t.Errorf("%s is built from %v", name, s.Build.Args)
		}
		find(t, "examples/demo/"+name+"/main.go", `^(package main)$`)
		if port == "" {
			if len(s.Ports)+len(s.Volumes) > 0 || s.Restart != "no" {
				t.Errorf("want the load client to need nothing and to end, have %v, %v, %q", s.Ports, s.Volumes, s.Restart)
			}
			continue
		}
		if s.Restart != app.Restart || *s.StopGracePeriod != *app.StopGracePeriod || len(s.Entrypoint) > 0 {
			t.Errorf("%s is not on the template's ladder", name)
		}
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s:%s:%d", p.HostIP, p.Published, p.Target))
		}
		if want := []string{"127.0.0.1:80" + port + ":8080", "127.0.0.1:94" + port + ":9464"}; !slices.Equal(ports, want) {
			t.Errorf("%s: want the ports %v, have %v", name, want, ports)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Source != name || s.Volumes[0].Target != app.Volumes[0].Target {
			t.Errorf("%s: want a data folder of its own, have %v", name, s.Volumes)
		}
		own := find(t, "examples/demo/"+name+"/main.go", "envconfig:\"(APP_[A-Z0-9_]+)\"")
		known := append(own, find(t, "docs/settings.md", "^\\| `([A-Z_]+)` ")...)
		for setting := range s.Environment {
			if !slices.Contains(known, setting) && !strings.HasPrefix(setting, "OTEL_") { // the specification's names
				t.Errorf("%s doesn't know the setting %s", name, setting)
			}
		}
	}
	db := p.Services["users-db"]
	if len(db.Ports) > 0 || len(db.Networks) != 1 || !p.Networks["database"].Internal || db.User == "" {
		t.Errorf("want the database without ports and rights, on a network of its own, have %+v", db)
	}
	for name, s := range with.Services {
		if _, reaches := s.Networks["database"]; reaches != (name == "service2" || name == "users-db") {
			t.Errorf("%s: on the database's network: %v", name, reaches)
		}
	}
	for _, name := range []string{"users-db", "jaeger"} {
		s := p.Services[name]
		if _, tag, _ := strings.Cut(s.Image, ":"); !strings.Contains(tag, ".") || !s.ReadOnly || !slices.Equal(s.CapDrop, app.CapDrop) {
			t.Errorf("want %s pinned, and without rights, have %+v", name, s)
		}
	}
	for _, of := range []struct{ from, setting string }{{"service1", "APP_SERVICE2_URL"}, {"service2", "APP_DATABASE_URL"},
		{"service1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}, {"service2", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}} {
		u, err := url.Parse(*p.Services[of.from].Environment[of.setting])
		if err != nil {
			t.Fatal(err)
		}
		if _, there := p.Services[u.Hostname()]; !there {
			t.Errorf("%s of %s: there is no service %s", of.setting, of.from, u.Hostname())
		}
	}
}
