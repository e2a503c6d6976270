package telemetry

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// An exporter is its folder and the lines in options.go that end with its name: what is left without them builds. The tests of
// the whole use all four; those of one exporter are in its folder and in the file with its name.
func TestEachExporterCanBeRemoved(t *testing.T) {
	for _, part := range []string{"prometheus", "otlp", "statsd", "influx"} {
		t.Run(part, func(t *testing.T) {
			folder, err := filepath.Glob(part + "/*.go")
			if err != nil || len(folder) == 0 {
				t.Fatalf("want its folder, have %v", err)
			}
			replace := map[string]string{} // an empty name: the file is not there
			for _, name := range folder {
				replace[absolute(t, name)] = ""
			}
			all, err := os.ReadFile("options.go")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			left := filepath.Join(dir, "options.go")
			marked := regexp.MustCompile(`(?m)^.*// part ` + part + `\n`)
			if err := os.WriteFile(left, marked.ReplaceAll(all, nil), 0o600); err != nil {
				t.Fatal(err)
			}
			replace[absolute(t, "options.go")] = left
			text, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(overlay, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, ".").CombinedOutput(); err != nil {
				t.Errorf("want it built without %s, have %v\n%s", part, err, out)
			}
		})
	}
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
