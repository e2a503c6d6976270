package baseapp_test

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// notYet are the folders that are still to be brought under the rules of this file. It shall become empty.
var notYet = []string{}

// structTag is in a line that can't be broken: gofmt keeps a field and its tag on one line.
var structTag = regexp.MustCompile("`[a-z]+:\"")

func TestLinesFit(t *testing.T) {
	const longest = 140 // characters: two files side by side on a usual screen
	folders := []string{"pkg", "cmd", "docker", "examples", "internal"}
	for _, s := range sources(t) {
		top, _, _ := strings.Cut(s.dir, "/")
		if s.test || !slices.Contains(folders, top) || slices.Contains(notYet, s.dir) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(s.text)) {
			n++
			if have := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); have > longest && !structTag.MatchString(line) {
				t.Errorf("%s:%d has %d characters, want at most %d", s.path, n, have, longest)
			}
		}
	}
}

// vague are words that don't tell what a function returns or does: report, log, retry, deliver, record, pop or acquire do.
var vague = []string{"tell", "tells", "told", "say", "says", "said", "hear", "hears", "heard", "note", "notes", "noted",
	"take", "takes", "taken", "taker", "takers", "settle", "settles", "settled"}

// In pkg/queue settle and take are the words of the protocol, and in the files of pkg/alert that make Sentry's events
// they are the SDK's.
func TestFunctionsAreNamedForWhatTheyDo(t *testing.T) {
	const most = 5
	var have []string
	for _, s := range sources(t) {
		if s.test || s.dir == "pkg/queue" || s.dir == "pkg/alert" && imports(s, "github.com/getsentry/sentry-go") || slices.Contains(notYet, s.dir) {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && slices.Contains(vague, firstWord(f.Name.Name)) {
				have = append(have, path.Base(s.dir)+"."+f.Name.Name)
			}
		}
	}
	if len(have) > most {
		t.Errorf("name these for what they return or do, all but %d of them: %s", most, strings.Join(have, ", "))
	}
}

func imports(s source, name string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+name+`"` })
}

// firstWord returns the first word of a name, in lower case: "tell" of TellLast.
func firstWord(name string) string {
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			return strings.ToLower(name[:i])
		}
	}
	return strings.ToLower(name)
}

// What a fork adds is not judged; what the template has is.
func TestTheRulesAreForTheTemplatesFiles(t *testing.T) {
	for _, c := range []struct {
		dir            string
		template, fork bool
	}{
		{"pkg/web", true, true},
		{"cmd/monitor", true, true},
		{"internal/faultserver", true, true},
		{"examples/naughty", true, true},
		{"pkg/new", true, false},
		{"cmd/new", true, false},
		{"docker/new", true, false},
		{"internal/new", false, false},
		{"examples/new", false, false},
		{"lib", false, false},
		{"app", true, false},
		{"app/orders", false, false},
		{".", true, false},
	} {
		if have := judged(c.dir, true); have != c.template {
			t.Errorf("%s in the template: want %v, have %v", c.dir, c.template, have)
		}
		if have := judged(c.dir, false); have != c.fork {
			t.Errorf("%s in a fork: want %v, have %v", c.dir, c.fork, have)
		}
	}
}
