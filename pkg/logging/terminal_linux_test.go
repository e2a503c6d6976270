package logging_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.com/base-app/pkg/logging"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

func TestTerminalGetsTheConsoleAndColoursUnlessRefused(t *testing.T) {
	for _, c := range []struct {
		noColour, term string
		want           bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColour)
		t.Setenv("TERM", c.term)
		screen, tty := terminal(t)
		l, err := logging.New(logging.Options{Out: tty, Syslog: "off"})
		if err != nil {
			t.Fatal(err)
		}
		if want := "console to " + tty.Name() + ", no syslog"; l.Outputs() != want {
			t.Errorf("want %s, have %s", want, l.Outputs())
		}
		l.Logger().Info("hello \x1b[31m", "k", `literal \x1b[2J and`, "e", "\x1b[2J")
		l.Close(t.Context())
		b := make([]byte, 4096)
		n, err := screen.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		s := string(b[:n])
		if have := strings.Contains(s, "main \x1b[92m[INFO]\x1b[0m hello"); have != c.want {
			t.Errorf("NO_COLOR=%q TERM=%q: %q", c.noColour, c.term, s)
		}
		for _, foreign := range []string{"\x1b[31m", "\x1b[2J"} {
			if strings.Contains(s, foreign) {
				t.Errorf("an escape sequence of the caller's came through: %q", s)
			}
		}
	}
}
