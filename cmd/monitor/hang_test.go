package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/stack"
)

// A silent program is dealt with in at most 1.5 × the allowed silence, whether it is busy, waits or is stopped.
func TestAHangIsDealtWithInTime(t *testing.T) {
	const timeout, misses = 1, 2
	allowed := time.Duration(timeout * misses * float64(time.Second))
	for _, how := range []string{"hang", "busy", "stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			inTime(t, allowed*3/2, func() time.Duration {
				took := hang(t, how, timeout)
				t.Logf("%v: %.2f × the allowed silence", took, took.Seconds()/allowed.Seconds())
				return took
			})
		})
	}
}

// hang lets a program hang, and returns how long it took from then until its next life. What the monitor forgives when it is
// held up itself doesn't count: its lag, and the timeout that it begins anew up to three times.
func hang(t *testing.T, how string, timeout float64) time.Duration {
	steps := []string{"pid:pids", "grandchild:gc", "beat:20ms", "unless:1", "say:ready", "sleep:1s"}
	if how != "stopped" {
		steps = append(steps, "silent", "say:silent", how)
	} else {
		steps = append(steps, "say:silent", "hang")
	}
	// A long time for the start must not make the first hang a long one.
	p := start(t, folder(t), append([]string{"-t", fmt.Sprint(timeout), "--startup-grace", "20", "--", "puppet"}, steps...)...)
	p.ready()
	pid := p.life(1)
	p.await(`(?m)^silent$`)
	if how == "stopped" {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	p.life(2)
	took := time.Since(begin)
	p.exits(0)
	nobodyLeft(t, p)
	r := p.reportOf(1)
	if r.Reason != neverDying || r.Cause != "Missed 2 heartbeats" || r.Beats == 0 || r.Phase != "running" {
		t.Errorf("have %s", &r)
	}
	if how == "hang" && !slices.ContainsFunc(r.Stacks, func(g stack.Goroutine) bool {
		return g.Worker == "processor" && strings.Contains(g.Text, "monitor.puppet")
	}) {
		t.Errorf("want the stack of the worker that hangs, have %s", &r)
	}
	if want := map[string]int{"hang": 2, "busy": 2, "stopped": 137}[how]; r.Code != want {
		t.Errorf("want code %d, have %d", want, r.Code)
	}
	if r.Lag > 0 {
		const forgiven = 3
		took -= time.Duration((r.Lag + forgiven*timeout) * float64(time.Second))
	}
	return took
}

// A paused virtual machine stops both. It is not the program's fault, and the monitor knows why.
func TestAPauseOfBothIsNoHang(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), "-t", "1.5", "-m", "1", "--startup-grace", "5", "--", "puppet", "pid:pids", "beat:20ms", "say:ready", "sleep:1h")
	p.ready()
	pid := p.life(1)
	eventually(t, "beats", func() bool { return p.status().Beats > 3 })
	// The program first: with a beat still in the socket the monitor would see no silence, and prove nothing.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all beats heard", func() bool {
		first := p.status().Beats
		return p.status().Beats == first
	})
	p.signal(syscall.SIGSTOP)
	time.Sleep(2500 * time.Millisecond) // far more than the 1.5 s of silence that are allowed
	p.signal(syscall.SIGCONT)
	time.Sleep(50 * time.Millisecond) // the program comes back later than the monitor
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	before := p.status().Beats
	eventually(t, "beats again", func() bool { return p.status().Beats > before+30 })
	if s := p.status(); s.PID != pid || s.Restarts != 0 || s.Lag < 0.5 {
		t.Errorf("have %+v\n%s", s, p.log())
	}
}

// The beats of another program don't keep a silent one alive.
func TestAnotherProgramsBeatsDontCount(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), "-t", "0.2", "--startup-grace", "3", "--", "puppet", "pid:pids", "unless:1", "say:ready", "hang")
	p.ready()
	other := start(t, folder(t), "-t", "0", "--", "env", "HEARTBEAT_ADDR=ipc://"+p.dir+"/heartbeat", "puppet", "beat:10ms", "sleep:1h")
	other.await("Running")
	p.await("Killing off the process")
	p.exits(0)
}

func TestASpentBudgetOfHangsTellsTheProgramsCode(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), "-t", "1", "--startup-grace", "1", "--budget", "0/60s", "--", "puppet", "ignore", "hang")
	p.exits(2) // what a Go program exits with on QUIT
}

// Nobody reads what the monitor prints: the program blocks in its output, as it would by itself, and hangs, restarts and
// stops work all the same.
func TestAnOutputThatNobodyReadsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	inTime(t, 3*time.Second, func() time.Duration { return endUnread(t) })
}

// endUnread lets a program hang in an output that nobody reads, restart, and stop, and returns how long the last takes.
func endUnread(t *testing.T) time.Duration {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := newProc(t, folder(t), "-t", "0.1", "--startup-grace", "1", "--budget", "9/60s", "--backoff", "0.01", "--", "puppet", "pid:pids", "many:100000", "hang")
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.begin()
	w.Close()
	p.life(3)
	if s := p.status(); s.Reasons[neverDying] < 2 {
		t.Errorf("have %+v", s)
	}
	p.signal(syscall.SIGTERM)
	return p.exits(143)
}

func TestWhoeverReadTheOutputIsGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := newProc(t, folder(t), "-t", "0", "--backoff", "0", "--", "puppet", "pid:pids", "unless:3", "many:1000", "exit:1")
	p.cmd.Stdout, p.cmd.Stderr = w, w
	r.Close()
	p.begin()
	w.Close()
	p.exits(0)
	p.life(4)
}
