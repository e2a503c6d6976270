package base

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
	"golang.org/x/term"
)

// queueBudget is what the queue may take to write the last ends and close its files. It needs some ten milliseconds.
const queueBudget = 5 * time.Second

// queuePart is the queue's part of the health.
const queuePart = "queue"

// OpenQueue opens the queue that the QUEUE_ settings name, with inFlight events at most on their way through the
// workers. It gets a part in the health, the commands of `app ctl queue`, and is closed at shutdown, when the workers
// have ended. It waits for a cluster, until the shutdown at most.
func (rt *Runtime) OpenQueue(inFlight, maxDeliveries int) (*Events, error) {
	s := &rt.Settings.Queue
	defer rt.opens(0)
	q, err := queue.Open(rt.Context(), queue.Options{Dir: queueDir(rt.Settings), URL: s.URL, Credentials: s.Credentials,
		CA: s.CA, Cert: s.Cert, Key: s.Key, Replicas: s.Replicas, MaxBytes: int64(s.MaxBytes), MaxDeliveries: maxDeliveries, AckWait: s.AckWait, InFlight: inFlight, Log: rt.Log, Opening: rt.opens, Fault: rt.queueFault})
	if err != nil {
		return nil, err
	}
	if err := rt.declareQueue(); err != nil {
		return nil, errors.Join(err, q.Close(rt.Context()))
	}
	rt.Check(queuePart, func() (any, error) { return q.Stats(rt.Context()) })
	rt.OnStop("queue", queueBudget, q.Close)
	rt.mu.Lock()
	rt.queue = q
	rt.mu.Unlock()
	return &Events{q, rt.Telemetry}, nil
}

func queueDir(s *Settings) string { return filepath.Join(s.DataDir, "queue") }

// errNoQueue answers the commands of the queue until it is open.
var errNoQueue = errors.New("the queue is not open yet")

// queueStatus is what the command status answers.
type queueStatus struct {
	queue.Stats
	Problem string `json:"problem,omitempty"` // why it takes no events at present
}

// deadLetters is what the command dead list answers.
type deadLetters struct {
	List []queue.DeadLetter `json:"dead_letters"`
	Next uint64             `json:"next,omitempty"` // for the option --after of the next call; 0: that was all
}

// order is what the commands take that change the queue.
type order struct {
	ID     string `json:"id"` // empty: all
	Reason string `json:"reason"`
}

// counted is what they answer.
type counted struct {
	Count int `json:"count"`
}

// queueCommands registers what the control socket answers about the queue.
func (rt *Runtime) queueCommands(answer func(pattern string, ask func(*http.Request) (any, error))) {
	with := func(pattern string, ask func(*queue.Queue, *http.Request) (any, error)) {
		answer(pattern, func(r *http.Request) (any, error) {
			rt.mu.Lock()
			q := rt.queue
			rt.mu.Unlock()
			if q == nil {
				return nil, errNoQueue
			}
			return ask(q, r)
		})
	}
	with("GET /queue", func(q *queue.Queue, r *http.Request) (any, error) {
		s := queueStatus{}
		var err error
		if s.Stats, err = q.Stats(r.Context()); err != nil {
			s.Problem = err.Error()
		}
		return s, nil
	})
	with("GET /queue/dead", func(q *queue.Queue, r *http.Request) (any, error) {
		after, err1 := strconv.ParseUint(r.FormValue("after"), 10, 64)
		limit, err2 := strconv.Atoi(r.FormValue("limit"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, fault.Usage("%w", err)
		}
		list, next, err := q.DeadLetters(r.Context(), after, limit)
		return deadLetters{list, next}, err
	})
	change := func(pattern, what string, do func(*queue.Queue, context.Context, string) (int, error)) {
		with(pattern, func(q *queue.Queue, r *http.Request) (any, error) {
			var o order
			if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
				return nil, fault.Usage(`the body is no {"id":"…","reason":"…"}: %w`, err)
			}
			n, err := do(q, r.Context(), o.ID)
			if errors.Is(err, queue.ErrUnknown) || err == nil && n == 0 && o.ID != "" {
				return nil, fault.Usage("no dead letter has the id %s", o.ID)
			}
			attrs := []any{"count", n, "reason", o.Reason}
			if o.ID != "" {
				attrs = append(attrs, "id", o.ID)
			}
			if err != nil {
				attrs = append(attrs, "error", err)
			}
			rt.Log.Warn("order: "+what, attrs...)
			return counted{n}, err
		})
	}
	change("POST /queue/dead/replay", "dead letters replayed", (*queue.Queue).Replay)
	change("POST /queue/dead/purge", "dead letters purged", (*queue.Queue).PurgeDead)
	change("POST /queue/purge", "waiting events purged", func(q *queue.Queue, ctx context.Context, _ string) (int, error) { return q.Purge(ctx) })
}

