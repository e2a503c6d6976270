package baseapp_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A part named X is the folder pkg/X or pkg/telemetry/X, the files X*.go in the rooms below, and the lines there that end with
// the comment "part X", each of which can be deleted whole. Nothing else knows it, so a fork that does without it deletes just that.
var (
	rooms = []string{"pkg/base", "pkg/cli", "pkg/pipeline"}
	// parts are those that there are, each with modules that nothing else needs.
	parts = map[string][]string{
		"alert":      {"github.com/getsentry/sentry-go", "github.com/go-telegram/bot"},
		"backup":     nil,
		"chaos":      nil,
		"influx":     {"github.com/influxdata/line-protocol/v2"},
		"otlp":       {"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp", "go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"},
		"prometheus": {"github.com/prometheus/client_golang", "go.opentelemetry.io/otel/exporters/prometheus"},
		"schedule":   {"github.com/robfig/cron/v3"},
		"statsd":     nil,
	}
	// lists are the files that may have marked lines: who removes a part finds them at once.
	lists = []string{"pkg/base/parts.go", "pkg/base/run.go", "pkg/cli/commands.go", "pkg/telemetry/options.go", "pkg/pipeline/measured_internal_test.go", "pkg/base/telemetry_test.go", "pkg/cli/show_test.go"}
)

var marked = regexp.MustCompile(`(?m)^.*// part (\w+)\n`)

func TestMarkedLinesStandInTheLists(t *testing.T) {
	for _, s := range sources(t) {
		for _, m := range marked.FindAllStringSubmatch(string(s.text), -1) {
			if _, known := parts[m[1]]; !known {
				t.Errorf("%s marks a line of the part %s, which is none", s.path, m[1])
			}
			if !slices.Contains(lists, s.path) && s.path != "removal_test.go" {
				t.Errorf("%s has a marked line: %s", s.path, m[0])
			}
		}
	}
}

// Each part by itself is in removal_each_test.go, which compiles for minutes.
func TestAllPartsAreRemovedByTheirFoldersFilesAndMarkedLines(t *testing.T) {
	without(t, slices.Collect(maps.Keys(parts))...)
}

// without builds the rooms without the parts, and their tests: the Go tool compiles them and links nothing. It returns the
// overlay that the Go tool takes.
func without(t *testing.T, names ...string) (overlay string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{} // an empty name: the file is not there
	for _, name := range names {
		for _, folder := range append([]string{"pkg/" + name + "/*.go", "pkg/telemetry/" + name + "/*.go"}, files(rooms, name+"*.go")...) {
			list, err := filepath.Glob(folder)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				replace[f] = ""
			}
		}
	}
	for _, file := range lists {
		text := marked.ReplaceAllStringFunc(read(t, file), func(line string) string {
			if slices.Contains(names, marked.FindStringSubmatch(line)[1]) {
				return ""
			}
			return line
		})
		replace[file] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(replace[file], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"build", "-overlay", overlay}, {"list", "-overlay", overlay, "-test", "-export"}} {
		if out, err := exec.CommandContext(t.Context(), "go", append(args, built(t)...)...).CombinedOutput(); err != nil {
			t.Fatalf("want it built without %v, have %v\n%s", names, err, out)
		}
	}
	return overlay
}

func files(folders []string, pattern string) (list []string) {
	for _, f := range folders {
		list = append(list, path.Join(f, pattern))
	}
	return list
}

// built are the rooms that there are.
func built(t *testing.T) (list []string) {
	t.Helper()
	for _, room := range rooms {
		if _, err := os.Stat(room); err == nil {
			list = append(list, "./"+room)
		}
	}
	if len(list) < 2 {
		t.Fatalf("want the rooms, have %v", list)
	}
	return list
}
