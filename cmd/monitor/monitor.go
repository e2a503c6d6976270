package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/zmq"
)

// endTime is how long the end waits for sockets to be closed. They are local and wait for nobody.
const endTime = time.Second

// monitor is one run of the program.
type monitor struct {
	set     settings
	print   *printer
	stdout  *sink
	stderr  *sink
	lock    *lock
	env     []string // for the program, but for what each restart changes
	signals chan os.Signal
	orders  chan order
	panics  chan string   // orders of the original's kind
	sooner  chan struct{} // a beat has made the next deadline earlier
	over    chan struct{}
	reports *reporter
	oom     *oomCounter

	mu    sync.Mutex // guards watch, which receiveBeats and the supervising goroutine share
	watch heartbeat.Watch

	// The supervising goroutine's own.
	restarts   *restarts
	counts     map[reason]int
	lastReason string
	pending    *job     // the report of the last end, handed over when the next start is done
	lastLines  func()   // prints the lines about the last end, likewise; nil if there is nothing to print
	out        *capture // of the last life
	next       *outlets
	stdin      *os.File
}

// watchOver sets everything up, supervises, and clears up. It returns the exit code.
func watchOver(s settings) int {
	m := &monitor{set: s, signals: make(chan os.Signal, 16), orders: make(chan order),
		panics: make(chan string, 1), sooner: make(chan struct{}, 1), over: make(chan struct{}),
		restarts: newRestarts(s.budget, s.backoff), counts: map[reason]int{}, oom: newOOMCounter()}
	m.stdout, m.stderr = newSinks(s.std.out, s.std.err)
	m.watch = heartbeat.Watch{Timeout: s.timeout, Misses: s.misses, Startup: s.startup}
	// PIPE too: the program stays when the reader of our output goes.
	signal.Notify(m.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(m.signals, syscall.SIGHUP)
	}
	defer signal.Stop(m.signals)
	defer m.oom.close()

	l, last, err := acquireLock(besides(s.heartbeat, s.dataDir, ".lock"))
	if err != nil {
		return refuse(s, err)
	}
	m.lock = l
	defer l.f.Close()
	killed := last.leftovers()
	m.lock.save(nil)

	if m.print, err = newPrinter(&m.set, m.stdout, m.stderr); err != nil {
		return refuse(s, err)
	}
	code, err := m.serve(killed)
	m.print.close()
	if err != nil {
		return refuse(s, err)
	}
	return code
}

// refuse prints why the monitor does not run and returns the exit code. It waits for printEnd at most.
func refuse(s settings, err error) int {
	bounded(printEnd, func() { fail(s.std.err, err) })
	return fault.ExitCode(err)
}

// serve opens the addresses and supervises the program until that is over.
func (m *monitor) serve(killed int) (code int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := m.print.log.Logger().With("worker", "monitor")
	sockets := zmq.NewContext(zmq.Options{MaxMessage: maxMessage, Log: log})
	beats, err := sockets.Bind(ctx, zmq.Pull, m.set.heartbeat)
	if err != nil {
		return 0, explainAddress(err)
	}
	defer beats.Close()
	commands, err := sockets.Bind(ctx, zmq.Pull, m.set.command)
	if err != nil {
		return 0, explainAddress(err)
	}
	defer commands.Close()
	path := besides(m.set.command, m.set.dataDir, ".ctl")
	if err := os.MkdirAll(filepath.Dir(path), private); err != nil {
		return 0, fault.Config("choose another --data-dir", err)
	}
	ctl, err := control.Listen(control.Options{Path: path, Log: log})
	if err != nil {
		return 0, fault.Config("choose another --command-addr", err)
	}
	m.register(ctl)
	m.reports = newReporter(&m.set, m.print)
	m.env = without(m.environment(beats.Endpoint()), heartbeat.EnvRestarts, heartbeat.EnvLastReason)
	if m.stdin, err = input(m.set.std.in); err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	defer m.clear()
	if killed > 0 {
		m.print.warn("killed what a former monitor had left", "processes", killed)
	}

	var tasks sync.WaitGroup
	tasks.Go(func() { m.receiveBeats(ctx, beats) })
	tasks.Go(func() { m.obey(ctx, commands) })
	tasks.Go(func() { _ = ctl.Serve(ctx) })
	done := make(chan struct{})
	go func() { // a thread of its own, which spawn relies on
		defer close(done)
		runtime.LockOSThread()
		code, err = m.supervise()
	}()
	<-done
	m.lock.save(nil)
	if m.out != nil { // pass on the rest of the program's output, if somebody reads it
		bounded(drainTime+printEnd, func() { <-m.out.drained })
	}
	m.reports.close()
	close(m.over)
	cancel()
	bounded(endTime, tasks.Wait)
	return code, err
}

// clear closes what supervise had opened for the next life.
func (m *monitor) clear() {
	if m.next != nil {
		m.next.closeOurs(true)
	}
	if m.stdin != m.set.std.in {
		m.stdin.Close()
	}
}

// explainAddress adds a hint to the error of an address that is in use or can't be opened.
func explainAddress(err error) error {
	if fault.Hint(err) != "" {
		return err
	}
	return fault.Config("stop the other monitor, or choose other addresses (-b, -c); the folder must exist", err)
}

