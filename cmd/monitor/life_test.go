package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEveryExitCodeIsPassedOn(t *testing.T) {
	for want := range 256 {
		if have, out := inProcess(t, "--budget", "0/60s", "--no-self-test", "--", "sh", "-c", "exit "+strconv.Itoa(want)); have != want {
			t.Errorf("want %d, have %d: %s", want, have, out)
		}
	}
}

func TestASignalIsPassedOnAs128AndItsNumber(t *testing.T) {
	for s := syscall.Signal(1); s <= syscall.SIGSYS; s++ {
		switch s {
		case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH:
			continue // nobody dies of these
		}
		have, out := inProcess(t, "--budget", "0/60s", "--no-self-test", "--", "sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$; sleep 9", s))
		if want := 128 + int(s); have != want || !strings.Contains(out, fmt.Sprintf("Error = %d (SIG", want)) {
			t.Errorf("%v: want %d, have %d: %s", s, want, have, out)
		}
	}
}

// What follows from which end: the original's lines, ours, and the code. A line of the program's own is marked with >.
func TestPhases(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // in this order
	}{
		{"exit 0 ends", []string{"--", "puppet", "say:hello"}, 0,
			[]string{"[monitor] Running puppet say:hello ... ", "> hello", "[monitor] Exiting with return code 0"}},
		{"a crash restarts", []string{"--", "puppet", "unless:1", "exit:255"}, 0,
			[]string{"Running", "Error = 255\n\n", "Restarting in 0s (dying 1, never dying 0, aberrant 0)", "\n\n[monitor] Running", "Exiting with return code 0"}},
		{"the second restart in a row waits", []string{"--backoff", "0.01", "--", "puppet", "unless:2", "exit:1"}, 0,
			[]string{"Restarting in 0s", "Restarting in ", "dying 2", "Exiting with return code 0"}},
		{"78 can't be mended", []string{"--", "puppet", "exit:78"}, 78, []string{"Error = 78", "Exiting with return code 78"}},
		{"64 can't be mended", []string{"--", "puppet", "exit:64"}, 64, []string{"Error = 64", "Exiting with return code 64"}},
		{"the budget", []string{"--budget", "2/60s", "--backoff", "0", "--", "puppet", "exit:7"}, 7,
			[]string{"dying 1", "dying 2", "Error = 7", "Giving up: the budget of 2/1m0s restarts is spent", "Exiting with return code 7"}},
		{"a hang", []string{"-t", "1", "--startup-grace", "1", "--", "puppet", "unless:1", "hang"}, 0,
			[]string{"Missing a timeout ...", "Missing a timeout ...", "Killing off the process ...", "Error = Missed 2 heartbeats, 2\n", "never dying 1", "return code 0"}},
		{"a busy hang", []string{"-t", "2", "-m", "1", "--startup-grace", "2", "--", "puppet", "unless:1", "busy"}, 0,
			[]string{"Missing a timeout ...", "Killing off the process ...", "Error = Missed 1 heartbeats, 2\n", "return code 0"}},
		{"it learns of its restarts", []string{"--", "puppet", "env:MONITOR_RESTARTS", "env:MONITOR_LAST_REASON", "env:HEARTBEAT_EVERY", "unless:1", "exit:9"}, 0,
			[]string{"> MONITOR_RESTARTS=0", "> MONITOR_LAST_REASON=", "> HEARTBEAT_EVERY=500ms", "> MONITOR_RESTARTS=1", "> MONITOR_LAST_REASON=dying: 9"}},
		{"the words after the dashes are the program's own", []string{"--", "puppet", "say:a  b", "say:--json", "say:--", "--"}, 0, []string{"> a  b", "> --json", "> --"}},
		{"JSON", []string{"--json", "--", "puppet", "unless:1", "exit:9"}, 0,
			[]string{`"msg":"running"`, `"msg":"the program ended","worker":"monitor","reason":"dying"`, `"code":9`, `"msg":"restarting"`, `"msg":"exiting"`}},
		{"each heartbeat if asked for", []string{"-v", "--", "puppet", "beat:1ms", "sleep:1s"}, 0, []string{"[monitor] Got heartbeat."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, folder(t), c.args...)
			p.exits(c.code)
			// The program's lines and ours come by two ways: each keep their order, but among each other none is promised.
			ours, programs := "\n"+p.log(), "\n"+p.log()
			for _, want := range c.want {
				rest, text := &ours, want
				if line, ok := strings.CutPrefix(want, "> "); ok {
					rest, text = &programs, "\n"+line+"\n"
				}
				_, after, ok := strings.Cut(*rest, text)
				if !ok {
					t.Fatalf("want %q, in this place, in\n%s", want, p.log())
				}
				*rest = "\n" + after
			}
		})
	}
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 64, "no program to run"},
		{"nothing after the dashes", []string{"--"}, 64, "no program to run"},
		{"no dashes", []string{"puppet"}, 64, "unexpected argument puppet"},
		{"an unknown flag", []string{"--colour", "--", "puppet"}, 64, "unknown flag --colour"},
		{"no number", []string{"-t", "soon", "--", "puppet"}, 64, "neither a number of seconds"},
		{"a negative time", []string{"--stop-grace=-1", "--", "puppet"}, 64, "can't be negative"},
		{"no misses", []string{"-m", "0", "--", "puppet"}, 64, "at least 1"},
		{"a bad budget", []string{"--budget", "many", "--", "puppet"}, 64, "write restarts/time, like 5/60s"},
		{"an order with a command", []string{"kill", "--", "puppet"}, 64, "kill takes no command"},
		{"a shell that nobody knows", []string{"completion", "csh"}, 64, "csh"},
		{"no such program", []string{"--", "nosuchprogram"}, 78, "nosuchprogram"},
		{"no program", []string{"--", "/etc/passwd"}, 78, "permission denied"},
		{"no such folder", []string{"-b", "ipc://nowhere/at/all\x00", "--", "puppet"}, 78, "monitor: "},
		{"an address for all the world", []string{"-b", "tcp://0.0.0.0:0", "--", "puppet"}, 78, "not a loopback address"},
		{"orders over tcp without a token", []string{"-c", "tcp://127.0.0.1:0", "--", "puppet"}, 78, "--token-file"},
		{"an empty token", []string{"-c", "tcp://127.0.0.1:0", "--token-file", "empty", "--", "puppet"}, 78, "empty is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, a := range c.args {
				if strings.Contains(a, "\x00") {
					c.args[i] = "ipc://" + dir + "/empty/heartbeat"
				}
			}
			p := &proc{t: t, dir: dir}
			out := p.command(c.code, c.args...)
			if !strings.Contains(out, c.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("want one line with %q, have %q", c.want, out)
			}
		})
	}
}

