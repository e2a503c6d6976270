package completion_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/base-app/pkg/completion"
	"github.com/alecthomas/kong"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// grammar is a program with all that a command line of ours has.
type grammar struct {
	Address string `short:"c" help:"Where it's."`
	JSON    bool   `name:"json" help:"Print JSON."`
	Secret  string `hidden:""`

	Run struct {
		Every    string `short:"t" help:"How often."`
		SelfTest bool   `default:"true" negatable:"" help:"Look at itself."`
	} `cmd:"" default:"withargs" help:"Run."`
	Ctl struct {
		Level string `enum:"debug,info" default:"info" help:"How much."`
		Chaos struct {
			Start struct {
				Scope string `arg:""`
				Kind  string `arg:"" enum:"latency,error"`
				For   string
			} `cmd:"" help:"It begins."`
			Stop struct{} `cmd:""`
		} `cmd:""`
		Status struct{} `cmd:"" help:"How it's."`
	} `cmd:""`
	Unseen struct{} `cmd:"" hidden:""`
}

func model(t testing.TB) *kong.Application {
	t.Helper()
	k, err := kong.New(&grammar{}, kong.Name("some-app"))
	if err != nil {
		t.Fatal(err)
	}
	return k.Model
}

func script(t testing.TB, shell string) string {
	t.Helper()
	var b bytes.Buffer
	if err := completion.Write(&b, shell, model(t)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// lines are command lines up to the cursor, and what may follow. Bash splits a word at =, so it stands alone here.
var lines = []struct {
	words string // the last one is completed; it may be empty
	want  string
}{
	{"", "run ctl"},
	{"c", "ctl"},
	{"--j", "--json"},
	{"--no", "--no-self-test"}, // of the default command
	{"-", "--help -h --address -c --json --every -t --self-test --no-self-test"},
	{"--address ctl ", "run ctl"}, // what a flag takes is no command
	{"-c ctl ctl ", "chaos status"},
	{"ctl ", "chaos status"},
	{"ctl --level ", "debug info"},
	{"ctl --level d", "debug"},
	{"ctl --json chaos s", "start stop"},
	{"ctl chaos --lev", "--level"},
	{"ctl chaos start anything ", "latency error"},
	{"ctl chaos start --for 1m anything e", "error"},
	{"ctl chaos start anything error ", ""},
	{"ctl chaos start --for ", ""},
	{"ctl nonsense ", ""},
	{"-- ctl ", ""},
}

// Bash is on every machine; the others are where somebody uses them.
func TestBashCompletes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script(t, "bash")), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := `source "$1"; shift; COMP_WORDS=(some-app "$@"); COMP_CWORD=$#; _some_app_complete; echo "${COMPREPLY[@]}"`
	for _, l := range append(lines, struct{ words, want string }{"ctl --level = d", "debug"}, struct{ words, want string }{"ctl --level = debug s", "status"}) {
		out, err := exec.Command("bash", append([]string{"--norc", "-uc", ask, "bash", path}, strings.Split(l.words, " ")...)...).CombinedOutput()
		if have := strings.TrimSpace(string(out)); err != nil || have != l.want {
			t.Errorf("%q: want %q, have %q, %v", l.words, l.want, have, err)
		}
	}
}

func TestZshCompletes(t *testing.T) {
	zsh := shell(t, "zsh")
	// What zsh's own reader of such scripts does: https://zsh.sourceforge.io/Doc/Release/Completion-System.html
	ask := `autoload -U +X bashcompinit && bashcompinit; compdef() { }; source "$1"; shift
		run() { emulate -L sh; setopt kshglob noshglob braceexpand; COMP_WORDS=(some-app "$@"); COMP_CWORD=$#; _some_app_complete; echo "${COMPREPLY[@]}"; }
		run "$@"`
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script(t, "zsh")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		words := strings.Split(l.words, " ")
		out, err := exec.Command(zsh, append([]string{"-fc", ask, "zsh", path}, words...)...).CombinedOutput()
		offered := slices.DeleteFunc(strings.Fields(string(out)), func(w string) bool { return !strings.HasPrefix(w, words[len(words)-1]) }) // zsh does that later
		if have := strings.Join(offered, " "); err != nil || have != l.want {
			t.Errorf("%q: want %q, have %q, %v", l.words, l.want, have, err)
		}
	}
}

func TestFishCompletes(t *testing.T) {
	fish := shell(t, "fish")
	dir := t.TempDir()
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte(script(t, "fish")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if strings.HasSuffix(l.words, "-- ctl ") || strings.HasSuffix(l.words, "--for ") || l.words == "-" {
			continue // files; and fish shows either form of a flag
		}
		cmd := exec.Command(fish, "--no-config", "-c", `source $argv[1]; complete -C "some-app $argv[2]"`, path, l.words)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		out, err := cmd.CombinedOutput()
		var have []string
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			have = append(have, word)
		}
		want := strings.Fields(l.want)
		slices.Sort(have)
		slices.Sort(want)
		if err != nil || !slices.Equal(have, want) {
			t.Errorf("%q: want %q, have %q, %v", l.words, want, have, err)
		}
	}
}

// shell returns the path of one that not every machine has.
func shell(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed: its script was not tried")
	}
	return path
}

func TestWhatIsHiddenStaysSo(t *testing.T) {
	for shell := range strings.SplitSeq(completion.Shells, ",") {
		if text := script(t, shell); strings.Contains(text, "unseen") || strings.Contains(text, "secret") {
			t.Errorf("%s: want nothing hidden in\n%s", shell, text)
		}
	}
}

func TestAnUnknownShellIsRefused(t *testing.T) {
	if err := completion.Write(&bytes.Buffer{}, "csh", model(t)); err == nil || !strings.Contains(err.Error(), "csh") {
		t.Errorf("want csh refused, have %v", err)
	}
}

func ExampleWrite() {
	var program struct {
		Serve struct{} `cmd:""`
	}
	k := kong.Must(&program, kong.Name("tiny"))
	var b strings.Builder
	fmt.Println(completion.Write(&b, "bash", k.Model))
	fmt.Println(strings.Contains(b.String(), "complete -o bashdefault -o default -F _tiny_complete tiny"))
	// Output:
	// <nil>
	// true
}
