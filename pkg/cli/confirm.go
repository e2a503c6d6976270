package cli

import (
	"bufio"
	"fmt"
	"strings"

	"golang.org/x/term"

	"example.com/base-app/pkg/fault"
)

// sure is how somebody says that what can't be undone is meant.
type sure struct {
	Yes    bool   `help:"Don't ask. Needs --reason."`
	Reason string `help:"Why; it stands in the log. Without --yes it is asked for."`
}

// confirm asks whoever sits at the terminal, also why; a script must have said yes and why.
func (p *program) confirm(s *sure, what string) error {
	if s.Yes {
		if s.Reason == "" {
			return fault.Usage("--yes needs --reason: it stands in the log")
		}
		return nil
	}
	ask := p.person()
	if ask == nil {
		return fault.Usage("there is nobody to ask: say --yes and --reason")
	}
	if ask(what+"? There is no way back. Type yes: ") != "yes" {
		return fault.Usage("nothing was deleted")
	}
	return why(ask, &s.Reason)
}

// person returns how to ask whoever sits at the terminal, nil if nobody does.
func (p *program) person() (ask func(question string) string) {
	if f, ok := p.in.(interface{ Fd() uintptr }); !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	lines := bufio.NewReader(p.in)
	return func(question string) string {
		fmt.Fprint(p.err, question)
		answer, _ := lines.ReadString('\n')
		return strings.TrimSpace(answer)
	}
}

// why asks for the reason, unless there is one.
func why(ask func(question string) string, reason *string) error {
	if *reason == "" && ask != nil {
		*reason = ask("Why? It stands in the log: ")
	}
	if *reason == "" {
		return fault.Usage("nothing was done: it needs a reason (--reason), which stands in the log")
	}
	return nil
}
