// Package baseapp_test holds the rules of the house as tests: what docs/architecture.md says about the shape of the code
// is true of the code. They judge the template's own files: what a fork adds is the fork's business.
package baseapp_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
)

// floors says who may import whom: only packages of a lower floor. Packages of floor 0 import none of ours.
var floors = map[string]int{
	"pkg/worker": 0, "pkg/stack": 0, "pkg/completion": 0, "pkg/text": 0, "pkg/warnlimit": 0, "internal/faultserver": 0, "internal/testlog": 0,
	"pkg/fault": 1, "docker/listener": 1,
	"pkg/outbox": 1, // pkg/logging sends to syslog through it
	"pkg/config": 2, "pkg/logging": 2, "pkg/zmq": 2, "pkg/event": 2, "pkg/dependency": 2,
	"pkg/lifecycle": 3, "pkg/nanny": 3,
	"pkg/web": 3, "pkg/telemetry/export": 3,
	"pkg/queue": 4, "pkg/chaos": 4,
	"pkg/telemetry/prometheus": 4, "pkg/telemetry/otlp": 4, "pkg/telemetry/statsd": 4, "pkg/telemetry/influx": 4,
	"pkg/control":   5, // it serves through pkg/web
	"pkg/heartbeat": 5,
	"pkg/telemetry": 5, // it asks pkg/web how a request was answered
	"pkg/backup":    5,
	"pkg/schedule":  5,
	"pkg/alert":     5, // it calls through pkg/web
	"pkg/base":      6,
	"pkg/cli":       7,
	"pkg/pipeline":  7,
	"app":           8, "internal/testapp": 8, "docker/e2e/stubborn": 8, "cmd/monitor": 8, "examples/naughty": 8,
	"examples/demo": 8, "examples/demo/service1": 8, "examples/demo/service2": 8, "examples/demo/load": 8,
	"internal/forktest": 8,
}

