package cli

import (
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
)

// queueCommands is the command line of `app ctl queue`. This file owns what they print.
type queueCommands struct {
	Status queueStatus  `cmd:"" help:"How much waits, is in flight, was processed, retried and refused, and how long it takes."`
	Dead   deadCommands `cmd:"" help:"The dead letters."`
	Purge  queuePurge   `cmd:"" help:"Delete all events that wait."`
}

type deadCommands struct {
	List   deadList   `cmd:"" help:"The events that could not be handled, and why."`
	Replay deadReplay `cmd:"" help:"Put dead letters back into the queue, as new."`
	Purge  deadPurge  `cmd:"" help:"Delete dead letters."`
}

type queueStatus struct{}

// Run shows the queue.
func (queueStatus) Run(p *program, c *ctl) error { return get(p, c, "/queue", printQueue) }

type deadList struct {
	After uint64 `help:"The position that the last call ended with."`
	Limit int    `default:"100" help:"How many."`
}

// Run lists dead letters.
func (d *deadList) Run(p *program, c *ctl) error {
	query := url.Values{"after": {strconv.FormatUint(d.After, 10)}, "limit": {strconv.Itoa(max(d.Limit, 1))}}
	return get(p, c, "/queue/dead?"+query.Encode(), printDead)
}

// which names one dead letter or all.
type which struct {
	ID  string `arg:"" optional:"" help:"Of one dead letter."`
	All bool   `help:"All that there are now."`
}

func (w which) check() error {
	if (w.ID == "") == !w.All {
		return fault.Usage("name one id, or --all")
	}
	return nil
}

type deadReplay struct {
	which
	Reason string `help:"Why; it stands in the log. With --all it is asked for."`
}

// Run puts dead letters back. With all of them, whatever was wrong is done once more: that needs a reason.
func (d *deadReplay) Run(p *program, c *ctl) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.All {
		if err := why(p.person(), &d.Reason); err != nil {
			return err
		}
	}
	return post(p, c, "/queue/dead/replay", queue.Order{ID: d.ID, Reason: d.Reason}, printCount("put back into the queue"))
}

type deadPurge struct {
	which
	sure
}

// Run deletes dead letters.
func (d *deadPurge) Run(p *program, c *ctl) error {
	if err := d.check(); err != nil {
		return err
	}
	what := "Delete dead letter " + d.ID
	if d.All {
		what = "Delete all dead letters"
	}
	if err := p.confirm(&d.sure, what); err != nil {
		return err
	}
	return post(p, c, "/queue/dead/purge", queue.Order{ID: d.ID, Reason: d.Reason}, printCount("deleted"))
}

type queuePurge struct{ sure }

// Run deletes the events that wait.
func (d *queuePurge) Run(p *program, c *ctl) error {
	if err := p.confirm(&d.sure, "Delete all events that wait"); err != nil {
		return err
	}
	return post(p, c, "/queue/purge", queue.Order{Reason: d.Reason}, printCount("deleted"))
}

func printCount(done string) func(io.Writer, queue.CountAnswer) {
	return func(w io.Writer, c queue.CountAnswer) { fmt.Fprintln(w, c.Count, done) }
}

func printQueue(w io.Writer, s queue.StatusAnswer) {
	row := func(name, format string, v ...any) { fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, v...)...) }
	if s.Problem != "" {
		row("problem", "%s", s.Problem)
	}
	row("waiting", "%d", s.Waiting)
	row("in flight", "%d", s.InFlight)
	row("oldest", "%v", s.OldestAge.Round(time.Millisecond))
	row("on disk", "%s of %s", size(s.Bytes), size(uint64(s.MaxBytes)))
	row("dead letters", "%d", s.DeadLetters)
	row("since the start", "%d accepted, %d rejected, %d processed, %d retried, %d dead", s.Accepted, s.Rejected, s.Processed, s.Retried,
		s.Dead)
	row("publish", "half within %.1f ms, 99 %% within %.1f ms", s.Publish.P50, s.Publish.P99)
	row("handle", "half within %.1f ms, 99 %% within %.1f ms", s.Handle.P50, s.Handle.P99)
	if len(s.Lost) > 0 {
		row("damaged on disk", "%d events, from sequence %d on", len(s.Lost), s.Lost[0])
	}
}

// queueText is the state of the queue in a line.
func queueText(s queue.Stats) string {
	text := fmt.Sprintf("%d waiting, %d in flight, %d dead letters, %s of %s", s.Waiting, s.InFlight, s.DeadLetters, size(s.Bytes),
		size(uint64(s.MaxBytes)))
	if len(s.Lost) > 0 {
		text += fmt.Sprintf(", %d damaged on disk", len(s.Lost))
	}
	return text
}

// size is a number of bytes for people, as in 1.2 MiB.
func size(n uint64) string {
	units, i, v := []string{"B", "KiB", "MiB", "GiB", "TiB"}, 0, float64(n)
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%v %s", math.Round(10*v)/10, units[i])
}

func printDead(w io.Writer, d queue.DeadAnswer) {
	fmt.Fprintln(w, "ID\tSEQUENCE\tSINCE\tTRIED\tBYTES\tREASON")
	for _, l := range d.List {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\n", l.ID, l.Sequence, l.Time.UTC().Format(time.RFC3339), l.Deliveries, l.Bytes, l.Reason)
	}
	if d.Next > 0 {
		fmt.Fprintf(w, "and more: --after %d\n", d.Next)
	}
}