// sure is how somebody says that what can't be undone is meant.
type sure struct {
	Yes    bool   `help:"Don't ask. Needs --reason."`
	Reason string `help:"Why; it stands in the log. Without --yes it is asked for."`
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

// queueCtl is the command line of `app ctl queue`.
type queueCtl struct {
	Status struct{} `cmd:"" help:"How much waits, is in flight, was processed, retried and refused, and how long it takes."`
	Dead   struct {
		List struct {
			After uint64 `help:"The position that the last call ended with."`
			Limit int    `default:"100" help:"How many."`
		} `cmd:"" help:"The events that could not be handled, and why."`
		Replay struct {
			which
			Reason string `help:"Why; it stands in the log. With --all it is asked for."`
		} `cmd:"" help:"Put dead letters back into the queue, as new."`
		Purge struct {
			which
			sure
		} `cmd:"" help:"Delete dead letters."`
	} `cmd:"" help:"The dead letters."`
	Purge struct{ sure } `cmd:"" help:"Delete all events that wait."`
}

// askQueue does the commands of the queue. This file owns what they print.
func (p *program) askQueue(ctx context.Context, client *control.Client, command string, raw bool, c *queueCtl) error {
	switch command {
	case "status":
		return get(ctx, p, client, raw, "/queue", printQueue)
	case "dead list":
		l := c.Dead.List
		query := url.Values{"after": {strconv.FormatUint(l.After, 10)}, "limit": {strconv.Itoa(max(l.Limit, 1))}}
		return get(ctx, p, client, raw, "/queue/dead?"+query.Encode(), printDead)
	case "dead replay", "dead replay <id>":
		d := &c.Dead.Replay
		if err := d.check(); err != nil {
			return err
		}
		if d.All { // whatever was wrong with them is done once more
			if err := why(p.person(), &d.Reason); err != nil {
				return err
			}
		}
		return post(ctx, p, client, raw, "/queue/dead/replay", order{d.ID, d.Reason}, printCount("put back into the queue"))
	case "dead purge", "dead purge <id>":
		d := c.Dead.Purge
		what := "Delete dead letter " + d.ID
		if d.All {
			what = "Delete all dead letters"
		}
		if err := errors.Join(d.which.check(), p.confirm(&d.sure, what)); err != nil {
			return err
		}
		return post(ctx, p, client, raw, "/queue/dead/purge", order{d.ID, d.Reason}, printCount("deleted"))
	case "purge":
		if err := p.confirm(&c.Purge.sure, "Delete all events that wait"); err != nil {
			return err
		}
		return post(ctx, p, client, raw, "/queue/purge", order{Reason: c.Purge.Reason}, printCount("deleted"))
	}
	return fault.Usage("unknown command queue %s", command)
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

func printCount(done string) func(io.Writer, counted) {
	return func(w io.Writer, c counted) { fmt.Fprintln(w, c.Count, done) }
}

func printQueue(w io.Writer, s queueStatus) {
	row := func(name, format string, v ...any) { fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, v...)...) }
	if s.Problem != "" {
		row("problem", "%s", s.Problem)
	}
	row("waiting", "%d", s.Waiting)
	row("in flight", "%d", s.InFlight)
	row("oldest", "%v", s.OldestAge.Round(time.Millisecond))
	row("on disk", "%s of %s", size(s.Bytes), size(uint64(s.MaxBytes)))
	row("dead letters", "%d", s.DeadLetters)
	row("since the start", "%d accepted, %d rejected, %d processed, %d retried, %d dead", s.Accepted, s.Rejected, s.Processed, s.Retried, s.Dead)
	row("publish", "half within %.1f ms, 99 %% within %.1f ms", s.Publish.P50, s.Publish.P99)
	row("handle", "half within %.1f ms, 99 %% within %.1f ms", s.Handle.P50, s.Handle.P99)
	if len(s.Lost) > 0 {
		row("damaged on disk", "%d events, from sequence %d on", len(s.Lost), s.Lost[0])
	}
}

// queueText is the state of the queue in a line.
func queueText(s queue.Stats) string {
	text := fmt.Sprintf("%d waiting, %d in flight, %d dead letters, %s of %s", s.Waiting, s.InFlight, s.DeadLetters, size(s.Bytes), size(uint64(s.MaxBytes)))
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

func printDead(w io.Writer, d deadLetters) {
	fmt.Fprintln(w, "ID\tSEQUENCE\tSINCE\tTRIED\tBYTES\tREASON")
	for _, l := range d.List {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\n", l.ID, l.Sequence, l.Time.UTC().Format(time.RFC3339), l.Deliveries, l.Bytes, l.Reason)
	}
	if d.Next > 0 {
		fmt.Fprintf(w, "and more: --after %d\n", d.Next)
	}
}