// module returns the path of the module with a slash, and whether it is the template's own: then this is no fork.
func module(t *testing.T) (prefix string, template bool) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^module (\S+)$`).FindStringSubmatch(read(t, "go.mod"))
	if m == nil {
		t.Fatal("go.mod has no line with the module's path")
	}
	return m[1] + "/", m[1] == "example.com"+"/base-app" // in two parts, so that a fork's new path doesn't replace it
}

// judged returns whether the rules are for the Go files in dir. A fork's own are those under app/ and, if they are not on
// the list of floors, all others. In the template a package under pkg/, cmd/ or docker/ is judged even if it is not on
// the list, so that none is forgotten.
func judged(dir string, template bool) bool {
	top, _, _ := strings.Cut(dir, "/")
	if !template && top == "app" {
		return false
	}
	_, listed := floors[dir]
	return listed || template && slices.Contains([]string{".", "pkg", "cmd", "docker"}, top)
}

// source is one Go file, parsed.
type source struct {
	path string // slash-separated, from the root
	dir  string
	test bool
	file *ast.File
	text []byte
	set  *token.FileSet
}

// sources returns the files that the rules judge.
func sources(t *testing.T) []source {
	t.Helper()
	_, template := module(t)
	return slices.DeleteFunc(allSources(t), func(s source) bool { return !judged(s.dir, template) })
}

// allSources returns all Go files, also a fork's own and those of modules inside of this one.
func allSources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		list = append(list, source{filepath.ToSlash(p), path.Dir(filepath.ToSlash(p)), strings.HasSuffix(p, "_test.go"), file, text, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 20 {
		t.Fatalf("want the sources of the whole project, have %d files", len(list))
	}
	return list
}

func TestImportsGoDown(t *testing.T) {
	prefix, _ := module(t)
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		own, known := floors[s.dir]
		if !known {
			t.Errorf("%s: the package has no floor; give it one here and in docs/architecture.md", s.path)
			continue
		}
		for _, i := range s.file.Imports {
			name, _ := strconv.Unquote(i.Path.Value)
			target, ours := strings.CutPrefix(name, prefix)
			if !ours || target == s.dir {
				continue
			}
			if floor, ok := floors[target]; !ok || floor >= own {
				t.Errorf("%s imports %s, which is not below it", s.path, target)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if _, seen := documented[s.dir]; !seen {
			documented[s.dir] = false
		}
		if d := s.file.Doc; d != nil && len(d.Text()) > 80 {
			documented[s.dir] = true
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment that says what it is", dir)
		}
	}
}

// forbidden are calls that only few places may make.
var forbidden = []struct {
	call    string
	allowed func(source) bool
	why     string
}{
	{"os.Exit", func(s source) bool { return s.test || path.Base(s.path) == "main.go" }, "only main exits: everything else returns an error"},
	{"log.Fatal", func(source) bool { return false }, "only main exits, and deferred calls must run"},
	{"log.Fatalf", func(source) bool { return false }, "only main exits, and deferred calls must run"},
	{"time.Sleep", func(s source) bool { return s.test }, "a wait ends with its context"},
}

func TestForbiddenCalls(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, f := range forbidden {
				if f.call == pkg.Name+"."+sel.Sel.Name && !f.allowed(s) {
					t.Errorf("%s: %s: %s", s.set.Position(n.Pos()), f.call, f.why)
				}
			}
			return true
		})
	}
}

func TestNoInitAndNoLongFiles(t *testing.T) {
	const longest = 500 // lines: a file that needs scrolling to be understood is two files
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !s.test {
				t.Errorf("%s: init runs before main has taken over the signals", s.path)
			}
		}
		if n := bytes.Count(s.text, []byte("\n")); n > longest {
			t.Errorf("%s has %d lines, want at most %d", s.path, n, longest)
		}
	}
}

// What the table in pkg/fault decides is what docs/failures.md tells people.
func TestTheTableOfKindsIsInTheDocs(t *testing.T) {
	page := read(t, "docs/failures.md")
	for _, r := range fault.Rules() {
		row := fmt.Sprintf("| %s | %s | %s | %s | %d |", r.Name, r.Meaning, r.Level, yes(r.Report), r.Exit)
		if !strings.Contains(page, row) {
			t.Errorf("docs/failures.md lacks the row\n%s", row)
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// What a fork depends on beside is its own business.
func TestEachDependencyIsExplained(t *testing.T) {
	if _, template := module(t); !template {
		return
	}
	page := read(t, "docs/dependencies.md")
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read(t, "go.mod"), -1)
	if len(direct) < 5 {
		t.Fatalf("want the direct requirements of go.mod, have %q", direct)
	}
	for _, m := range direct {
		if !strings.Contains(page, "| "+m[1]+" |") {
			t.Errorf("docs/dependencies.md has no row for %s: what for, why this one, what it costs", m[1])
		}
	}
}

// templatePages are the pages in docs that a fork got from the template. Others are the fork's own, as is README.md.
var templatePages = []string{"alerts", "architecture", "calls", "chaos", "cluster", "container", "demo", "dependencies", "edge",
	"failures", "http", "jobs", "metrics", "monitor", "observability", "operations", "performance", "queue", "runbooks", "settings"}

// scriptFolders are where the scripts of tests may be. The one under app/ is a fork's own.
var scriptFolders = []string{"internal/testapp/testdata/script", "app/testdata/script"}

// A test that a failure is linked to must exist, and so must every file that a page points to.
func TestTheDocsPointToWhatExists(t *testing.T) {
	_, template := module(t)
	tests := map[string]bool{}
	for _, s := range allSources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(pages, "README.md") {
		name := strings.TrimSuffix(filepath.Base(p), ".md")
		if !template && !slices.Contains(templatePages, name) {
			continue
		}
		text := read(t, p)
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names the test %s, which is not there", p, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`([a-z0-9-]+\\.txtar)`").FindAllStringSubmatch(text, -1) {
			if !slices.ContainsFunc(scriptFolders, func(dir string) bool { return exists(filepath.Join(dir, m[1])) }) {
				t.Errorf("%s names the script %s, which is not there", p, m[1])
			}
		}
	}
	var scripts []string
	for _, dir := range scriptFolders {
		if list, _ := filepath.Glob(dir + "/*.txtar"); template || !strings.HasPrefix(dir, "app/") {
			scripts = append(scripts, list...)
		}
	}
	failures := read(t, "docs/failures.md")
	for _, s := range scripts {
		if name := filepath.Base(s); !slices.Contains([]string{"command.txtar", "events.txtar", "mistakes.txtar"}, name) && !strings.Contains(failures, "`"+name+"`") {
			t.Errorf("docs/failures.md doesn't name %s: which failure does it prove?", name)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
