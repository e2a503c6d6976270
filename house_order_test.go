package baseapp_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"slices"
	"testing"
)

// baseOrder is pkg/base from bottom to top: a file refers to its own names and to those of the files before it. What wires
// everything together becomes a drawer otherwise, in which nothing can be understood alone.
var baseOrder = []string{
	"build.go", "parts.go", "settings.go", "faults.go",
	"runtime.go", "register.go", "depend.go", "health.go", "webserver.go", "dump.go", "heartbeat.go",
	"commands.go", "start.go", "queue.go", "telemetry.go", "prometheus.go",
	"chaos.go", "backup.go", "schedule.go", "alert.go",
	"run.go",
}

// maxBase is how many lines pkg/base may have: what grows beyond belongs to who owns the state, or to a fork.
const maxBase = 1900

func TestTheFilesOfTheRuntimeReferDownwards(t *testing.T) {
	var list []*ast.File
	at := map[*token.File]int{}
	lines, set := 0, token.NewFileSet()
	for _, s := range sources(t) {
		if s.dir != "pkg/base" || s.test {
			continue
		}
		file, err := parser.ParseFile(set, s.path, s.text, 0)
		if err != nil {
			t.Fatal(err)
		}
		place := slices.Index(baseOrder, path.Base(s.path))
		if place < 0 {
			t.Errorf("%s has no place in baseOrder", s.path)
			continue
		}
		at[set.File(file.Pos())] = place
		lines += bytes.Count(s.text, []byte("\n"))
		list = append(list, file)
	}
	if _, template := module(t); template && len(list) != len(baseOrder) { // a fork may have taken out a part
		t.Errorf("want %d files, have %d", len(baseOrder), len(list))
	}
	if lines > maxBase {
		t.Errorf("pkg/base has %d lines, want at most %d", lines, maxBase)
	}
	for id, object := range uses(set, list) {
		to, from := at[set.File(object.Pos())], at[set.File(id.Pos())]
		if to > from {
			t.Errorf("%s refers upwards, to %s in %s", set.Position(id.Pos()), id.Name, baseOrder[to])
		}
	}
}

// uses are the references to what the files declare, fields and methods included. Other packages are not looked at: what
// comes from them is of no type, and not among the answers.
func uses(set *token.FileSet, list []*ast.File) map[*ast.Ident]types.Object {
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	c := types.Config{Importer: nothing{}, Error: func(error) {}}
	own, _ := c.Check("base", set, list, &info)
	for id, object := range info.Uses {
		if object.Pkg() != own || object.Pos() == token.NoPos {
			delete(info.Uses, id)
		}
	}
	return info.Uses
}

// nothing imports no package.
type nothing struct{}

func (nothing) Import(string) (*types.Package, error) { return nil, errors.New("not looked at") }
