//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestComposeTakesTheFileAndEachOverlay(t *testing.T) {
	overlays, err := filepath.Glob(filepath.Join(root, "docker/compose.*.yml"))
	if err != nil || len(overlays) < 4 {
		t.Fatalf("want the overlays, have %q, %v", overlays, err)
	}
	base := newStack(t, "")
	base.docker("compose", "config", "-q")
	for _, o := range overlays {
		t.Run(filepath.Base(o), func(t *testing.T) {
			s := newStack(t, "", "SECRETS_DIR="+t.TempDir())
			s.files = append(s.files, o)
			s.docker("compose", "config", "-q")
		})
	}
}

func TestEverySettingOfTheExampleIsTaken(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(root, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	env := regexp.MustCompile(`(?m)^#([A-Z_]+=)`).ReplaceAllString(string(example), "$1")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(env), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, "services:\n  app:\n    environment:\n      WAIT_FOR: ''\n") // its database exists nowhere
	s.dir = dir
	s.up()
	if have := s.inspect("{{.Config.Hostname}} {{.HostConfig.Memory}}"); have != "my-server 536870912" {
		t.Errorf("want the example's host name and memory, have %s", have)
	}
	s.process("set")
	for line := range strings.Lines(s.logs()) {
		if strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, "the monitor itself was held up") {
			t.Errorf("want no warning, unless of a slow machine, have %s", line)
		}
	}
}

func TestItRunsWithoutComposeAndWithoutANetwork(t *testing.T) {
	s := newStack(t, "")
	id := s.docker("run", "-d", "--network", "none", image)
	t.Cleanup(func() { _, _ = s.try("rm", "-f", "-v", id) })
	healthy := func() bool { return s.docker("inspect", "-f", "{{.State.Health.Status}}", id) == "healthy" }
	s.until("healthy", healthy)
	// What a crash leaves in /run, which is no tmpfs here, is not in the way of the next start.
	_, _ = s.try("exec", id, "sh", "-c", "kill -9 $(cat /run/supervisord.pid)") // the container may be gone before the shell has ended
	s.until("the container is down, with the code of a kill", func() bool {
		return s.docker("inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", id) == "false 137"
	})
	s.docker("start", id)
	s.until("healthy again", healthy)
}
