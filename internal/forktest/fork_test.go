//go:build fork

// Package forktest makes a fork of the template, as docs/fork.md says it, with ten ordinary changes, and shows that it
// builds, is formatted, and passes the template's own tests. It compiles and tests everything once more, so it is behind a
// build tag: make fork-test.
package forktest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const (
	root     = "../.."
	template = "example.com/base-app"
	fork     = "github.com/acme/orders"
)

func TestAForkWithTenOrdinaryChangesPasses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "orders")
	copyTemplate(t, dir)
	changes, err := txtar.ParseFile("testdata/ten.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range changes.Files {
		write(t, filepath.Join(dir, f.Name), f.Data, 0o644)
	}
	sh(t, dir, "go", "get", "github.com/rs/xid@v1.6.0", "github.com/jackc/pgx/v5@v5.12.0")
	sh(t, dir, "go", "mod", "tidy")
	sh(t, dir, "gofmt", "-w", ".") // another module path sorts the imports in another order
	sh(t, dir, "git", "init", "-q")
	sh(t, dir, "git", "add", "-A")
	sh(t, dir, "go", "build", "./...")
	sh(t, dir, "go", "vet", "./...")
	if out := sh(t, dir, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted:\n%s", out)
	}
	sh(t, dir, "go", "test", "./...")
}

// copyTemplate copies what is in the repository, under the fork's module path.
func copyTemplate(t *testing.T, dir string) {
	t.Helper()
	for name := range strings.SplitSeq(strings.TrimRight(sh(t, root, "git", "ls-files", "-z"), "\x00"), "\x00") {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		if os.IsNotExist(err) {
			continue // removed, and that is not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), bytes.ReplaceAll(text, []byte(template), []byte(fork)), info.Mode().Perm())
	}
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

// sh runs a command and returns what it prints.
func sh(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
