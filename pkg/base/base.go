// Package base wires the standard pieces into one runtime, so that an app's start-up is a screenful: settings, logs,
// the data folder, the latch and its signals, the nanny, the socket context, the web server and the control socket.
//
//	func main() { os.Exit(base.Main(&config{}, run)) }
//
//	func run(rt *base.Runtime, cfg *config) error {
//		rt.Go("reader", …)
//		rt.Serve(routes)
//		return rt.Wait()
//	}
//
// Main is the whole program: the command line (run, version, config, health, cleanup, backup, ctl, completion), one line that says
// what to do for everything that can't work, and the exit code. It holds no state between calls and no logic of the app.
package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"example.com/base-app/pkg/completion"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/stack"
	"github.com/alecthomas/kong"
)

// Set by the linker: -X example.com/base-app/pkg/base.version=1.2.3 and .commit=…; else the build's own information is used.
var version, commit string

// Build says what was built.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// ReadBuild returns what the linker and the Go tool stamped into the program.
func ReadBuild() Build {
	b := Build{Version: version, Commit: commit}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

// program is one call of Main.
type program struct {
	cfg     Configuration
	run     func(*Runtime) error
	env     config.Environment
	args    []string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	signals *lifecycle.Signals
}

// Main runs the program and returns its exit code, for os.Exit to take. The pointer cfg is filled from the
// environment before run is called. Main takes over the signals as the first thing it does.
func Main[C Configuration](cfg C, run func(*Runtime, C) error) int {
	signals := lifecycle.Arm()
	defer signals.Disarm()
	p := &program{cfg: cfg, run: func(rt *Runtime) error { return run(rt, cfg) }, env: config.OS(),
		args: os.Args[1:], in: os.Stdin, out: os.Stdout, err: os.Stderr, signals: signals}
	return p.main()
}

// keepFor is how old dumps, errors and crash reports get: until somebody is back from a holiday.
const keepFor = 30 * 24 * time.Hour

// commands is the command line.
type commands struct {
	Run     struct{} `cmd:"" default:"1" help:"Run the app. This is what happens without a command."`
	Version struct{} `cmd:"" help:"Print version, commit and Go version."`
	Config  struct {
		JSON     bool `name:"json" xor:"form" help:"Print JSON."`
		Markdown bool `xor:"form" help:"Print the page docs/settings.md."`
	} `cmd:"" help:"Print every setting with its meaning, default and value; secrets are redacted."`
	Health struct {
		Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
	} `cmd:"" help:"Ask the running app for its health: exit code 0 is healthy, 1 is not. For probes."`
	Cleanup struct {
		Age time.Duration `default:"${age}" help:"Remove what is older."`
	} `cmd:"" help:"Remove old dumps, errors and crash reports from the data folder. For cron: it works when the app is dead, too."`
	Backup     backupCommands `cmd:"" help:"Back up the queue, prove that a backup can be restored, restore it."`
	Ctl        ctl            `cmd:"" help:"Talk to the running app through its control socket."`
	Completion struct {
		Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
	} `cmd:"" help:"Print what makes a shell complete this command line: source <(app completion bash)."`
}

// exited carries kong's wish to exit, after --help, out of its parser.
type exited int

func (p *program) main() int {
	var c commands
	command, err := p.parse(&c)
	if err != nil || command == "" {
		return p.fail(err)
	}
	if command != "run" {
		p.signals.Disarm()
	}
	if rest, ok := strings.CutPrefix(command, "backup "); ok {
		return p.fail(p.backup(rest, &c.Backup))
	}
	switch command {
	case "run":
		return p.start()
	case "version":
		_, _ = p.load() // for the name: a wrong setting is no reason not to tell the version
		b := ReadBuild()
		fmt.Fprintln(p.out, strings.Join(strings.Fields(cmp.Or(p.cfg.settings().App.Name, "app")+" "+b.Version+" "+b.Commit+" "+b.Go), " "))
		return fault.ExitClean
	case "config":
		err = p.printConfig(c.Config.JSON, c.Config.Markdown)
	case "completion <shell>":
		err = p.printCompletion(c.Completion.Shell)
	case "cleanup":
		err = p.cleanup(c.Cleanup.Age)
	default:
		err = p.ask(command, &c)
	}
	return p.fail(err)
}

// parse returns the command's name, empty if everything was said (--help).
func (p *program) parse(c *commands) (command string, err error) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(exited); !ok {
				panic(v)
			}
			command, err = "", nil
		}
	}()
	parser, err := p.parser(c)
	if err != nil {
		return "", err
	}
	ctx, err := parser.Parse(p.args)
	if err != nil {
		return "", &fault.Error{Kind: fault.KindUsage, Hint: "app --help lists the commands", Err: err}
	}
	return ctx.Command(), nil
}

