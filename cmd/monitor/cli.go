package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/completion"
	"example.com/base-app/pkg/fault"
	"github.com/alecthomas/kong"
)

// streams are the process's own.
type streams struct{ in, out, err *os.File }

// flags is the command line. The short ones are the original's, with its names, defaults and meaning.
type flags struct {
	CommandAddr string `short:"c" default:"ipc://command" placeholder:"ADDR" help:"Address for receiving kill/restart command: ipc://path, or tcp://127.0.0.1:port with --token-file."`
	DataDir     string `placeholder:"DIR" help:"Where crash reports go, in the folder crashes. $DATA_DIR, or ./data."`
	JSON        bool   `name:"json" help:"Print JSON."`

	Run struct {
		HeartbeatAddr    string  `short:"b" default:"ipc://heartbeat" placeholder:"ADDR" help:"Address for receiving heartbeats: ipc://path or tcp://127.0.0.1:port. One monitor has it at a time."`
		HeartbeatTimeout seconds `short:"t" default:"1" help:"Period (in sec) of the heartbeats given by the program; 0: it gives none."`
		MissesAllowed    int     `short:"m" default:"2" help:"How many heartbeats missed before the program is killed."`
		StartupGrace     seconds `default:"-1" help:"Time for the first heartbeat; twice the timeout if not given."`
		StopGrace        seconds `default:"40" help:"Time between TERM and KILL when the program is to stop."`
		Backoff          seconds `default:"0.5" help:"Pause before the second restart in a row; the first is at once, each further one takes about twice as long, up to 10 s."`
		Budget           budget  `default:"5/60s" help:"How many restarts in which time; once spent, the monitor exits with the program's code."`
		OnCrash          string  `placeholder:"PROGRAM" help:"A program that is run with the path of each crash report, for at most 10 s."`
		TokenFile        string  `placeholder:"FILE" help:"What a message to a tcp command address has to begin with."`
		SelfTest         bool    `default:"true" negatable:"" help:"Look at memory, disk, files and clock after a crash, for the report."`
		Verbose          bool    `short:"v" help:"Print each heartbeat, as the original did."`
	} `cmd:"" default:"withargs" help:"Run a program: monitor [flags] -- command args…. This is what happens without a command."`

	Kill   orderFlags `cmd:"" help:"Kill the program; the monitor starts it again (the panic button)."`
	Stop   orderFlags `cmd:"" help:"Stop the program and the monitor."`
	Dump   orderFlags `cmd:"" help:"Ask the program for its state (USR1), if it handles that."`
	Status orderFlags `cmd:"" help:"Tell how the program is."`

	Completion struct {
		Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
	} `cmd:"" help:"Print what makes a shell complete this command line: source <(monitor completion bash)."`
}

type orderFlags struct {
	Reason  string  `help:"Why; it goes into the log and the report."`
	Timeout seconds `default:"5" help:"How long to wait for the answer."`
}

// seconds is a time: a plain number of seconds, as in the original, or a Go duration.
type seconds time.Duration

func (s *seconds) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseFloat(string(text), 64); err == nil {
		if n != n || n > 1e9 || n < -1 {
			return fmt.Errorf("%s seconds are out of range", text)
		}
		*s = seconds(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is neither a number of seconds nor a duration like 500ms", text)
	}
	*s = seconds(d)
	return nil
}

// settings are the checked flags and the environment.
type settings struct {
	heartbeat, command string
	timeout, startup   time.Duration
	misses             int
	stopGrace          time.Duration
	backoff            time.Duration
	budget             budget
	dataDir            string
	token              []byte
	onCrash            string
	selfTest           bool
	verbose, json      bool
	argv, env          []string
	path               string
	std                streams
}

// exited is what the parser panics with when kong wants to exit, after --help. parse recovers it.
type exited int

