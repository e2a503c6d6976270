package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/zmq"
)

// The commands that show the runtime, and what they print.
type (
	statusCommand       struct{}
	workersCommand      struct{}
	socketsCommand      struct{}
	dependenciesCommand struct{}
	dumpCommand         struct{}
	loglevelCommand     struct {
		Level string `arg:"" optional:"" help:"debug, info, warn or error; without one, the present level is shown."`
	}
)

// Run shows how the app is.
func (statusCommand) Run(p *program, c *ctl) error { return get(p, c, "/status", printStatus) }

// Run shows the workers.
func (workersCommand) Run(p *program, c *ctl) error { return get(p, c, "/workers", printWorkers) }

// Run shows the sockets.
func (socketsCommand) Run(p *program, c *ctl) error { return get(p, c, "/sockets", printSockets) }

// Run shows the dependencies.
func (dependenciesCommand) Run(p *program, c *ctl) error {
	return get(p, c, "/dependencies", printDependencies)
}

// Run writes a state dump, and prints where.
func (dumpCommand) Run(p *program, c *ctl) error {
	return post(p, c, "/dump", nil, func(w io.Writer, d base.Dumped) { fmt.Fprintln(w, d.File) })
}

// Run shows or changes the level.
func (l *loglevelCommand) Run(p *program, c *ctl) error {
	print := func(w io.Writer, l logging.LevelAnswer) { fmt.Fprintln(w, l.Level) }
	if l.Level == "" {
		return get(p, c, "/loglevel", print)
	}
	return post(p, c, "/loglevel", logging.LevelAnswer{Level: l.Level}, print)
}

func printStatus(w io.Writer, s base.Status) {
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
	row("log lines lost", fmt.Sprintf("%d dropped by syslog, %d repeats and %d by LOG_SAMPLE left out, %d cut", s.LogStats.Dropped,
		s.LogStats.Suppressed, s.LogStats.Sampled, s.LogStats.Truncated))
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
	if name == base.QueuePart && json.Unmarshal(text, &s) == nil {
		return queueText(s)
	}
	return string(text)
}

func printWorkers(w io.Writer, list []nanny.Status) {
	fmt.Fprintln(w, "WORKER\tSTATE\tFOR\tBEATS\tRESTARTS\tWAITS IN\tLAST ERROR")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%v\t%d\t%d\t%s\t%s\n", s.Name, s.State, time.Since(s.Since).Round(time.Second), s.Beats, s.Restarts,
			cmp.Or(s.Waits, "-"), cmp.Or(s.Error, "-"))
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

// printDependencies is what `app ctl dependencies` prints.
func printDependencies(w io.Writer, list []dependency.Health) {
	if len(list) == 0 {
		fmt.Fprintln(w, "the app has registered no dependency")
		return
	}
	fmt.Fprintln(w, "DEPENDENCY\tSTATE\tFOR\tBREAKER\tREQUIRED\tCALLS\tFAILED\tREFUSED\tIN FLIGHT\tLAST ERROR")
	for _, d := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\t%d\t%d of %d\t%d\t%d\t%s\n", d.Name, d.State, time.Since(d.Since).Round(time.Second), d.Breaker,
			d.Required,
			d.Calls, d.Failures, d.Tries, d.Refused, d.InFlight, cmp.Or(d.LastError, "-"))
	}
}
