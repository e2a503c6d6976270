package observability_test

import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
)

// What Prometheus' own tools say: the configuration and the rules are good, and each alert fires when it should and else not.
func TestPrometheusOwnToolsAcceptTheFiles(t *testing.T) {
	for _, c := range [][]string{
		{"promtool", "check", "config", "prometheus/prometheus.yml"},
		{"promtool", "test", "rules", "prometheus/slo.test.yml", "prometheus/alerts.test.yml"},
		{"amtool", "check-config", "alertmanager/alertmanager.yml"},
	} {
		t.Run(strings.Join(c[:2], " "), func(t *testing.T) {
			t.Parallel()
			if out, err := exec.CommandContext(t.Context(), installed(t, c[0]), c[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestTheRulesNameOnlyWhatTheAppExports(t *testing.T) {
	for _, r := range rules(t) {
		examine(t, r.Record+r.Alert, r.Expr)
	}
}

func TestEachAlertSaysHowBadItIsWhatItMeansAndWhatToDo(t *testing.T) {
	const page = "docs/runbooks.md"
	parts := find(t, filepath.Join(root, page), `^## (\w+)$`)
	var names []string
	for _, a := range alerts(t) {
		if slices.Contains(names, a.Alert) {
			t.Errorf("two alerts are called %s", a.Alert)
		}
		names = append(names, a.Alert)
		if !slices.Contains([]string{"page", "ticket", "none"}, a.Labels["severity"]) {
			t.Errorf("%s: want a severity that Alertmanager knows, have %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s doesn't say what it means", a.Alert)
		}
		// GitHub and GitLab make the anchor of a heading of its letters in lower case.
		if file, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#"); !strings.HasSuffix(file, "/"+page) || anchor != strings.ToLower(a.Alert) {
			t.Errorf("%s: want its part of %s, have %q", a.Alert, page, a.Annotations["runbook_url"])
		}
	}
	slices.Sort(names)
	if have := slices.Sorted(slices.Values(parts)); !slices.Equal(have, names) {
		t.Errorf("want a part of %s for each alert and no other\nhave %q\nwant %q", page, have, names)
	}
}

// runbooks returns the expressions of docs/runbooks.md.
func runbooks(t *testing.T) (list []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(read(t, filepath.Join(root, "docs/runbooks.md")), -1) {
		for line := range strings.Lines(m[1]) {
			if expr, _, _ := strings.Cut(line, "#"); strings.TrimSpace(expr) != "" {
				list = append(list, strings.TrimSpace(expr))
			}
		}
	}
	if len(list) < 40 {
		t.Fatalf("want the expressions of docs/runbooks.md, have %q", list)
	}
	return list
}

// They are read by people in a hurry: they work as they stand.
func TestTheRunbooksExpressionsNameOnlyWhatTheAppExports(t *testing.T) {
	for _, expr := range runbooks(t) {
		examine(t, "docs/runbooks.md", expr)
	}
}

func TestEachExitCodeHasItsLineInTheRunbooks(t *testing.T) {
	codes := find(t, filepath.Join(root, "docs/runbooks.md"), `^\| (\d+) \| .* \|$`)
	for _, r := range fault.Rules() {
		if !slices.Contains(codes, strconv.Itoa(r.Exit)) {
			t.Errorf("docs/runbooks.md doesn't say what to do about exit code %d (%s)", r.Exit, r.Name)
		}
	}
}

// With --help a command does nothing, but a wrong name or flag is refused.
func TestTheRunbooksCommandsExist(t *testing.T) {
	list := regexp.MustCompile(`(?m)^(app [^#|\n]+)`).FindAllString(read(t, filepath.Join(root, "docs/runbooks.md")), -1)
	if len(list) < 20 {
		t.Fatalf("want the commands of docs/runbooks.md, have %q", list)
	}
	slices.Sort(list)
	for _, line := range slices.Compact(list) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line+" --help")
		cmd.Env = []string{"PATH=" + programs(t)}
		cmd.Path = "/bin/sh"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

// unitTest is a file for promtool test rules, as far as this test reads it.
type unitTest struct {
	RuleFiles []string `yaml:"rule_files"`
	Interval  string   `yaml:"evaluation_interval"`
	Tests     []struct {
		Interval string
		Series   []struct{ Series, Values string } `yaml:"input_series"`
		Exprs    []struct {
			Expr string
			At   string `yaml:"eval_time"`
			Want []struct {
				Labels string
				Value  float64
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

func TestEachAlertIsTestedFiringAndSilent(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{"Watchdog": true} // it is never silent
	alert := regexp.MustCompile(`ALERTS\{alertname="(\w+)"`)
	for _, name := range []string{"prometheus/slo.test.yml", "prometheus/alerts.test.yml"} {
		var file unitTest
		decode(t, name, &file)
		for _, one := range file.Tests {
			for _, e := range one.Exprs {
				m := alert.FindStringSubmatch(e.Expr)
				if m == nil {
					continue
				}
				// A series that is called good, and does not fire beside one that does, counts, too.
				beside := slices.ContainsFunc(one.Series, func(s struct{ Series, Values string }) bool { return strings.Contains(s.Series, `"good"`) })
				fires[m[1]] = fires[m[1]] || len(e.Want) > 0
				silent[m[1]] = silent[m[1]] || len(e.Want) == 0 || beside
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: tested firing: %v, silent: %v", a.Alert, fires[a.Alert], silent[a.Alert])
		}
	}
}

// The collector takes minutes to compile, so it does not run here, but make collector runs it.
func TestTheCollectorsConfigurationIsTheOneThatWasRun(t *testing.T) {
	have := fmt.Sprintf("%x  collector.yml\n", sha256.Sum256([]byte(read(t, "collector/collector.yml"))))
	if want := read(t, "collector/collector.sum"); have != want {
		t.Errorf("collector.yml has changed: make collector runs it, and notes that it did in collector.sum\nhave %swant %s", have, want)
	}
}
