package baseapp_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// removals are the parts that a fork can do without: a folder, a file of wiring, and the lines that are named here.
var removals = []struct {
	folder, wiring string
	lines          map[string][]string // by file, in the order in which they stand there
}{
	{"pkg/backup", "pkg/base/backup.go", map[string][]string{
		"pkg/base/base.go": {
			"\tBackup     backupCommands `cmd:\"\" help:\"Back up the queue, prove that a backup can be restored, restore it.\"`\n",
			"\tif rest, ok := strings.CutPrefix(command, \"backup \"); ok {\n\t\treturn p.fail(p.backup(rest, &c.Backup))\n\t}\n"},
		"pkg/base/operate.go": {"\ts.Handle(\"POST /backup\", http.HandlerFunc(rt.serveBackup))\n"},
	}},
	{"pkg/schedule", "pkg/base/schedule.go", map[string][]string{
		"pkg/base/base.go":      {"\trt.openSchedule()\n"},
		"pkg/base/runtime.go":   {"\t\"example.com/base-app/pkg/schedule\"\n", "\tjobs    *schedule.Scheduler\n", "\trt.jobs = rt.newSchedule()\n"},
		"pkg/base/ctl.go":       {"\tJobs         struct{} `cmd:\"\" help:\"Each job: when it runs, how its last run ended, when the next one is.\"`\n", "\tcase \"ctl jobs\":\n\t\treturn get(ctx, p, client, c.Ctl.JSON, \"/jobs\", printJobs)\n"},
		"pkg/base/operate.go":   {"\tanswer(\"GET /jobs\", func(*http.Request) (any, error) { return rt.jobs.List(), nil })\n", "\t\t{Name: \"jobs\", Items: func(all []stack.Goroutine) []lifecycle.Item { return jobItems(rt.jobs.List(), all) }},\n"},
		"pkg/base/telemetry.go": {"\tmeasureJobs(rt.jobs.List(), put)\n"},
		"pkg/base/chaos.go":     {", scheduleWorker"},
		"pkg/base/alert.go": {"\t\"example.com/base-app/pkg/schedule\"\n",
			"\tif rt.alerts.Pinged() {\n\t\trt.Schedule(schedule.Job{Name: \"nanny-report\", Spec: pingEvery, Timeout: pingTime, Do: func(ctx context.Context, _ *slog.Logger) error { return rt.pingWorkers(ctx) }})\n\t}\n"},
	}},
}

// What docs/architecture.md says about taking a part out is true: the runtime builds without it.
func TestAPartIsRemovedByItsFolderItsFileAndAFewLines(t *testing.T) {
	for _, r := range removals {
		t.Run(r.folder, func(t *testing.T) {
			dir := t.TempDir()
			replace := map[string]string{r.wiring: ""} // an empty name: the file is not there
			files, err := filepath.Glob(r.folder + "/*.go")
			if err != nil || len(files) == 0 {
				t.Fatalf("want the files of %s, have %q, %v", r.folder, files, err)
			}
			for _, f := range files {
				replace[f] = ""
			}
			for _, file := range slices.Sorted(maps.Keys(r.lines)) {
				text := read(t, file)
				for _, line := range r.lines[file] {
					if strings.Count(text, line) != 1 {
						t.Errorf("want once in %s, have %d times:\n%s", file, strings.Count(text, line), line)
					}
					text = strings.Replace(text, line, "", 1)
				}
				replace[file] = filepath.Join(dir, filepath.Base(file))
				if err := os.WriteFile(replace[file], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(list, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			// Two packages: the Go tool compiles them and links nothing.
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "./pkg/base").CombinedOutput(); err != nil {
				t.Errorf("want it built without %s, have %v\n%s", r.folder, err, out)
			}
		})
	}
}
