// Package logging is where the lines of the whole process go: log/slog in front, a console or JSON line on
// standard output, and syslog in addition where it is wanted.
//
//	slog.Logger ─► level ─► sample ─► worker, context and hint ─► repeats ─┬─► Observe
//	                                                                       ├─► console or JSON ─► Out
//	                                                                       └─► RFC 5424 ─► queue ─► syslog (background)
//
// What it promises: each record is one line of at most 4 KiB, whatever is in it; each line says which app and
// worker it is from; in JSON and syslog also from which device, version, commit and deployment. A top-level key
// stands once in a line: the later attribute wins, and one that is called like a field of ours gets a trailing
// underscore (version_). Logging never waits for syslog, and what syslog does not get is counted. A line that
// repeats is logged with the number of its repeats; errors are never left out. With Options.Sample only some of the lines
// below WARN pass, and the number of the others is logged.
//
// What it does not do: hide secrets (give such a type a LogValue method), rotate or write files (whatever
// reads standard output does), or protect the caller from a standard output that is not read: that write blocks.
package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"example.com/base-app/pkg/fault"
)

// Options are what is logged, by which app, and where to. The zero Options logs from info on to standard output.
type Options struct {
	// App, Device, Deployment, Version and Commit stand in each line (on the console only App), cut to 128 bytes.
	// Empty ones are left out.
	App, Device, Deployment, Version, Commit string

	Level  slog.Level // the configured level, in force from Started on; until then it is debug
	Format string     // "console", "json", or "auto" (also ""): console if Out is a terminal, else json

	// Syslog is where a copy of each record goes: udp://host:514, tcp://host:601 (these are the default ports),
	// unix:///dev/log, or "off". Empty means /dev/log if that is a socket, else nowhere.
	Syslog string

	// Observe is called with each record before it is written, with the record's own context, flat and with the worker first:
	// it makes reports of errors. It must not block, and not log. Nil: not called.
	Observe func(context.Context, slog.Record)

	// Sample thins out what is logged below WARN: of the lines with the same level and message, whatever their attributes,
	// so many in each minute pass, and beyond that one in so many. The number of the others is logged when the minute ends.
	// 0 lets all pass.
	Sample int

	Out io.Writer // nil means os.Stdout. A terminal gets colours, unless NO_COLOR is set or TERM is dumb
}

// Log owns the outputs. Its methods may be called from any goroutine.
type Log struct {
	logger  *slog.Logger
	out     slog.Handler                       // Out alone
	all     slog.Handler                       // Out and syslog
	observe func(context.Context, slog.Record) // nil: not called
	sample  *quota                             // nil without
	dedup   *quota
	syslog  *sender // nil without syslog
	outputs string

	min        slog.LevelVar // the level in force
	mu         sync.Mutex    // guards the two below
	configured slog.Level
	decided    bool // somebody has chosen the level: start-up's debug is over

	gate sync.RWMutex // held for reading while a record is written
	last bool         // Last was called: nothing more is written

	truncated atomic.Uint64
	closing   sync.Once
	closeErr  error
}

// New returns a Log at level debug (see Started). It does not block: syslog is dialled in the background. Its
// errors are of fault.KindConfig and name the setting, SYSLOG_ADDRESS or LOG_FORMAT. The Log must be closed.
func New(o Options) (*Log, error) {
	if o.Out == nil {
		o.Out = os.Stdout
	}
	address, err := parseAddress(o.Syslog, isSocket(devLog))
	if err != nil {
		return nil, err
	}
	format, err := chooseFormat(o.Format, o.Out)
	if err != nil {
		return nil, err
	}
	id := identity{app: name(o.App), rest: fields(
		"device", o.Device, "version", o.Version, "commit", o.Commit, "deployment", o.Deployment)}

	l := &Log{configured: o.Level, observe: o.Observe, outputs: format + " to " + writerName(o.Out)}
	l.min.Set(slog.LevelDebug)
	l.out = newJSON(o.Out, id, &l.truncated)
	if format == "console" {
		l.out = newConsole(o.Out, id, wantsColour(o.Out), &l.truncated)
	}
	l.all = slog.NewMultiHandler(l.out)
	if address == nil {
		l.outputs += ", no syslog"
	} else {
		l.outputs += ", syslog to " + address.String()
		l.syslog = newSender(address.String(), address.dial, l.notice)
		l.all = slog.NewMultiHandler(l.out, newSyslog(l.syslog, id, name(o.Device), &l.truncated))
	}
	l.sample = newSample(o.Sample, l.logLeftOut("lines left out by LOG_SAMPLE"))
	l.dedup = newDedup(l.logLeftOut("repeated lines left out"))
	l.logger = slog.New(&front{log: l})
	return l, nil
}

// Logger returns the logger that writes to all outputs. It is valid for ever.
func (l *Log) Logger() *slog.Logger { return l.logger }

// Std returns a logger for those who want a *log.Logger, such as http.Server's ErrorLog: each message becomes a
// record at level with the attribute component.
func (l *Log) Std(component string, level slog.Level) *log.Logger {
	return slog.NewLogLogger(l.logger.With("component", component).Handler(), level)
}

