package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func span(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// settings are what the app's pods get by envFrom.
func settings(t *testing.T, m manifests) map[string]string {
	t.Helper()
	for _, c := range m.configs {
		if c.Name == m.deployment.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name {
			return c.Data
		}
	}
	t.Fatal("want the ConfigMap that the app names")
	return nil
}

func TestThePodsTimesNest(t *testing.T) {
	m := build(t)
	kill := seconds(*m.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds)
	docker := span(t, find(t, "docker-compose.yml", `^ +stop_grace_period: (\S+)$`)[0])
	if kill < docker {
		t.Errorf("want the kubelet's kill no earlier than docker's, for which all shorter times are made: have %v, docker %v", kill, docker)
	}
	drain := span(t, settings(t, m)["DRAIN_DELAY"])
	grace := span(t, find(t, "docs/settings.md", "^\\| `SHUTDOWN_GRACE` \\| a duration from \\S+ to (\\S+) ")[0])
	if drain <= 0 || drain >= grace {
		t.Errorf("want a DRAIN_DELAY that leaves time to drain, have %v of %v", drain, grace)
	}
	patience := func(p *corev1.Probe) time.Duration {
		return seconds(int64(p.PeriodSeconds) * int64(p.FailureThreshold))
	}
	c := m.deployment.Spec.Template.Spec.Containers[0]
	// Supervisord tries some 10 s long, and the container's own health check needs up to 60 s.
	if have := patience(c.LivenessProbe); have < 60*time.Second {
		t.Errorf("the kubelet restarts the pod after %v, before its own supervisors could help", have)
	}
	if start := span(t, find(t, "Dockerfile", `^HEALTHCHECK .*--start-period=(\S+)`)[0]); patience(c.StartupProbe) < start {
		t.Errorf("a start may take %v in docker, and %v here", start, patience(c.StartupProbe))
	}
	for name, p := range probes(m.workloads()[0]) {
		if name != "startup" && p.TimeoutSeconds > p.PeriodSeconds {
			t.Errorf("the %s probe asks again before it gave up", name)
		}
		if pages := strings.Join(find(t, "docs/http.md", "^\\| (`GET .*`) \\|"), " "); !strings.Contains(pages, "GET "+p.HTTPGet.Path+"`") {
			t.Errorf("the %s probe asks for %s, which docs/http.md doesn't have", name, p.HTTPGet.Path)
		}
	}
	if r := m.deployment.Spec.Strategy.RollingUpdate; r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() < 1 {
		t.Errorf("want a rollout that takes no pod before its successor is ready, have %v", r)
	}
}

func TestThePodIsTheContainerThatComposeRuns(t *testing.T) {
	m := build(t)
	pod := m.deployment.Spec.Template.Spec
	c := pod.Containers[0]
	one := compose(t, nil).Services["app"]
	if user := find(t, "Dockerfile", `^USER (\S+)$`)[0]; user != fmt.Sprintf("%d:%d", *pod.SecurityContext.RunAsUser, *pod.SecurityContext.RunAsGroup) {
		t.Errorf("want the image's user %s, have %d:%d", user, *pod.SecurityContext.RunAsUser, *pod.SecurityContext.RunAsGroup)
	}
	if port := find(t, "Dockerfile", `^EXPOSE (\d+)$`)[0]; fmt.Sprint(c.Ports[0].ContainerPort) != port {
		t.Errorf("want the image's port %s, have %d", port, c.Ports[0].ContainerPort)
	}
	if c.Image != one.Image || len(c.Command) > 0 || len(c.Args) > 0 {
		t.Errorf("want the image %s as it is, have %s %q %q", one.Image, c.Image, c.Command, c.Args)
	}
	if have := c.Resources.Limits.Memory().Value(); have != int64(one.MemLimit) {
		t.Errorf("want the memory that compose gives, %d, have %d", one.MemLimit, have)
	}
	written := []string{find(t, "Dockerfile", `^ENV DATA_DIR=(\S+)`)[0]}
	for _, mount := range one.Tmpfs {
		path, _, _ := strings.Cut(mount, ":")
		written = append(written, path)
	}
	var writable []string
	for _, v := range c.VolumeMounts {
		if !v.ReadOnly {
			writable = append(writable, v.MountPath)
		}
	}
	slices.Sort(written)
	slices.Sort(writable)
	if !slices.Equal(written, writable) {
		t.Errorf("want %q to be writable, have %q", written, writable)
	}
}

func TestTheQueueIsWhereTheAppLooksForIt(t *testing.T) {
	m := build(t)
	set := settings(t, m)
	settingsExist(t, "docker/k8s/app.env", slices.Sorted(maps.Keys(set)))
	n := m.nats.Spec
	c := n.Template.Spec.Containers[0]
	var clients, routes []string
	for i := range *n.Replicas {
		pod := fmt.Sprintf("%s-%d.%s", m.nats.Name, i, n.ServiceName)
		clients = append(clients, fmt.Sprintf("%s:%d", pod, ports(n.Template)["client"]))
		routes = append(routes, fmt.Sprintf("%s:%d", pod, ports(n.Template)["cluster"]))
	}
	if have := hosts(t, set["QUEUE_URL"]); !slices.Equal(have, clients) {
		t.Errorf("want the app to know %q, have %q", clients, have)
	}
	if set["QUEUE_REPLICAS"] != fmt.Sprint(*n.Replicas) {
		t.Errorf("want each event on all %d nodes, have it on %s", *n.Replicas, set["QUEUE_REPLICAS"])
	}
	o := options(t, k8sConf, "nats-0")
	var have []string
	for _, r := range o.Routes {
		have = append(have, r.Host)
	}
	if !slices.Equal(have, routes) {
		t.Errorf("want each node to look for %q, have %q", routes, have)
	}
	if p := ports(n.Template); int(p["client"]) != o.Port || int(p["cluster"]) != o.Cluster.Port || int(p["monitor"]) != o.HTTPPort {
		t.Errorf("want the ports of nats.conf, have %v", p)
	}
	if c.Image != natsImage(t) {
		t.Errorf("want the version that these tests run, %s, have %s", natsImage(t), c.Image)
	}
	if env := c.Env[0]; env.Name != "NATS_NAME" || env.ValueFrom.FieldRef.FieldPath != "metadata.name" {
		t.Errorf("want the pod's name to be the node's: KEDA and the routes count on it; have %v", env)
	}
	if c.VolumeMounts[0].MountPath != o.StoreDir {
		t.Errorf("want the volume at %s, have it at %s", o.StoreDir, c.VolumeMounts[0].MountPath)
	}
	if disk := n.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().Value(); o.JetStreamMaxStore <= 0 || o.JetStreamMaxStore >= disk {
		t.Errorf("want a limit below the volume's %d bytes, have %d", disk, o.JetStreamMaxStore)
	}
	soft := resource.MustParse(strings.TrimSuffix(c.Env[1].Value, "B"))
	if c.Env[1].Name != "GOMEMLIMIT" || soft.Cmp(*c.Resources.Limits.Memory()) >= 0 {
		t.Errorf("want a GOMEMLIMIT below the pod's memory, have %v", c.Env[1])
	}
	config := n.Template.Spec.Volumes[0].ConfigMap.Name
	if !slices.ContainsFunc(m.configs, func(m corev1.ConfigMap) bool { return m.Name == config && m.Data["nats.conf"] != "" }) {
		t.Errorf("want the ConfigMap %s with nats.conf", config)
	}
	if s := m.services[slices.IndexFunc(m.services, func(s corev1.Service) bool { return s.Name == n.ServiceName })]; s.Spec.ClusterIP != "None" || !s.Spec.PublishNotReadyAddresses {
		t.Errorf("want a name for each pod before it is ready, have %v", s.Spec)
	}
}

func TestTheScalerScalesTheAppByItsQueue(t *testing.T) {
	m, s := build(t), scaledObject(t)
	if s.Spec.ScaleTargetRef.Name != m.deployment.Name {
		t.Errorf("want it to scale %s, have %s", m.deployment.Name, s.Spec.ScaleTargetRef.Name)
	}
	if s.Spec.MinReplicaCount < *m.deployment.Spec.Replicas || s.Spec.MaxReplicaCount <= s.Spec.MinReplicaCount {
		t.Errorf("want never fewer than the usual %d pods, have %d to %d", *m.deployment.Spec.Replicas, s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount)
	}
	trigger := s.Spec.Triggers[0]
	if have := slices.Sorted(maps.Keys(trigger.Metadata)); trigger.Type != "nats-jetstream" ||
		!slices.Equal(have, []string{"account", "consumer", "lagThreshold", "natsServerMonitoringEndpoint", "stream"}) {
		t.Errorf("want what the nats-jetstream trigger needs, have %s %q", trigger.Type, have)
	}
	if n, err := strconv.Atoi(trigger.Metadata["lagThreshold"]); err != nil || n < 1 {
		t.Errorf("want a number of events for each pod, have %q", trigger.Metadata["lagThreshold"])
	}
	host, port, _ := strings.Cut(trigger.Metadata["natsServerMonitoringEndpoint"], ":")
	if !strings.HasPrefix(host, m.nats.Spec.ServiceName+".") || port != fmt.Sprint(ports(m.nats.Spec.Template)["monitor"]) {
		t.Errorf("want the monitoring port of the queue's service, have %s:%s", host, port)
	}
}