// bounded calls f and waits for it, for d at most. It returns whether f has returned.
func bounded(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// environment returns the program's environment: the monitor's own, the heartbeat address, and settings that make a Go
// program print all its stacks when it crashes.
func (m *monitor) environment(beats string) []string {
	if path, ok := strings.CutPrefix(beats, "ipc://"); ok {
		const longest = 107 // sun_path, less its closing zero
		if abs, err := filepath.Abs(path); err == nil && len(abs) <= longest {
			beats = "ipc://" + abs // the program may change its folder
		}
	}
	env := m.set.env
	if m.set.timeout > 0 {
		env = with(env, heartbeat.EnvAddr, beats)
		env = with(env, heartbeat.EnvEvery, (m.set.timeout / 2).String())
	}
	if lookup(env, "GOTRACEBACK") == "" {
		env = with(env, "GOTRACEBACK", "all")
	}
	if debug := lookup(env, "GODEBUG"); !strings.Contains(debug, "tracebacklabels=") {
		env = with(env, "GODEBUG", strings.TrimPrefix(debug+",tracebacklabels=1", ","))
	}
	return env
}

// start starts the program. Whatever can wait comes after the fork.
func (m *monitor) start() (*child, error) {
	n := m.total()
	o, err := m.next, error(nil)
	if m.next = nil; o == nil {
		o, err = newOutlets()
	}
	var c *child
	if err == nil {
		env := append(m.env[:len(m.env):len(m.env)], heartbeat.EnvRestarts+"="+strconv.Itoa(n),
			heartbeat.EnvLastReason+"="+m.lastReason)
		c, err = spawn(&m.set, env, m.stdin, o, m.out, m.stdout, m.stderr)
	}
	m.printLast()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.watch.Start(c.started, c.pid)
	m.mu.Unlock()
	m.out = c.out
	m.lock.save(c)
	m.oom.mark()
	m.print.blank()
	m.print.running(strings.Join(m.set.argv, " "), c.pid, n)
	select { // an order that came before this start was for the life before
	case <-m.panics:
	default:
	}
	m.next, _ = newOutlets() // after an error the next start tries again
	return c, nil
}

// printLast prints the lines about the last end. They come after the restart, which must not wait for them.
func (m *monitor) printLast() {
	if m.lastLines != nil {
		m.lastLines()
		m.lastLines = nil
	}
}

func (m *monitor) total() int { return m.counts[dying] + m.counts[neverDying] + m.counts[aberrant] }

// supervise starts the program again and again until it needn't or mustn't be. It returns the exit code.
func (m *monitor) supervise() (int, error) {
	for first := true; ; first = false {
		c, err := m.start()
		if first && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC)) {
			return 0, fault.Config("check the command after --", err)
		}
		m.submit()
		o := notStarted(err)
		if err == nil {
			o = m.attend(c)
		}
		if o.stopped || o.reason == "" {
			m.print.exiting(o.code())
			return o.code(), nil
		}
		m.lastLines = func() { m.print.ended(o) }
		m.lastReason = string(o.reason) + ": " + o.String()
		m.pending = &job{outcome: o, restarts: m.total(), out: o.out}
		if code := o.code(); o.reason == dying && (code == fault.ExitConfig || code == fault.ExitUsage) {
			m.printLast()
			m.submit()
			m.print.exiting(code)
			return code, nil
		}
		pause, ok := m.restarts.next(o.started, time.Now(), o.reason == aberrant)
		if !ok {
			m.printLast()
			m.submit()
			m.print.budgetSpent(m.set.budget)
			code := o.code()
			if code == fault.ExitClean { // it exited 0 when it was asked for its stacks, but it had hung
				code = exitCode(syscall.WaitStatus(syscall.SIGKILL))
			}
			m.print.exiting(code)
			return code, nil
		}
		m.counts[o.reason]++
		counts := maps.Clone(m.counts)
		m.lastLines = func() { m.print.ended(o); m.print.restarting(pause, counts) }
		if pause > 0 && m.pauseFor(pause) {
			m.print.exiting(fault.ExitClean)
			return fault.ExitClean, nil
		}
	}
}

// submit hands the last end's report to the reporter. It is called after the next start, which must not wait for it.
func (m *monitor) submit() {
	if m.pending != nil {
		m.reports.submit(*m.pending)
		m.pending = nil
	}
}

// pauseFor waits before a restart. It returns true if the monitor is told to stop instead.
func (m *monitor) pauseFor(pause time.Duration) (stop bool) {
	m.printLast()
	m.lock.save(nil)
	m.submit()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return false
		case s := <-m.signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT {
				return true
			}
		case o := <-m.orders:
			switch o.what {
			case "status":
				o.reply <- answer{Status: m.status(nil, "pausing")}
			case "stop":
				m.print.order(o.what, o.reason, "control socket")
				o.reply <- answer{Text: "stopping; no program runs"}
				return true
			default:
				o.reply <- answer{err: errors.New("no program runs: it is about to be started again")}
			}
		}
	}
}

// status describes the program; c is nil between two lives.
func (m *monitor) status(c *child, state string) *status {
	m.mu.Lock()
	w := m.watch.Status()
	m.mu.Unlock()
	counts := map[reason]int{dying: 0, neverDying: 0, aberrant: 0}
	for r, n := range m.counts {
		counts[r] = n
	}
	s := &status{State: state, Command: strings.Join(m.set.argv, " "), Restarts: m.total(), Reasons: counts,
		LastReason: m.lastReason, Dropped: m.print.dropped.Load(), Monitor: os.Getpid()}
	if c != nil {
		s.PID, s.Uptime = c.pid, time.Since(c.started).Seconds()
		s.Phase, s.Beats, s.Missed, s.Lag = string(w.Phase), w.Beats, w.Missed, w.Lag.Seconds()
	}
	return s
}

func notStarted(err error) outcome {
	const cannotRun = 126 // as shells say
	now := time.Now()
	return outcome{reason: dying, cause: fmt.Sprint(err), status: syscall.WaitStatus(cannotRun << 8), started: now, ended: now}
}
