package base

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/zmq"
)

// ctl is the command line of `app ctl`. This file owns what its commands print.
type ctl struct {
	JSON   bool     `name:"json" help:"Print the answer as JSON."`
	Status struct{} `cmd:"" help:"How the app is."`

	Workers      struct{} `cmd:"" help:"Each worker: what it does, since when, how often it was restarted."`
	Sockets      struct{} `cmd:"" help:"Each open socket: whose, and where in the code it was made."`
	Jobs         struct{} `cmd:"" help:"Each job: when it runs, how its last run ended, when the next one is."`
	Dependencies struct{} `cmd:"" help:"Each dependency: how it is, since when, its breaker, its last error."`
	Loglevel     struct {
		Level string `arg:"" optional:"" help:"debug, info, warn or error; without one, the present level is shown."`
	} `cmd:"" help:"Show or change the log level. It lasts until the app ends."`
	Queue queueCtl `cmd:"" help:"The events: how many, and those that could not be handled."`
	Chaos chaosCtl `cmd:"" help:"Make something fail on purpose, to see what the app does."`
	Dump  struct{} `cmd:"" help:"Write a state dump to the log and the data folder, without stopping the app."`
}

// ask does the commands that talk to the running app.
func (p *program) ask(command string, c *commands) error {
	if _, err := p.load(); err != nil {
		if command == "health" { // a probe knows only healthy and not
			return fmt.Errorf("the settings are wrong, app config says more")
		}
		return err
	}
	s := p.cfg.settings()
	ctx := context.Background() // every call has a deadline of its own, and Ctrl-C ends the process
	if command == "health" {
		return p.probe(ctx, s, c.Health.Timeout)
	}
	client := control.NewClient(s.Control.Socket)
	if rest, ok := strings.CutPrefix(command, "ctl queue "); ok {
		return p.askQueue(ctx, client, rest, c.Ctl.JSON, &c.Ctl.Queue)
	}
	if rest, ok := strings.CutPrefix(command, "ctl chaos "); ok {
		return p.askChaos(ctx, client, rest, c.Ctl.JSON, &c.Ctl.Chaos)
	}
	switch command {
	case "ctl status":
		return get(ctx, p, client, c.Ctl.JSON, "/status", printStatus)
	case "ctl workers":
		return get(ctx, p, client, c.Ctl.JSON, "/workers", printWorkers)
	case "ctl sockets":
		return get(ctx, p, client, c.Ctl.JSON, "/sockets", printSockets)
	case "ctl jobs":
		return get(ctx, p, client, c.Ctl.JSON, "/jobs", printJobs)
	case "ctl dependencies":
		return get(ctx, p, client, c.Ctl.JSON, "/dependencies", printDependencies)
	case "ctl loglevel":
		return get(ctx, p, client, c.Ctl.JSON, "/loglevel", func(w io.Writer, l level) { fmt.Fprintln(w, l.Level) })
	case "ctl loglevel <level>":
		return post(ctx, p, client, c.Ctl.JSON, "/loglevel", level{c.Ctl.Loglevel.Level}, func(w io.Writer, l level) { fmt.Fprintln(w, l.Level) })
	case "ctl dump":
		return post(ctx, p, client, c.Ctl.JSON, "/dump", nil, func(w io.Writer, d dumped) { fmt.Fprintln(w, d.File) })
	}
	return fault.Usage("unknown command %s", command)
}

func get[T any](ctx context.Context, p *program, c *control.Client, raw bool, path string, print func(io.Writer, T)) error {
	var v T
	if err := c.Get(ctx, path, &v); err != nil {
		return err
	}
	return show(p.out, raw, v, print)
}

func post[T any](ctx context.Context, p *program, c *control.Client, raw bool, path string, in any, print func(io.Writer, T)) error {
	var v T
	if err := c.Post(ctx, path, in, &v); err != nil {
		return err
	}
	return show(p.out, raw, v, print)
}

