package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/completion"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/lifecycle"
)

// The commands that need no running app.

// runCommand is the app itself.
type runCommand struct{}

// Run runs the app until it ends. Its exit code is the program's.
func (runCommand) Run(p *program) error {
	warnings, err := base.Load(p.cfg, p.env)
	if err != nil {
		return err
	}
	p.code, err = base.Run(base.Program{Config: p.cfg, Warnings: warnings, Env: p.env, Out: p.out, Signals: p.signals, Main: p.run})
	if err != nil {
		lifecycle.Print(func() { p.fail(err) }) // who reads it may hang
	}
	return nil
}

type versionCommand struct{}

// Run prints what was built.
func (versionCommand) Run(p *program) error {
	s, _ := p.load() // for the name: a wrong setting is no reason to keep the version back
	b := base.ReadBuild()
	fmt.Fprintln(p.out, strings.Join(strings.Fields(cmp.Or(s.App.Name, "app")+" "+b.Version+" "+b.Commit+" "+b.Go), " "))
	return nil
}

type configCommand struct {
	JSON     bool `name:"json" xor:"form" help:"Print JSON."`
	Markdown bool `xor:"form" help:"Print the page docs/settings.md."`
}

// Run prints the settings.
func (c *configCommand) Run(p *program) error {
	if !c.Markdown { // the page shows no values
		if _, err := config.Load(p.cfg, p.env); err != nil {
			return err
		}
	}
	list, err := config.Describe(p.cfg)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return config.WriteJSON(p.out, list)
	case c.Markdown:
		return config.WriteMarkdown(p.out, list)
	}
	return config.WriteText(p.out, list)
}

type cleanupCommand struct {
	Age time.Duration `default:"${age}" help:"Remove what is older."`
}

// Run removes what is old from the data folder.
func (c *cleanupCommand) Run(p *program) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	removed, err := lifecycle.Cleanup(s.DataDir, c.Age)
	if removed > 0 {
		fmt.Fprintf(p.out, "removed %d files\n", removed)
	}
	return err
}

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the shell's script.
func (c *completionCommand) Run(p *program) error {
	parser, err := p.parser(&commands{})
	if err != nil {
		return err
	}
	return completion.Write(p.out, c.Shell, parser.Model)
}
