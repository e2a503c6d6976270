package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are what kubectl apply -k would send.
type manifests struct {
	deployment appsv1.Deployment
	nats       appsv1.StatefulSet
	services   []corev1.Service
	configs    []corev1.ConfigMap
	accounts   []corev1.ServiceAccount
	budgets    []policyv1.PodDisruptionBudget
	policies   []networkingv1.NetworkPolicy
}

// scaled is KEDA's ScaledObject as far as keda.yaml uses it, after its source (apis/keda/v1alpha1): its module would
// bring a hundred others.
type scaled struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		PollingInterval int32 `json:"pollingInterval"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct {
						StabilizationWindowSeconds int32 `json:"stabilizationWindowSeconds"`
					} `json:"scaleDown"`
				} `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// decode refuses a field that the type doesn't have, one in the wrong case, and one that stands there twice, as the API
// server does.
func decode(t *testing.T, name string, text []byte, v any) {
	t.Helper()
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	unknown, err := json.UnmarshalStrict(raw, v)
	if err := errors.Join(append(unknown, err)...); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// add decodes one object into a list.
func add[T any](t *testing.T, name string, text []byte, list *[]T) {
	t.Helper()
	var v T
	decode(t, name, text, &v)
	*list = append(*list, v)
}

// build does what kubectl apply -k does before it sends anything.
func build(t *testing.T) manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "docker/k8s"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifests
	for _, r := range built.Resources() {
		name := r.CurId().String()
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetNamespace() != "" {
			t.Errorf("%s is bound to a namespace", name)
		}
		switch kind := r.GetApiVersion() + " " + r.GetKind(); kind {
		case "apps/v1 Deployment":
			decode(t, name, text, &m.deployment)
		case "apps/v1 StatefulSet":
			decode(t, name, text, &m.nats)
		case "v1 Service":
			add(t, name, text, &m.services)
		case "v1 ConfigMap":
			add(t, name, text, &m.configs)
		case "v1 ServiceAccount":
			add(t, name, text, &m.accounts)
		case "policy/v1 PodDisruptionBudget":
			add(t, name, text, &m.budgets)
		case "networking.k8s.io/v1 NetworkPolicy":
			add(t, name, text, &m.policies)
		default:
			t.Errorf("%s: no test knows a %s", name, kind)
		}
	}
	if m.deployment.Name == "" || m.nats.Name == "" || len(m.services) != 2 || len(m.configs) != 2 || len(m.budgets) != 2 || len(m.policies) != 2 || len(m.accounts) != 1 {
		t.Fatalf("want the app, its queue and what belongs to them, have %+v", m)
	}
	return m
}

func scaledObject(t *testing.T) scaled {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker/k8s/keda.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var s scaled
	decode(t, "keda.yaml", text, &s)
	if s.APIVersion != "keda.sh/v1alpha1" || s.Kind != "ScaledObject" || len(s.Spec.Triggers) != 1 {
		t.Fatalf("want one ScaledObject with one trigger, have %+v", s)
	}
	return s
}

// workload is what makes pods.
type workload struct {
	name     string
	replicas int
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func (m *manifests) workloads() []workload {
	return []workload{
		{m.deployment.Name, int(*m.deployment.Spec.Replicas), m.deployment.Spec.Selector, m.deployment.Spec.Template},
		{m.nats.Name, int(*m.nats.Spec.Replicas), m.nats.Spec.Selector, m.nats.Spec.Template},
	}
}

// selected is the one workload whose pods a selector finds.
func (m *manifests) selected(t *testing.T, who string, selector *metav1.LabelSelector) workload {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatalf("%s: %v", who, err)
	}
	var found []workload
	for _, w := range m.workloads() {
		if s.Matches(labels.Set(w.pod.Labels)) {
			found = append(found, w)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: want the pods of one workload, have %d", who, len(found))
	}
	return found[0]
}

// ports are the named ports of a pod.
func ports(pod corev1.PodTemplateSpec) map[string]int32 {
	named := map[string]int32{}
	for _, p := range pod.Spec.Containers[0].Ports {
		named[p.Name] = p.ContainerPort
	}
	return named
}

func probes(w workload) map[string]*corev1.Probe {
	c := w.pod.Spec.Containers[0]
	return map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe}
}

// healthPaths are where the nodes' probes ask: whether all is there and has a quorum, at the start, and whether the node
// itself is alive, later.
func healthPaths(t *testing.T) (quorum string, alive []string) {
	t.Helper()
	m := build(t)
	c := m.nats.Spec.Template.Spec.Containers[0]
	return c.StartupProbe.HTTPGet.Path, []string{c.ReadinessProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path}
}