func TestShellsCompleteTheCommands(t *testing.T) {
	p := &proc{t: t, dir: folder(t)}
	for shell, want := range map[string]string{"bash": " monitor\n", "zsh": "bashcompinit", "fish": "complete -c monitor"} {
		if out := p.command(0, "completion", shell); !strings.Contains(out, want) || !strings.Contains(out, "heartbeat-addr") {
			t.Errorf("%s: want its script, have %q", shell, out)
		}
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		sig   syscall.Signal
		steps []string
		code  int
	}{
		{"a program that obeys tells its own code", syscall.SIGTERM, []string{"catch:7", "say:ready", "hang"}, 7},
		{"a program that ends well", syscall.SIGTERM, []string{"catch:0", "say:ready", "hang"}, 0},
		{"a program that knows nothing of it", syscall.SIGTERM, []string{"say:ready", "hang"}, 143},
		{"Ctrl-C", syscall.SIGINT, []string{"say:ready", "hang"}, 130},
		{"a program that does not listen", syscall.SIGTERM, []string{"ignore", "say:ready", "hang"}, 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			const grace = 200 * time.Millisecond
			inTime(t, 2*time.Second, func() time.Duration {
				p := start(t, folder(t), append([]string{"-t", "0", "--stop-grace", grace.String(), "--", "puppet", "pid:pids", "grandchild:gc"}, c.steps...)...)
				p.ready()
				p.signal(c.sig)
				took := p.exits(c.code)
				if c.code == 137 && took < grace {
					t.Errorf("want the KILL after %v, have the end after %v", grace, took)
				}
				nobodyLeft(t, p)
				for _, f := range []string{"heartbeat", "command", "command.ctl"} {
					if _, err := os.Lstat(filepath.Join(p.dir, f)); err == nil {
						t.Errorf("%s is left", f)
					}
				}
				return took
			})
		})
	}
}

// nobodyLeft checks that the puppet and its grandchild are gone.
func nobodyLeft(t *testing.T, p *proc) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "gc"))
	if err != nil {
		t.Fatal(err)
	}
	grandchild, _ := strconv.Atoi(string(text))
	for _, pid := range append(p.pids(), grandchild) {
		eventually(t, fmt.Sprintf("%d is gone", pid), func() bool { return !alive(pid) })
	}
}

func TestHUPAndUSR1ArePassedOn(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "catch:0", "say:ready", "hang")
	p.ready()
	p.signal(syscall.SIGHUP)
	p.await("caught hangup")
	p.signal(syscall.SIGUSR1)
	p.await("caught user defined signal 1")
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func TestAStopWhileItPauses(t *testing.T) {
	p := start(t, folder(t), "--backoff", "60", "--", "puppet", "exit:3")
	p.await("dying 2")
	if have := p.status(); have.State != "pausing" || have.Restarts != 2 || have.Reasons[dying] != 2 || have.LastReason != "dying: 3" {
		t.Errorf("have %+v", have)
	}
	p.command(64, "kill")
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func TestWhatACrashLeavesOfTheGroupIsKilled(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "unless:1", "pid:pids", "grandchild:gc", "exit:1")
	p.exits(0)
	nobodyLeft(t, p)
}

