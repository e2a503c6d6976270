package cli

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type forked struct {
	base.Settings
	Colour string `envconfig:"APP_COLOUR" default:"red" desc:"the fork's own"`
}

// call runs the program as main would, in this process.
func call(t *testing.T, run func(*base.Runtime) error, vars []string, args ...string) (code int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := config.Environment{Vars: append(vars, "WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off", "DATA_DIR="+t.TempDir())} // the first counts
	done := func(rt *base.Runtime) error {
		err := run(rt)
		if err == nil {
			rt.Done("tested")
		}
		return err
	}
	p := &program{cfg: &forked{}, run: done, env: env, args: args, out: &stdout, err: &stderr, signals: lifecycle.Arm()}
	defer p.signals.Disarm()
	return p.main(), stdout.String(), stderr.String()
}

func TestTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		args     []string
		vars     []string
		code     int
		out, err string
	}{
		{[]string{"version"}, nil, 0, "base-app dev", ""},
		{[]string{"version"}, []string{"LOG_LEVEL=loud"}, 0, "dev", ""},
		{[]string{"config"}, nil, 0, "APP_COLOUR", ""},
		{[]string{"config", "--json"}, nil, 0, `"name": "LOG_LEVEL"`, ""},
		{[]string{"config", "--json", "--markdown"}, nil, 64, "", "--json"},
		{[]string{"config"}, []string{"LOG_LEVEL=loud"}, 78, "", "app: LOG_LEVEL: not a level"},
		{[]string{"--help"}, nil, 0, "ctl dump", ""},
		{[]string{"nonsense"}, nil, 64, "", "app --help lists the commands"},
		{[]string{"cleanup"}, nil, 0, "", ""},
		{[]string{"health"}, nil, 1, "", "the app does not answer"},
		{[]string{"health"}, []string{"LOG_LEVEL=loud"}, 1, "", "settings are wrong"},
		{[]string{"ctl", "status"}, nil, 69, "", "is the app running?"},
	} {
		code, out, err := call(t, nil, c.vars, c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(err, c.err) || (c.err == "") != (err == "") {
			t.Errorf("%v %v: want %d, %q, %q, have %d, %q, %q", c.args, c.vars, c.code, c.out, c.err, code, out, err)
		}
	}
}

// The command line is whole: each command has what does it.
func TestEachCommandRuns(t *testing.T) {
	parser, err := (&program{}).parser(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		if !leaf.Target.Addr().MethodByName("Run").IsValid() {
			t.Errorf("%s has no method Run", leaf.FullPath())
		}
	}
}

// What `app cleanup` keeps is what the job keeps.
func TestTheCommandAndTheJobKeepTheSame(t *testing.T) {
	var c commands
	p := &program{args: []string{"cleanup"}}
	if command, err := p.parse(&c); err != nil || command.Command() != "cleanup" || c.Cleanup.Age != base.KeepFor {
		t.Errorf("want %v, have %v, %v", base.KeepFor, c.Cleanup.Age, err)
	}
}