func TestEveryManifestIsRead(t *testing.T) {
	build(t)
	var secret corev1.Secret
	text, err := os.ReadFile(filepath.Join(root, "docker/k8s/secret.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, "secret.example.yaml", text, &secret)
	secrets := find(t, "docs/settings.md", "^\\| `([A-Z_]+)` \\| a secret \\|")
	for name := range secret.StringData {
		if !slices.Contains(secrets, strings.ToUpper(name)) {
			t.Errorf("the example has %s, which is no secret setting", name)
		}
	}
	m := build(t)
	if v := m.deployment.Spec.Template.Spec.Volumes; !slices.ContainsFunc(v, func(v corev1.Volume) bool {
		return v.Secret != nil && v.Secret.SecretName == secret.Name && *v.Secret.Optional
	}) {
		t.Errorf("want the secret %s mounted, if there is one, have %v", secret.Name, v)
	}
	resources := append(find(t, "docker/k8s/kustomization.yaml", `^resources: \[(.*)\]$`), "kustomization.yaml", "keda.yaml", "secret.example.yaml")
	files, _ := filepath.Glob(filepath.Join(root, "docker/k8s/*.yaml"))
	for _, f := range files {
		if !strings.Contains(strings.Join(resources, ", "), filepath.Base(f)) {
			t.Errorf("nobody reads %s", f)
		}
	}
}

func TestSelectorsFindTheirPodsAndPortsExist(t *testing.T) {
	m := build(t)
	for _, w := range m.workloads() {
		if have := m.selected(t, w.name, w.selector); have.name != w.name {
			t.Errorf("%s finds the pods of %s", w.name, have.name)
		}
		for _, s := range w.pod.Spec.TopologySpreadConstraints {
			if have := m.selected(t, w.name+"'s spread", s.LabelSelector); have.name != w.name {
				t.Errorf("%s spreads away from the pods of %s", w.name, have.name)
			}
		}
		for name, p := range probes(w) {
			if p == nil || ports(w.pod)[p.HTTPGet.Port.String()] == 0 {
				t.Errorf("%s: want a %s probe at a port of the container, have %v", w.name, name, p)
			}
		}
	}
	for _, s := range m.services {
		w := m.selected(t, "service "+s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		for _, p := range s.Spec.Ports {
			if ports(w.pod)[p.TargetPort.String()] == 0 {
				t.Errorf("service %s leads to port %s, which %s doesn't have", s.Name, p.TargetPort.String(), w.name)
			}
		}
	}
	for _, b := range m.budgets {
		w := m.selected(t, "budget "+b.Name, b.Spec.Selector)
		if may := b.Spec.MaxUnavailable.IntValue(); may < 1 || w.name == m.nats.Name && w.replicas-may <= w.replicas/2 {
			t.Errorf("budget %s: %d of %d may be taken away: then no machine can be emptied, or the quorum goes", b.Name, may, w.replicas)
		}
	}
	for _, p := range m.policies {
		w := m.selected(t, "policy "+p.Name, &p.Spec.PodSelector)
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				if ports(w.pod)[port.Port.String()] == 0 {
					t.Errorf("policy %s lets in at %s, which %s doesn't have", p.Name, port.Port.String(), w.name)
				}
			}
			for _, peer := range rule.From {
				if peer.PodSelector != nil {
					m.selected(t, "policy "+p.Name, peer.PodSelector)
				}
			}
		}
	}
}

func TestPodsHaveNoRightsTheyDontNeed(t *testing.T) {
	m := build(t)
	for _, w := range m.workloads() {
		spec := w.pod.Spec
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			t.Errorf("%s gets a token for the cluster's API", w.name)
		}
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s gets service links, which look like settings", w.name)
		}
		if s := spec.SecurityContext; s == nil || !*s.RunAsNonRoot || *s.RunAsUser == 0 || *s.FSGroup != *s.RunAsGroup || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: want a user of its own that may write its volumes, and seccomp, have %+v", w.name, s)
		}
		if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
			t.Fatalf("%s: want one container, have %d", w.name, len(spec.Containers))
		}
		c := spec.Containers[0]
		if s := c.SecurityContext; s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: want a read-only file system and no capability, have %+v", w.name, s)
		}
		limits, requests := c.Resources.Limits, c.Resources.Requests
		if limits.Memory().IsZero() || requests.Memory().IsZero() || requests.Cpu().IsZero() || !limits.Cpu().IsZero() {
			t.Errorf("%s: want a limit of memory and none of the processor, have %v", w.name, c.Resources)
		}
		volumes := map[string]bool{} // and whether they are mounted
		for _, v := range spec.Volumes {
			volumes[v.Name] = false
			if e := v.EmptyDir; e != nil && (e.SizeLimit == nil || e.Medium == "" && e.SizeLimit.Cmp(*limits.StorageEphemeral()) >= 0 || e.SizeLimit.Cmp(*limits.Memory()) >= 0) {
				t.Errorf("%s: the volume %s may take all that the pod has", w.name, v.Name)
			}
		}
		if w.name == m.nats.Name {
			volumes[m.nats.Spec.VolumeClaimTemplates[0].Name] = false
		}
		for _, v := range c.VolumeMounts {
			if _, ok := volumes[v.Name]; !ok {
				t.Errorf("%s mounts %s, which is no volume of the pod", w.name, v.Name)
			}
			volumes[v.Name] = true
		}
		for name, mounted := range volumes {
			if !mounted {
				t.Errorf("%s doesn't mount %s", w.name, name)
			}
		}
	}
}
