package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
)

// typed returns a terminal at which somebody has typed the lines.
func typed(t *testing.T, lines string) *os.File {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if _, err := person.WriteString(lines); err != nil {
		t.Fatal(err)
	}
	return tty
}

// Whoever changes many events at once says why, also at a terminal; no app runs here, so what is allowed fails later.
func TestWhatChangesManyEventsNeedsAReason(t *testing.T) {
	type command interface{ Run(*program, *ctl) error }
	purge := func(c *queueCommands) command { return &c.Purge }
	replay := func(c *queueCommands) command { return &c.Dead.Replay }
	for name, c := range map[string]struct {
		command func(c *queueCommands) command
		order   func(*queueCommands)
		typed   string // empty: a script
		want    string // empty: it is allowed
		reason  string
		asked   int
	}{
		"purge, and why":           {purge, nil, "yes\nthe disk is full\n", "", "the disk is full", 2},
		"purge, the reason before": {purge, func(c *queueCommands) { c.Purge.Reason = "r" }, "yes\n", "", "r", 1},
		"purge without a reason":   {purge, nil, "yes\n \n", "it needs a reason", "", 2},
		"no purge":                 {purge, nil, "no\n", "nothing was deleted", "", 1},
		"purge by a script":        {purge, nil, "", "there is nobody to ask", "", 0},
		"purge by a careless one":  {purge, func(c *queueCommands) { c.Purge.Yes = true }, "", "--yes needs --reason", "", 0},
		"replay all, and why":      {replay, func(c *queueCommands) { c.Dead.Replay.All = true }, "mended\n", "", "mended", 1},
		"replay all, just so":      {replay, func(c *queueCommands) { c.Dead.Replay.All = true }, "\n", "it needs a reason", "", 1},
		"replay all by a script":   {replay, func(c *queueCommands) { c.Dead.Replay.All = true }, "", "it needs a reason", "", 0},
		"replay all, with reason":  {replay, func(c *queueCommands) { c.Dead.Replay.All, c.Dead.Replay.Reason = true, "r" }, "", "", "r", 0},
		"replay one":               {replay, func(c *queueCommands) { c.Dead.Replay.ID = "x" }, "", "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked, out bytes.Buffer
			p := &program{cfg: &forked{}, env: config.Environment{Vars: []string{"DATA_DIR=" + t.TempDir()}}, out: &out, err: &asked, in: strings.NewReader("")}
			if c.typed != "" {
				p.in = typed(t, c.typed)
			}
			q := &queueCommands{}
			if c.order != nil {
				c.order(q)
			}
			err := c.command(q).Run(p, &ctl{})
			switch {
			case c.want == "" && fault.Of(err) != fault.KindDependency:
				t.Errorf("want it allowed, have %v", err)
			case c.want != "" && (fault.Of(err) != fault.KindUsage || !strings.Contains(err.Error(), c.want)):
				t.Errorf("want %q, have %v", c.want, err)
			}
			if have := q.Purge.Reason + q.Dead.Replay.Reason; have != c.reason {
				t.Errorf("want the reason %q, have %q", c.reason, have)
			}
			if have := strings.Count(asked.String(), ": "); have != c.asked {
				t.Errorf("want %d questions, have %q", c.asked, &asked)
			}
		})
	}
}