func (p *program) parser(c *commands) (*kong.Kong, error) {
	parser, err := kong.New(c, kong.Name("app"), kong.Description("A container application that stays up. Settings come from the environment: app config lists them."),
		kong.Writers(p.out, p.err), kong.Exit(func(code int) { panic(exited(code)) }), kong.UsageOnError(),
		kong.Vars{"age": keepFor.String()})
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	return parser, nil
}

func (p *program) printCompletion(shell string) error {
	parser, err := p.parser(&commands{})
	if err != nil {
		return err
	}
	return completion.Write(p.out, shell, parser.Model)
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

// load fills the settings.
func (p *program) load() (warnings []string, err error) {
	warnings, err = config.Load(p.cfg, p.env)
	if err == nil {
		p.cfg.settings().resolve()
	}
	return warnings, err
}

func (p *program) printConfig(asJSON, asMarkdown bool) error {
	if !asMarkdown { // the page shows no values
		if _, err := config.Load(p.cfg, p.env); err != nil {
			return err
		}
	}
	list, err := config.Describe(p.cfg)
	switch {
	case err != nil:
		return err
	case asJSON:
		return config.WriteJSON(p.out, list)
	case asMarkdown:
		return config.WriteMarkdown(p.out, list)
	}
	return config.WriteText(p.out, list)
}

func (p *program) cleanup(age time.Duration) error {
	if _, err := p.load(); err != nil {
		return err
	}
	removed, err := lifecycle.Cleanup(p.cfg.settings().DataDir, age)
	if removed > 0 {
		fmt.Fprintf(p.out, "removed %d files\n", removed)
	}
	return err
}

// start is the command run: everything from the settings to the exit code. Whatever can block happens inside of
// Life.Run, where a signal, and in the end the forced exit, gets by it.
func (p *program) start() int {
	stack.ShowLabels()
	warnings, err := p.load()
	if err != nil {
		return p.fail(err)
	}
	s, build := p.cfg.settings(), ReadBuild()
	alerts, err := newAlerts(s, build)
	if err != nil {
		return p.fail(err)
	}
	logs, err := logging.New(logging.Options{App: s.App.Name, Device: s.Device, Deployment: s.Deployment,
		Version: build.Version, Commit: build.Commit, Level: s.Log.Level, Format: s.Log.Format, Syslog: s.Syslog.Address, Sample: s.Log.Sample, Observe: alerts.Record, Out: p.out})
	if err != nil {
		return p.fail(err)
	}
	tel, err := newTelemetry(s, build, logs.Logger())
	if err != nil {
		return p.fail(err)
	}
	rt := newRuntime(s, build, logs, tel, alerts, p.signals)
	exit := rt.life.Run(func(context.Context) error {
		err := errGoexit
		defer func() { // also when the app's run panics or ends its goroutine: the hooks are for after the workers
			rt.life.Stop(err)
			rt.nanny.Wait(context.Background()) // the forced end is the deadline
		}()
		err = fault.Recover("main", func() error { return p.body(rt, warnings) })
		return err
	})
	exit.Version, exit.Commit = build.Version, build.Commit
	lifecycle.Save(func() {
		told := make(chan struct{})
		go func() { defer close(told); rt.tellForced(exit) }()
		rt.saveExit(exit)
		<-told
	})
	abandonTelemetry(tel) // whatever an exporter does now, the cause is saved
	lifecycle.Say(func() { tellEnd(rt, exit) })
	if cause := context.Cause(rt.Context()); fault.Of(cause) == fault.KindConfig {
		lifecycle.Say(func() { p.fail(cause) })
	}
	return exit.Code
}

var errGoexit = errors.New("the app's run was ended by runtime.Goexit")

// body is what runs until the latch closes: what may be refused comes before anything is started.
func (p *program) body(rt *Runtime, warnings []string) error {
	if err := rt.openFolder(); err != nil {
		return err
	}
	rt.openHeartbeat()
	if err := rt.openControl(); err != nil {
		return err
	}
	tellStart(rt, p.env, warnings)
	if err := tellPrevious(rt); err != nil {
		return err
	}
	if err := rt.openTelemetry(); err != nil {
		return err
	}
	if err := rt.openAlerts(); err != nil {
		return err
	}
	rt.openSchedule()
	return p.run(rt)
}