// Started ends start-up: from debug to the configured level. It does so once, and not if SetLevel or ToggleDebug
// chose a level meanwhile.
func (l *Log) Started() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.decided {
		l.decide(l.configured)
	}
}

// Level returns the level in force.
func (l *Log) Level() slog.Level { return l.min.Level() }

// SetLevel puts level in force. The configured level, to which ToggleDebug returns, stays.
func (l *Log) SetLevel(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decide(level)
}

// ToggleDebug goes from any level to debug, and from debug to the configured level, or to info if debug is the
// configured one. It returns the level now in force.
func (l *Log) ToggleDebug() slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := slog.LevelDebug
	if l.min.Level() <= slog.LevelDebug {
		next = l.configured
		if next <= slog.LevelDebug {
			next = slog.LevelInfo
		}
	}
	l.decide(next)
	return next
}

func (l *Log) decide(level slog.Level) {
	l.decided = true
	l.min.Set(level)
}

// Outputs returns for people where the lines go, as in "json to stdout, syslog to unix:///dev/log".
func (l *Log) Outputs() string { return l.outputs }

// Stats counts what did not arrive as it was logged, since New.
type Stats struct {
	Sent       uint64 // records that were handed to syslog's socket
	Dropped    uint64 // records that syslog did not get
	Suppressed uint64 // repeated lines that were left out
	Sampled    uint64 // lines that the sample left out
	Truncated  uint64 // lines that were cut to 4 KiB; a record that two outputs cut counts twice
}

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	s := Stats{Suppressed: l.dedup.count(), Sampled: l.sample.count(), Truncated: l.truncated.Load()}
	if l.syslog != nil {
		s.Sent, s.Dropped = l.syslog.sent(), l.syslog.dropped()
	}
	return s
}

// ReportLeftOut logs at once how many lines were left out, as repeats or by the sample. From then on none is. It is for the
// end of a process, whose last line shall be another.
func (l *Log) ReportLeftOut() {
	l.sample.close()
	l.dedup.close()
}

// Last logs a record as the last one: whatever is logged later, or at the same time, is not written. It blocks as long as an
// output does.
func (l *Log) Last(level slog.Level, msg string, args ...any) {
	l.ReportLeftOut()
	l.gate.Lock() // when those that are being written are
	l.last = true
	l.gate.Unlock()
	l.logger.Log(context.WithValue(context.Background(), lastKey{}, true), level, msg, args...)
}

type lastKey struct{}

func (l *Log) write(ctx context.Context, to slog.Handler, r slog.Record) error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.last && ctx.Value(lastKey{}) == nil {
		return nil
	}
	return to.Handle(ctx, r)
}

// Close logs what was left out, hands what is queued to syslog and ends it; it blocks until that is done
// or ctx ends. Its error has the number of records that were not delivered. Later records still go to Out, none of them left
// out, unless Last was called. Only the first call acts; the others return its result.
func (l *Log) Close(ctx context.Context) error {
	l.closing.Do(func() {
		l.ReportLeftOut()
		if l.syslog != nil {
			l.closeErr = l.syslog.close(ctx)
		}
	})
	return l.closeErr
}

// notice logs about syslog itself, to Out only.
func (l *Log) notice(msg string, attrs ...slog.Attr) {
	if l.min.Level() > slog.LevelWarn {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, msg, 0)
	r.AddAttrs(slog.String(workerKey, "syslog"))
	r.AddAttrs(attrs...)
	_ = l.write(context.Background(), l.out, r) // if standard output fails there is nowhere to log it
}

// logLeftOut returns a function that logs, as what, how many lines were left out.
func (l *Log) logLeftOut(what string) func(leftOut) {
	return func(o leftOut) {
		if l.min.Level() > o.level {
			return
		}
		r := slog.NewRecord(time.Now(), o.level, what, 0)
		r.AddAttrs(slog.String(workerKey, o.worker), slog.String("line", o.message), slog.Uint64("count", o.count))
		_ = l.write(context.Background(), l.all, r)
	}
}

// ParseLevel returns the level called debug, info, warn or error, in any case. Its error names the four.
func ParseLevel(s string) (slog.Level, error) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(s, level.String()) {
			return level, nil
		}
	}
	return 0, errors.New("logging: level: want debug, info, warn or error")
}

func chooseFormat(format string, out io.Writer) (string, error) {
	switch format {
	case "console", "json":
		return format, nil
	case "", "auto":
		if isTerminal(out) {
			return "console", nil
		}
		return "json", nil
	}
	return "", fault.Config("set LOG_FORMAT to console, json or auto", errors.New("logging: LOG_FORMAT: unknown format"))
}

func wantsColour(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // https://no-color.org
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn() // Fd would switch the file to blocking mode
	if err != nil {
		return false
	}
	is := false
	err = raw.Control(func(fd uintptr) { is = term.IsTerminal(int(fd)) })
	return err == nil && is
}

func writerName(out io.Writer) string {
	switch f, ok := out.(*os.File); {
	case !ok:
		return fmt.Sprintf("%T", out)
	case f == os.Stdout:
		return "stdout"
	case f == os.Stderr:
		return "stderr"
	default:
		return f.Name()
	}
}
