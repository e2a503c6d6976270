// Package cluster_test proves, without Docker and without a Kubernetes, that the files for more than one machine are
// good: compose's own loader reads the overlays, a real NATS server runs as three nodes on the configuration, kustomize
// builds the manifests, and Kubernetes' own types decode them with no field unknown. What two files both say, they say
// alike. It does not pull images, and it does not run the app: pkg/queue has the tests with a cluster under load.
package cluster_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const root = "../.."

// find returns the first group of every match in a file, and fails where there is none.
func find(t *testing.T, name, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has nothing like %s", name, pattern)
	}
	return all
}

// natsImage is the image of the server that these tests run.
func natsImage(t *testing.T) string {
	t.Helper()
	return "nats:" + find(t, "docker/cluster/go.mod", `^\tgithub.com/nats-io/nats-server/v2 v(\S+)$`)[0] + "-alpine"
}

// settingsExist fails for each name that the app doesn't know.
func settingsExist(t *testing.T, where string, names []string) {
	t.Helper()
	known := find(t, "docs/settings.md", "^\\| `([A-Z_]+)` ")
	for _, n := range names {
		if !slices.Contains(known, n) {
			t.Errorf("%s sets %s, which docs/settings.md doesn't have: the app refuses it, or doesn't care", where, n)
		}
	}
}

// hosts are the host:port of a QUEUE_URL.
func hosts(t *testing.T, url string) []string {
	t.Helper()
	list, ok := strings.CutPrefix(url, "nats://")
	if !ok {
		t.Errorf("want a QUEUE_URL that begins with nats://, have %q", url)
	}
	return strings.Split(list, ",")
}
