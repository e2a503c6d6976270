package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/fault"
)

// chaosCommands is the command line of `app ctl chaos`. This file owns what they print.
type chaosCommands struct {
	Start  chaosStart  `cmd:"" help:"Make a point fail, for a time."`
	Stop   chaosStop   `cmd:"" help:"End orders before their time."`
	List   chaosList   `cmd:"" help:"The orders: those that are active, the last that are over, and how often they struck."`
	Points chaosPoints `cmd:"" help:"Where something can be made to fail, how, and what is refused there."`
}

type chaosStart struct {
	Scope       string        `arg:"" help:"The point, as app ctl chaos points names it; * stands for any characters."`
	Kind        string        `arg:"" enum:"latency,error,drop,panic,stall,kill" help:"latency, error, drop, panic, stall; kill for workers."`
	Reason      string        `required:"" help:"Why; it stands in the log, and in each error that is made."`
	For         time.Duration `default:"1m" help:"How long, at most 1h."`
	Probability float64       `default:"1" help:"That a passage is struck, over 0 to 1."`
	Delay       time.Duration `default:"0s" help:"Of latency: how much longer it takes."`
	Jitter      time.Duration `default:"0s" help:"Of latency: anything from 0 to this is added."`
	Seed        uint64        `help:"The same seed strikes the same passages; without one it is new, and told."`
	Force       bool          `help:"Do it although it ends the process or stops all work."`
}

// Run gives an order.
func (s *chaosStart) Run(p *program, c *ctl) error {
	o := chaos.Order{Scope: s.Scope, Kind: chaos.Kind(s.Kind), Probability: s.Probability, Delay: s.Delay, Jitter: s.Jitter, For: s.For,
		Seed: s.Seed, Reason: s.Reason, Force: s.Force}
	return post(p, c, "/chaos", o, func(w io.Writer, s chaos.Status) { printOrders(w, []chaos.Status{s}) })
}

type chaosStop struct {
	ID     int    `arg:"" optional:"" help:"Of one order."`
	All    bool   `help:"All orders."`
	Reason string `help:"Why; it stands in the log."`
}

// Run ends orders.
func (s *chaosStop) Run(p *program, c *ctl) error {
	if (s.ID > 0) == s.All {
		return fault.Usage("name one order's id, or --all")
	}
	return post(p, c, "/chaos/stop", chaos.StopOrder{ID: s.ID, Reason: s.Reason}, printOrders)
}

type chaosList struct{}

// Run lists the orders.
func (chaosList) Run(p *program, c *ctl) error { return get(p, c, "/chaos", printOrders) }

type chaosPoints struct{}

// Run lists the points.
func (chaosPoints) Run(p *program, c *ctl) error { return get(p, c, "/chaos/points", printPoints) }

func printOrders(w io.Writer, list []chaos.Status) {
	fmt.Fprintln(w, "ID\tSTATE\tSCOPE\tKIND\tPROBABILITY\tDELAY\tLEFT\tPASSED\tSTRUCK\tSEED\tREASON")
	for _, s := range list {
		delay, left := "-", "-"
		if s.Kind == chaos.Latency {
			delay = s.Delay.String()
		}
		if s.Jitter > 0 {
			delay += "+" + s.Jitter.String()
		}
		if s.State == chaos.Active {
			left = time.Until(s.Until).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%v\t%s\t%s\t%d\t%d\t%d\t%s\n", s.ID, s.State, s.Scope, s.Kind, s.Probability, delay, left, s.Passed,
			s.Strikes, s.Seed, s.Reason)
	}
}

func printPoints(w io.Writer, list []chaos.Point) {
	fmt.Fprintln(w, "POINT\tTAKES\tREFUSED UNLESS FORCED")
	for _, p := range list {
		kinds := make([]string, len(p.Kinds))
		for i, k := range p.Kinds {
			kinds[i] = string(k)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, strings.Join(kinds, " "), cmp.Or(strings.Join(refused(p), ", "), "-"))
	}
}

// refused tells what a point takes only by force; see chaos.Point.
func refused(p chaos.Point) (list []string) {
	takes := func(k chaos.Kind) bool { return slices.Contains(p.Kinds, k) }
	for _, k := range []chaos.Kind{chaos.Error, chaos.Panic, chaos.Kill} {
		if p.Fatal && takes(k) {
			list = append(list, string(k))
		}
	}
	switch {
	case !takes(chaos.Stall):
	case p.Vital:
		list = append(list, string(chaos.Stall))
	case p.Patience > 0:
		list = append(list, fmt.Sprintf("%s of %v", chaos.Stall, p.Patience))
	}
	if p.Patience > 0 && takes(chaos.Latency) {
		list = append(list, fmt.Sprintf("%s of %v", chaos.Latency, p.Patience))
	}
	if p.Vital && !p.Fatal && takes(chaos.Error) {
		list = append(list, fmt.Sprintf("failures over %.0f %%", 100*chaos.MaxShare))
	}
	return list
}
