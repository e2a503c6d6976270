// Package cli is the command line of an app: the app itself (run), and what people and scripts ask it (version, config,
// health, cleanup, backup, ctl, completion).
//
//	func main() { os.Exit(cli.Main(&config{}, run)) }
//
// It promises one line on standard error for everything that can't work, with what to do about it, and an exit code of
// pkg/fault. Answers go to standard output, with --json as the app gave them. What can't be undone is confirmed by a person
// at a terminal, or by --yes and a reason.
//
// commands.go is the list of commands; each is a struct with its options and a method Run. It holds no state between
// calls and no logic of the app: whatever needs the running app goes over its control socket.
package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
)

// program is one call of Main. The methods Run of the commands get it.
type program struct {
	cfg     base.Configuration
	run     func(*base.Runtime) error
	env     config.Environment
	args    []string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	signals *lifecycle.Signals
	code    int // the app's, if it ran
}

// Main runs the program and returns its exit code, for os.Exit to take. The pointer cfg is filled from the
// environment before run is called. Main takes over the signals as the first thing it does.
func Main[C base.Configuration](cfg C, run func(*base.Runtime, C) error) int {
	signals := lifecycle.Arm()
	defer signals.Disarm()
	p := &program{cfg: cfg, run: func(rt *base.Runtime) error { return run(rt, cfg) }, env: config.OS(),
		args: os.Args[1:], in: os.Stdin, out: os.Stdout, err: os.Stderr, signals: signals}
	return p.main()
}

func (p *program) main() int {
	var c commands
	command, err := p.parse(&c)
	if err != nil || command == nil {
		return p.fail(err)
	}
	name := command.Command()
	if name != "run" {
		p.signals.Disarm()
	}
	if strings.HasPrefix(name, "ctl ") { // a wrong setting comes before what is wrong with the command
		if _, err := p.load(); err != nil {
			return p.fail(err)
		}
	}
	if err := command.Run(p); err != nil {
		return p.fail(err)
	}
	return p.code
}

// exited carries kong's wish to exit, after --help, out of its parser.
type exited int

// parse returns the command that was given, nil if help was printed.
func (p *program) parse(c *commands) (command *kong.Context, err error) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(exited); !ok {
				panic(v)
			}
			command, err = nil, nil
		}
	}()
	parser, err := p.parser(c)
	if err != nil {
		return nil, err
	}
	command, err = parser.Parse(p.args)
	if err != nil {
		return nil, &fault.Error{Kind: fault.KindUsage, Hint: "app --help lists the commands", Err: err}
	}
	return command, nil
}

func (p *program) parser(c *commands) (*kong.Kong, error) {
	parser, err := kong.New(c, kong.Name("app"),
		kong.Description("A container application that stays up. Settings come from the environment: app config lists them."),
		kong.Writers(p.out, p.err), kong.Exit(func(code int) { panic(exited(code)) }), kong.UsageOnError(),
		kong.Vars{"age": base.KeepFor.String()})
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	return parser, nil
}

// fail prints what is wrong, one line for each problem, and returns the exit code.
func (p *program) fail(err error) int {
	if err == nil {
		return fault.ExitClean
	}
	text := strings.TrimRight(err.Error(), "\n")
	if hint := fault.Hint(err); hint != "" {
		text += " (" + hint + ")"
	}
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(p.err, "app: "+line)
	}
	return fault.ExitCode(err)
}

// load returns the settings.
func (p *program) load() (*base.Settings, error) {
	_, err := base.Load(p.cfg, p.env)
	return base.SettingsOf(p.cfg), err
}
