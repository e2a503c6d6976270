package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// median of durations, as a metric.
func report1(b *testing.B, name string, list []time.Duration) time.Duration {
	b.Helper()
	slices.Sort(list)
	m := list[len(list)/2]
	b.ReportMetric(float64(m.Microseconds())/1000, name)
	return m
}

// lives is a pipe with a name through which each life of a small program tells that it has begun.
type lives struct {
	path string
	r    *bufio.Reader
}

func newLives(b *testing.B) *lives {
	b.Helper()
	l := &lives{path: filepath.Join(folder(b), "lives")}
	if err := syscall.Mkfifo(l.path, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	l.r = bufio.NewReader(f)
	return l
}

// argv is the program: as small as one that can tell is.
func (l *lives) argv() []string {
	return []string{"/bin/sh", "-c", "echo $$ >" + l.path + "; exec sleep 1000"}
}

func (l *lives) next(b *testing.B) (pid int) {
	b.Helper()
	line, err := l.r.ReadString('\n')
	if _, e := fmt.Sscan(line, &pid); err != nil || e != nil {
		b.Fatal(err, e)
	}
	return pid
}

func monitorFor(b *testing.B, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command("monitor", args...)
	cmd.Dir, cmd.Env = folder(b), environment()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// Kill -9 of the program until it runs again, beside a bare fork and exec of the same program, one after the other.
func BenchmarkCrashToRestart(b *testing.B) {
	// After the report is written, and after the monitor has given its memory back.
	b.Run("busy", func(b *testing.B) { crashToRestart(b, 20*time.Millisecond) })
	b.Run("idle", func(b *testing.B) { crashToRestart(b, 3*idleTime/2) })
}

func crashToRestart(b *testing.B, gap time.Duration) {
	l := newLives(b)
	monitorFor(b, append([]string{"-t", "0", "--backoff", "0", "--budget", "1000000/60s", "--"}, l.argv()...)...)
	pid := l.next(b)
	var bare, death, restart []time.Duration
	env := environment()
	for b.Loop() {
		begin := time.Now()
		p, err := syscall.ForkExec("/bin/sh", l.argv(), &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}})
		if err != nil {
			b.Fatal(err)
		}
		if have := l.next(b); have != p {
			b.Fatal(have, p)
		}
		bare = append(bare, time.Since(begin))
		begin = time.Now()
		_ = syscall.Kill(p, syscall.SIGKILL)
		_, _ = syscall.Wait4(p, nil, 0, nil)
		death = append(death, time.Since(begin))

		begin = time.Now()
		_ = syscall.Kill(pid, syscall.SIGKILL)
		pid = l.next(b)
		restart = append(restart, time.Since(begin))
		time.Sleep(gap)
	}
	r, s := report1(b, "restart-ms", restart), report1(b, "bare-ms", bare)
	report1(b, "death-ms", death) // which is part of the restart, and of no supervisor's making
	b.ReportMetric(float64(r)/float64(s), "ratio")
}

// TERM to the monitor until it and a program that obeys are gone.
func BenchmarkTermToGone(b *testing.B) {
	l := newLives(b)
	var list []time.Duration
	for b.Loop() {
		cmd := monitorFor(b, append([]string{"-t", "0", "--"}, l.argv()...)...)
		pid := l.next(b)
		time.Sleep(20 * time.Millisecond)
		begin := time.Now()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		list = append(list, time.Since(begin))
		if alive(pid) {
			b.Fatal("the program is left")
		}
	}
	report1(b, "term-ms", list)
}

// The monitor itself, while a program beats twice a second: memory, and wake-ups of its threads for each beat.
func BenchmarkIdle(b *testing.B) {
	for _, c := range []struct{ name, timeout string }{{"beats", "1"}, {"silence", "0"}} {
		b.Run(c.name, func(b *testing.B) {
			program := []string{"sleep", "1000"}
			if c.timeout != "0" {
				program = []string{"puppet", "beat:500ms", "hang"}
			}
			cmd := monitorFor(b, append([]string{"-t", c.timeout, "--startup-grace", "5", "--"}, program...)...)
			time.Sleep(3 * time.Second)
			before, cpu := switches(b, cmd.Process.Pid), ticks(b, cmd.Process.Pid)
			const span = 6 * time.Second
			for b.Loop() {
				time.Sleep(span)
			}
			n := float64(b.N) * span.Seconds()
			b.ReportMetric(float64(switches(b, cmd.Process.Pid)-before)/n, "wakeups/s")
			b.ReportMetric(float64(ticks(b, cmd.Process.Pid)-cpu)/n, "cpu-%")
			b.ReportMetric(float64(pss(b, cmd.Process.Pid))/1024, "PSS-MiB")
		})
	}
}

func switches(b *testing.B, pid int) (n int) {
	b.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for line := range strings.Lines(string(text)) {
			var k int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &k); err == nil {
				n += k
			}
		}
	}
	return n
}

// ticks is the processor time in hundredths of a second.
func ticks(b *testing.B, pid int) (n int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system int
	_, _ = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	return user + system
}

func pss(b *testing.B, pid int) (kib int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}
