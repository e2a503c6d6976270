package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/base-app/pkg/stack"
)

const (
	keepReports = 20                     // a bad night's worth
	reportQueue = 8                      // ends whose reports wait; more are left out and counted in the log
	reportDelay = 10 * time.Millisecond  // before a report: the new life has the processors for itself
	idleTime    = time.Second            // after start or a report, until the memory for it is given back
	tailTime    = 500 * time.Millisecond // for the last of the output to come
	hookTime    = 10 * time.Second       // for --on-crash
	reportEnd   = 3 * time.Second        // how long the monitor's own end waits for reports
)

// job is a report to be made.
type job struct {
	outcome
	restarts int
	out      *capture
}

// report is a crash report, as it stands in the JSON file.
type report struct {
	Time      time.Time         `json:"time"`
	Reason    reason            `json:"reason"`
	Cause     string            `json:"cause,omitempty"`
	Command   string            `json:"command"` // without its arguments, which may hold secrets
	PID       int               `json:"pid"`
	Code      int               `json:"code"`
	Signal    string            `json:"signal,omitempty"`
	Core      bool              `json:"core_dumped,omitempty"`
	OOM       bool              `json:"out_of_memory"`
	Uptime    float64           `json:"uptime_s"`
	Restarts  int               `json:"restarts"` // before
	Beats     uint64            `json:"beats"`
	Phase     string            `json:"phase,omitempty"`
	Lag       float64           `json:"lag_s"`
	SelfTest  []check           `json:"self_test,omitempty"`
	Stacks    []stack.Goroutine `json:"stacks,omitempty"`
	LastLines []string          `json:"last_lines,omitempty"`
}

// reporter writes crash reports, one after another, beside the supervision.
type reporter struct {
	set     *settings
	print   *printer
	jobs    chan job
	ctx     context.Context
	stop    context.CancelFunc
	done    chan struct{}
	closing chan struct{}
	born    time.Time
}

func newReporter(s *settings, p *printer) *reporter {
	r := &reporter{set: s, print: p, jobs: make(chan job, reportQueue), done: make(chan struct{}), closing: make(chan struct{}),
		born: time.Now()}
	r.ctx, r.stop = context.WithCancel(context.Background())
	go func() {
		defer close(r.done)
		idle := time.NewTimer(idleTime)
		defer idle.Stop()
		for {
			select {
			case j, ok := <-r.jobs:
				if !ok {
					return
				}
				r.giveWay()
				r.make(j)
				idle.Reset(idleTime)
			case <-idle.C:
				shrink()
			}
		}
	}()
	return r
}

// giveWay lets the new life have the processors first.
func (r *reporter) giveWay() {
	timer := time.NewTimer(reportDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.closing:
	}
}

// submit queues a job. If too many wait, the job is left out and that is logged. It does not block.
func (r *reporter) submit(j job) {
	select {
	case r.jobs <- j:
	default:
		r.print.warn("a crash report is left out: others are still being written", "pid", j.pid)
	}
}

// close waits for the submitted reports, for reportEnd at most; then it cuts them short.
func (r *reporter) close() {
	close(r.jobs)
	close(r.closing)
	timer := time.AfterFunc(reportEnd, r.stop)
	defer timer.Stop()
	defer r.stop()
	<-r.done
}

func (r *reporter) make(j job) {
	rep := &report{Time: j.ended.UTC(), Reason: j.reason, Cause: j.cause, Command: r.set.argv[0], PID: j.pid, Code: j.code(),
		Signal: signalName(j.status), Core: j.status.CoreDump(), OOM: j.oom, Uptime: j.lived().Seconds(), Restarts: j.restarts,
		Beats: j.watch.Beats, Phase: string(j.watch.Phase), Lag: j.watch.Lag.Seconds()}
	if j.out != nil {
		ctx, cancel := context.WithTimeout(r.ctx, tailTime)
		lines, trace := j.out.tail(ctx)
		cancel()
		for _, l := range lines {
			rep.LastLines = append(rep.LastLines, stack.Scrub(l))
		}
		rep.Stacks = stack.Parse(trace)
	}
	if r.set.selfTest {
		rep.SelfTest = selfTest(r.set.dataDir, r.born)
	}
	path, err := r.write(rep)
	if err != nil {
		r.print.warn("no crash report", "error", err)
		return
	}
	r.print.warn("crash report", "file", path)
	if r.set.onCrash != "" {
		r.hook(path)
	}
}

// write puts the report into two files and returns the JSON one's path. They are called monitor-… so that the app,
// which keeps its own crashes in the same folder, leaves them alone.
func (r *reporter) write(rep *report) (string, error) {
	dir := filepath.Join(r.set.dataDir, "crashes")
	if err := os.MkdirAll(dir, private); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return "", err
	}
	base := filepath.Join(dir, fmt.Sprintf("monitor-%s-%d", rep.Time.Format("20060102T150405.000Z"), rep.PID))
	err = errors.Join(os.WriteFile(base+".txt", []byte(rep.String()), 0o600), os.WriteFile(base+".json", append(text, '\n'), 0o600))
	if pruned := prune(dir); pruned != nil {
		r.print.warn("old crash reports could not be removed", "error", pruned)
	}
	return base + ".json", err
}

// prune removes all but the newest reports, whose names begin with the time; each is two files, or what is left of them.
func prune(dir string) (err error) {
	entries, err := os.ReadDir(dir)
	var bases []string
	for _, e := range entries {
		base := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".json"), ".txt")
		if strings.HasPrefix(base, "monitor-") && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	for _, base := range bases[:max(0, len(bases)-keepReports)] { // ReadDir sorts by name
		for _, suffix := range []string{".txt", ".json"} {
			if e := os.Remove(filepath.Join(dir, base+suffix)); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// hook runs the user's program with the report's path.
func (r *reporter) hook(path string) {
	ctx, cancel := context.WithTimeout(r.ctx, hookTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.set.onCrash, path)
	cmd.Env = r.set.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		r.print.warn("the program for crashes failed", "program", r.set.onCrash, "error", err)
	}
}

// String is the report for people.
func (rep *report) String() string {
	var b strings.Builder
	row := func(name string, v any) { fmt.Fprintf(&b, "%-10s %v\n", name, v) }
	row("time", rep.Time.Format(time.RFC3339Nano))
	row("reason", strings.TrimSuffix(fmt.Sprintf("%s: %s", rep.Reason, rep.Cause), ": "))
	row("command", rep.Command)
	row("pid", rep.PID)
	row("exit", strings.TrimSpace(fmt.Sprintf("%d %s", rep.Code, rep.Signal)))
	row("oom", rep.OOM)
	row("uptime", time.Duration(rep.Uptime*float64(time.Second)))
	row("restarts", fmt.Sprintf("%d before", rep.Restarts))
	row("beats", fmt.Sprintf("%d, last phase %q", rep.Beats, rep.Phase))
	for _, c := range rep.SelfTest {
		result := map[bool]string{true: "ok  ", false: "FAIL"}[c.OK]
		row("self-test", strings.TrimSpace(fmt.Sprintf("%s %s %s", result, c.Name, c.Text)))
	}
	for _, g := range rep.Stacks {
		fmt.Fprintf(&b, "\ngoroutine %d [%s] %s\n%s\n", g.ID, g.State, g.Worker, g.Text)
	}
	fmt.Fprintf(&b, "\nthe last %d lines of output:\n", len(rep.LastLines))
	for _, l := range rep.LastLines {
		b.WriteString(l + "\n")
	}
	return b.String()
}