func TestAKilledMonitorLeavesNothing(t *testing.T) {
	dir := folder(t)
	p := start(t, dir, "-t", "0", "--", "puppet", "pid:pids", "grandchild:gc", "say:ready", "hang")
	p.ready()
	puppet := p.life(1)
	text, _ := os.ReadFile(filepath.Join(dir, "gc"))
	grandchild, _ := strconv.Atoi(string(text))
	p.signal(syscall.SIGKILL)
	p.exits(137)
	eventually(t, "the program is dead", func() bool { return !alive(puppet) })
	if !alive(grandchild) {
		t.Fatal("the grandchild is dead already: nothing is left to be shown")
	}
	next := start(t, dir, "-t", "0", "--", "puppet", "say:again")
	next.exits(0)
	next.await("killed what a former monitor had left processes=1")
	eventually(t, "the grandchild is dead", func() bool { return !alive(grandchild) })
}

func TestANumberThatIsAnothersNowIsLeftAlone(t *testing.T) {
	p := start(t, folder(t), "-t", "0", "--", "puppet", "pid:pids", "say:ready", "hang")
	p.ready()
	pid := p.life(1)
	s, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []record{{PGID: pid, Session: s.Session, Start: s.Start + 1}, {PGID: pid, Session: s.Session, Start: s.Start - 1}, {PGID: pid, Session: s.Session + 1, Start: s.Start}, {}, {PGID: 1, Start: 1}} {
		if n := r.leftovers(); n != 0 || !alive(pid) {
			t.Errorf("%+v: %d processes killed", r, n)
		}
	}
	if have, want := (record{PGID: pid, Session: s.Session, Start: s.Start}).leftovers(), 1; have != want {
		t.Errorf("want %d killed, have %d", want, have)
	}
}

func TestASecondMonitorIsRefused(t *testing.T) {
	dir := folder(t)
	p := start(t, dir, "-t", "0", "--", "puppet", "say:ready", "hang")
	p.ready()
	out := p.command(78, "--", "puppet")
	if want := fmt.Sprintf("the monitor with pid %d already has the heartbeat address", p.cmd.Process.Pid); !strings.Contains(out, want) {
		t.Errorf("want %q, have %q", want, out)
	}
	if out := p.command(78, "-b", "ipc://other", "--", "puppet"); !strings.Contains(out, "in use") {
		t.Errorf("have %q", out)
	}
	if have := p.status(); have.State != "running" {
		t.Errorf("the first one is harmed: %+v", have)
	}
	p.signal(syscall.SIGTERM)
	p.exits(143)
}

// 1,000 crashes in a row leave no process, zombie, file, socket or goroutine (goleak, at the end).
func TestAThousandCrashesLeaveNothing(t *testing.T) {
	files := func() int { list, _ := os.ReadDir("/proc/self/fd"); return len(list) }
	if code, out := inProcess(t, "--", "true"); code != 0 {
		t.Fatal(out)
	}
	before, threads, dir := files(), runtime.NumGoroutine(), folder(t)
	code, out := inProcess(t, "--budget", "2000/60s", "--backoff", "0", "--data-dir", dir, "--", "sh", "-c", `[ "$MONITOR_RESTARTS" -lt 1000 ] || exit 0; exit 1`)
	if code != 0 || !strings.Contains(out, "return code 0") {
		t.Fatalf("exit %d: %.300s", code, out)
	}
	eventually(t, "the files are closed", func() bool { return files() <= before })
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() <= threads })
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err == nil {
		t.Errorf("a zombie is left, or a child: %d", pid)
	}
	reports, _ := filepath.Glob(filepath.Join(dir, "crashes", "*"))
	if have, most := len(reports), 2*keepReports; have == 0 || have > most {
		t.Errorf("want 1 to %d files of reports, have %d", most, have)
	}
}

func TestTheLastOfTheOutputIsPassedOn(t *testing.T) {
	for _, end := range []string{"exit:0", "exit:3", "hang"} {
		p := start(t, folder(t), "-t", "0", "--budget", "0/60s", "--", "puppet", "many:20000", "pid:pids", end)
		p.life(1)
		code := map[string]int{"exit:0": 0, "exit:3": 3, "hang": 143}[end]
		if end == "hang" {
			p.signal(syscall.SIGTERM)
		}
		p.exits(code)
		if have, want := strings.Count("\n"+p.log(), "\nline "), 20000; have != want { // the first may come before our own
			t.Errorf("%s: want %d lines, have %d", end, want, have)
		}
	}
}

func Example() {
	dir, _ := os.MkdirTemp("", "mon")
	defer os.RemoveAll(dir)
	out, _ := os.Create(filepath.Join(dir, "out"))
	defer out.Close()
	code := run([]string{"-b", "ipc://" + dir + "/heartbeat", "-c", "ipc://" + dir + "/command", "--", "echo", "working"}, os.Environ(), streams{nil, out, out})
	text, _ := os.ReadFile(out.Name())
	for _, line := range []string{"[monitor] Running echo working ... \n", "working\n", "[monitor] Exiting with return code 0\n"} {
		fmt.Println(strings.Contains(string(text), line))
	}
	fmt.Println("exit", code)
	// Output:
	// true
	// true
	// true
	// exit 0
}