func show[T any](out io.Writer, raw bool, v T, print func(io.Writer, T)) error {
	if !raw {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		print(w, v)
		return w.Flush()
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printStatus(w io.Writer, s status) {
	row := func(name string, v any) { fmt.Fprintf(w, "%s\t%v\n", name, v) }
	row("app", strings.TrimSpace(s.App+" "+s.Version+" "+s.Commit))
	row("device", strings.TrimSpace(s.Device+" "+s.Deployment))
	row("status", s.Status)
	for _, problem := range s.Problems {
		row("problem", problem)
	}
	row("pid", s.PID)
	row("restarts", fmt.Sprintf("%d by the monitor", s.Restarts))
	row("uptime", time.Duration(s.Uptime*float64(time.Second)).Round(time.Second))
	row("listens", s.Listens)
	if s.TLS != nil {
		row("certificate", fmt.Sprintf("%s, expires %s", s.TLS.Subject, s.TLS.Expires.Format(time.DateOnly)))
	}
	row("log level", s.LogLevel)
	row("logs", s.Logs)
	row("log lines lost", fmt.Sprintf("%d dropped by syslog, %d repeats and %d by LOG_SAMPLE left out, %d cut", s.LogStats.Dropped, s.LogStats.Suppressed, s.LogStats.Sampled, s.LogStats.Truncated))
	var names []string
	for name, state := range s.Workers {
		names = append(names, name+" ("+string(state)+")")
	}
	slices.Sort(names)
	row("workers", strings.Join(names, ", "))
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		row(name, partText(name, s.Parts[name]))
	}
}

// partText is what people read of a part of the health: a sentence if the part is ours, else what came.
func partText(name string, part any) string {
	if text, ok := part.(string); ok {
		return text
	}
	text, _ := json.Marshal(part) // it came as JSON
	var s queue.Stats
	if name == queuePart && json.Unmarshal(text, &s) == nil {
		return queueText(s)
	}
	return string(text)
}

func printWorkers(w io.Writer, list []nanny.Status) {
	fmt.Fprintln(w, "WORKER\tSTATE\tFOR\tBEATS\tRESTARTS\tWAITS IN\tLAST ERROR")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%v\t%d\t%d\t%s\t%s\n", s.Name, s.State, time.Since(s.Since).Round(time.Second), s.Beats, s.Restarts, cmp.Or(s.Waits, "-"), cmp.Or(s.Error, "-"))
	}
}

func printSockets(w io.Writer, list []zmq.SocketInfo) {
	fmt.Fprintln(w, "ID\tTYPE\tENDPOINT\tOWNER\tMADE AT\tAGE\tSENT\tRECEIVED\tPEERS\tBLOCKED")
	for _, s := range list {
		way := "connect"
		if s.Bound {
			way = "bind"
		}
		fmt.Fprintf(w, "%d\t%s %s\t%s\t%s\t%s\t%v\t%d\t%d\t%d\t%s\n", s.ID, s.Type, way, s.Endpoint, cmp.Or(s.Owner, "-"), s.Origin,
			time.Since(s.Opened).Round(time.Second), s.Sent, s.Received, s.Peers, cmp.Or(s.Blocked, "-"))
	}
}

// maxHealth bounds the answer that a probe reads.
const maxHealth = 1 << 20

// probe asks /healthz, as an outside observer would.
func (p *program) probe(ctx context.Context, s *Settings, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addr := s.Web.Addr
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.scheme()+"://"+reachable(addr)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	dialer := net.Dialer{Timeout: timeout}
	client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext, TLSClientConfig: s.knows(ctx)}}
	answer, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the app does not answer: %w", err)
	}
	defer answer.Body.Close()
	var h health
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxHealth)).Decode(&h); err != nil {
		return fmt.Errorf("something that is not this app answers at %s: %w", addr, err)
	}
	if answer.StatusCode != http.StatusOK || h.Status == "degraded" {
		return fmt.Errorf("the app is %s: %s", h.Status, strings.Join(h.Problems, "; "))
	}
	fmt.Fprintf(p.out, "%s, up %v\n", h.Status, time.Duration(h.Uptime*float64(time.Second)).Round(time.Second))
	return nil
}

// reachable turns an address to listen on into one to call: all addresses include the loopback one.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