// run is the whole program; it returns the exit code.
func run(args, env []string, std streams) int {
	var f flags
	own, argv, split := args, []string(nil), false
	if i := slices.Index(args, "--"); i >= 0 {
		own, argv, split = args[:i], args[i+1:], true
	}
	command, err := parse(&f, own, std)
	if command == "" {
		return fail(std.err, err)
	}
	f.DataDir = cmp.Or(f.DataDir, lookup(env, "DATA_DIR"), "data")
	if command != "run" {
		if split {
			return fail(std.err, fault.Usage("%s takes no command to run", command))
		}
		if command == "completion <shell>" {
			return fail(std.err, printCompletion(f.Completion.Shell, std))
		}
		return fail(std.err, give(command, &f, std.out))
	}
	s, err := f.settings(argv, env, std)
	if err != nil {
		return fail(std.err, err)
	}
	return watchOver(s)
}

// parse returns the command's name; it is empty after an error and after --help.
func parse(f *flags, args []string, std streams) (command string, err error) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(exited); !ok {
				panic(v)
			}
			command, err = "", nil
		}
	}()
	parser, err := newParser(f, std)
	if err != nil {
		return "", err
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return "", &fault.Error{Kind: fault.KindUsage, Hint: "write monitor [flags] -- command args…; monitor --help lists the flags", Err: err}
	}
	return ctx.Command(), nil
}

func newParser(f *flags, std streams) (*kong.Kong, error) {
	parser, err := kong.New(f, kong.Name("monitor"), kong.Description("Keeps a program running: monitor [flags] -- command args…"),
		kong.Writers(std.out, std.err), kong.Exit(func(code int) { panic(exited(code)) }))
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	return parser, nil
}

func printCompletion(shell string, std streams) error {
	parser, err := newParser(&flags{}, std)
	if err != nil {
		return err
	}
	return completion.Write(std.out, shell, parser.Model)
}

// fail prints err, if there is one, and returns the exit code.
func fail(w io.Writer, err error) int {
	if err == nil {
		return fault.ExitClean
	}
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	if hint := fault.Hint(err); hint != "" {
		text += " (" + hint + ")"
	}
	fmt.Fprintln(w, "monitor: "+text)
	return fault.ExitCode(err)
}

// lookup returns the value of a variable in an environment; the first one counts, as it does for C and Go programs.
func lookup(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// with returns the environment with a variable set.
func with(env []string, name, value string) []string {
	return append(without(env, name), name+"="+value)
}

// without returns the environment without some variables.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(names, name)
	})
}

// settings checks the flags of run.
func (f *flags) settings(argv, env []string, std streams) (settings, error) {
	r := &f.Run
	s := settings{
		heartbeat: r.HeartbeatAddr, command: f.CommandAddr, timeout: time.Duration(r.HeartbeatTimeout), startup: time.Duration(r.StartupGrace),
		misses: r.MissesAllowed, stopGrace: time.Duration(r.StopGrace), backoff: time.Duration(r.Backoff), budget: r.Budget, dataDir: f.DataDir,
		onCrash: r.OnCrash, selfTest: r.SelfTest, verbose: r.Verbose, json: f.JSON, argv: argv, env: env, std: std,
	}
	const hint = "write monitor [flags] -- command args…"
	switch {
	case len(argv) == 0:
		return s, &fault.Error{Kind: fault.KindUsage, Hint: hint, Err: errors.New("no program to run")}
	case s.heartbeat == s.command:
		return s, fault.Usage("-b and -c are the same address")
	case s.misses < 1:
		return s, fault.Usage("--misses-allowed is %d, and at least 1", s.misses)
	case s.timeout < 0 || s.stopGrace < 0 || s.backoff < 0:
		return s, fault.Usage("a time can't be negative")
	}
	if s.startup < 0 {
		s.startup = 2 * s.timeout
	}
	tcp := strings.HasPrefix(s.command, "tcp://")
	if tcp && r.TokenFile == "" {
		return s, fault.Config("give --token-file, or an ipc:// address, whose file is yours alone",
			fmt.Errorf("everybody on this machine could give orders at %s", s.command))
	}
	if tcp {
		text, err := os.ReadFile(r.TokenFile)
		if s.token = []byte(strings.TrimSpace(string(text))); err == nil && len(s.token) == 0 {
			err = fmt.Errorf("%s is empty", r.TokenFile)
		}
		if err != nil {
			return s, fault.Config("--token-file names a file with one line that others can't read", err)
		}
	}
	var err error
	if s.path, err = exec.LookPath(argv[0]); err != nil {
		return s, fault.Config("check the command after --", err)
	}
	return s, nil
}
