package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/stack"
)

func TestACrashReportTellsWhatHappened(t *testing.T) {
	p := start(t, folder(t), "--", "puppet", "unless:1", "pid:pids", "beat:1ms", "many:300", "sleep:1s", "panic:at the disco")
	p.exits(0)
	r := p.reportOf(1)
	if r.Reason != dying || r.Code != 2 || r.Signal != "" || r.PID != p.life(1) || r.Restarts != 0 || r.Command != "puppet" || r.Uptime < 0.05 || r.Beats == 0 {
		t.Errorf("have %s", &r)
	}
	if have, want := len(r.LastLines), keepLines; have != want {
		t.Errorf("want the last %d lines, have %d", want, have)
	}
	if !slices.ContainsFunc(r.LastLines, func(l string) bool { return strings.HasPrefix(l, "panic: at the disco") }) && len(r.Stacks) == 0 {
		t.Errorf("want the panic, have %q", r.LastLines)
	}
	if !slices.ContainsFunc(r.Stacks, func(g stack.Goroutine) bool { return strings.Contains(g.Text, "monitor.puppet") }) {
		t.Errorf("want the stacks, have %v", r.Stacks)
	}
	if len(r.SelfTest) != 5 {
		t.Errorf("want five parts of the self-test, have %v", r.SelfTest)
	}
	for _, c := range r.SelfTest {
		if !c.OK {
			t.Errorf("have %+v", c)
		}
	}
	text, err := filepath.Glob(filepath.Join(p.dir, "data/crashes/monitor-*.txt"))
	if err != nil || len(text) != 1 {
		t.Fatalf("want one text, have %q, %v", text, err)
	}
	if page, _ := os.ReadFile(text[0]); !strings.Contains(string(page), "reason     dying\n") || !strings.Contains(string(page), "goroutine 1 [") {
		t.Errorf("have %s", page)
	}
}

func TestTheOldestReportsGo(t *testing.T) {
	dir := folder(t)
	r := &reporter{set: &settings{dataDir: dir}}
	begin := time.Now()
	for i := range keepReports + 5 {
		if _, err := r.write(&report{Time: begin.Add(time.Duration(i) * time.Second), PID: i}); err != nil {
			t.Fatal(err)
		}
	}
	list, _ := filepath.Glob(filepath.Join(dir, "crashes", "*"))
	slices.Sort(list)
	if have, want := len(list), 2*keepReports; have != want || !strings.HasSuffix(list[0], "-5.json") {
		t.Errorf("want %d files from the sixth on, have %q", want, list)
	}
}

// Whoever is told of a crash may take its time: the restart does not wait, and the end not for ever.
func TestTheHookHearsOfACrashAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	inTime(t, reportEnd+2*time.Second, func() time.Duration { return endWithHook(t) })
}

// endWithHook lets a program crash twice and then end, while the hook hangs, and returns how long all of that took.
func endWithHook(t *testing.T) time.Duration {
	dir := folder(t)
	hook := filepath.Join(dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho $$ > hooked.pid\necho \"$1\" > hooked\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "-t", "0", "--backoff", "0", "--on-crash", hook, "--", "puppet", "pid:pids", "unless:2", "say:ready", "exit:1")
	p.life(2)
	took := p.exits(0)
	path, _ := os.ReadFile(filepath.Join(dir, "hooked"))
	if !strings.HasPrefix(string(path), "data/crashes/monitor-") {
		t.Errorf("have %q", path)
	}
	var pid int
	text, _ := os.ReadFile(filepath.Join(dir, "hooked.pid"))
	_, _ = fmt.Sscan(string(text), &pid)
	eventually(t, "the hook is gone", func() bool { return pid > 0 && !alive(pid) })
	return took
}

func TestADataFolderThatIsNoneCostsTheReportOnly(t *testing.T) {
	p := start(t, folder(t), "--data-dir", "/proc/nowhere", "--", "puppet", "unless:1", "exit:1")
	p.exits(0)
	p.await("no crash report error=")
}

func TestOutOfMemoryIsRecognised(t *testing.T) {
	for _, c := range []struct {
		groups string
		want   []string
	}{
		{"0::/\n", []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events"}},
		{"0::/system.slice/docker-1.scope\n", []string{"/sys/fs/cgroup/system.slice/docker-1.scope/memory.events", "/sys/fs/cgroup/memory.events"}},
		{"9:name=systemd:/\n4:memory:/a/b\n0::/\n", []string{"/sys/fs/cgroup/memory/a/b/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control",
			"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events"}},
		{"0::/../../etc\n", []string{"/sys/fs/cgroup/etc/memory.events", "/sys/fs/cgroup/memory.events"}},
		{"nonsense", nil},
	} {
		if have := oomFiles(c.groups); !slices.Equal(have, c.want) {
			t.Errorf("%q: want %q, have %q", c.groups, c.want, have)
		}
	}
	for text, want := range map[string]uint64{
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n": 2,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n":                7,
		"": 0,
	} {
		if have := oomKills(text); have != want {
			t.Errorf("%q: want %d, have %d", text, want, have)
		}
	}
	file := filepath.Join(folder(t), "memory.events")
	set := func(n int) {
		if err := os.WriteFile(file, fmt.Appendf(nil, "oom_kill %d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &oomCounter{f: f}
	c.mark()
	if c.grown() {
		t.Error("nobody was killed")
	}
	if set(2); !c.grown() {
		t.Error("somebody was killed")
	}
}

// A real one, where a control group of v1 can be made: a program that takes more than its group may have.
func TestARealOutOfMemoryKill(t *testing.T) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip("no control groups:", err)
	}
	dir := ""
	for _, f := range oomFiles(string(own)) {
		if _, err := os.Stat(f); err == nil && strings.HasSuffix(f, "memory.oom_control") {
			dir = filepath.Join(filepath.Dir(f), fmt.Sprintf("monitor-test-%d", os.Getpid()))
			break
		}
	}
	if dir == "" {
		t.Skip("no memory control group of version 1 here; TestOutOfMemoryIsRecognised covers the reading of version 2")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("not allowed to make a control group:", err)
	}
	t.Cleanup(func() {
		eventually(t, "the control group is removed", func() bool { return syscall.Rmdir(dir) == nil })
	})
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("100M"), 0o600); err != nil {
		t.Skip("not allowed to limit memory:", err)
	}
	work := folder(t)
	// The monitor starts in the group, so it reads the group's counter; the program is larger, so it is the one killed.
	script := fmt.Sprintf(`echo $$ > %s/cgroup.procs && exec monitor -t 0 -- sh -c '[ "$MONITOR_RESTARTS" = 1 ] && exit 0; head -c 300M /dev/zero | tail >/dev/null; exit 9'`, dir)
	p := newProc(t, work)
	p.cmd.Path, p.cmd.Args = "/bin/sh", []string{"sh", "-c", script}
	log, err := os.Create(filepath.Join(work, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.begin()
	p.exits(0)
	// The kernel kills tail; sh tells 9 itself then. What counts is told of a program that is killed itself:
	p2 := newProc(t, work)
	p2.cmd.Path, p2.cmd.Args = "/bin/sh", []string{"sh", "-c", strings.Replace(script, `head -c 300M /dev/zero | tail >/dev/null; exit 9`, `exec tail /dev/zero`, 1)}
	p2.cmd.Stdout, p2.cmd.Stderr = log, log
	p2.begin()
	p2.exits(0)
	p2.await(`Error = 137 \(SIGKILL\), out of memory`)
	if r := p2.reportOf(2); !r.OOM || r.Signal != "SIGKILL" || r.Reason != dying {
		t.Errorf("have %s", &r)
	}
}

func TestCapture(t *testing.T) {
	c := newCapture(nil)
	var begun []byte
	begun = c.keep(begun, []byte("one\ntw"), false)
	begun = c.keep(begun, []byte("o\n\npanic: recovered\ngoroutine 1 [running]:\n"), true)
	begun = c.keep(begun, []byte("panic: the last\n\ngoroutine 7 [running]:\nmain.main(0x1)\n\t/a.go:1\nexit status 2\n"), true)
	begun = c.keep(begun, []byte(strings.Repeat("x", 3*lineBytes)+"\n"), false)
	begun = c.keep(begun, []byte("bad \xff\nrest"), false)
	close(c.drained)
	lines, trace := c.tail(context.Background())
	if string(begun) != "rest" || lines[0] != "one" || lines[1] != "two" || len(lines[len(lines)-2]) != lineBytes || lines[len(lines)-1] != "bad \uFFFD" {
		t.Errorf("have %.200q, begun %q", lines, begun)
	}
	if have := stack.Parse(trace); len(have) != 1 || have[0].ID != 7 { // the panic before was lived through
		t.Errorf("have %v", have)
	}
	for i := range 1000 {
		c.keep(nil, fmt.Appendf(nil, "line %d\n", i), false)
	}
	if lines, _ := c.tail(context.Background()); len(lines) != keepLines || lines[0] != "line 800" || lines[keepLines-1] != "line 999" {
		t.Errorf("have %d lines: %q…", len(lines), lines[0])
	}
}

// A program that writes a line in pieces gets none of ours in between, and a prompt gets its line ended.
func TestLinesStayWhole(t *testing.T) {
	for pause, want := range map[time.Duration]string{lineTime * 3 / 4: "one two\nours\n", lineTime * 2: "one \nours\ntwo\n"} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			s := newSink(&out)
			s.write(t.Context(), []byte("one "))
			go s.writeOwn([]byte("ours\n"))
			time.Sleep(pause)
			s.write(t.Context(), []byte("two\n"))
			time.Sleep(lineTime)
			synctest.Wait()
			if have := out.String(); have != want {
				t.Errorf("in pieces %v apart: want %q, have %q", pause, want, have)
			}
		})
	}
	p := start(t, folder(t), "-t", "0", "--", "sh", "-c", `printf "prompt> "; sleep 0.1`)
	p.exits(0)
	p.await(`(?m)^prompt> \n`)
}

// A line that is in the pipe is passed on in one piece, wherever a read of it ends: the monitor's next read may come late.
func TestWhatIsThereIsPassedOnInWholeLines(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("a line of 22 letters.\n", 2500) + "a prompt> " // more than three reads, less than the pipe holds
	if _, err := w.WriteString(want); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var out pieces
	c := newCapture(nil)
	defer c.cancel()
	c.pump(r, newSink(&out), false)
	c.pumps.Wait()
	if have := strings.Join(out, ""); have != want {
		t.Errorf("want %d bytes unchanged, have %d", len(want), len(have))
	}
	for i, piece := range out[:len(out)-1] {
		if !strings.HasSuffix(piece, "\n") {
			t.Errorf("piece %d of %d ends with %q", i, len(out), piece[len(piece)-10:])
		}
	}
}

// pieces keeps each write.
type pieces []string

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, string(b))
	return len(b), nil
}

func TestStat(t *testing.T) {
	const rest = " S 1 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000"
	for _, name := range []string{"(sh)", "(a b)", "(()", "())", "(x) S 1 2 3"} {
		have, err := parseStat([]byte("42 (" + name + ")" + rest))
		if want := (procStat{'S', 42, 41, 98765}); err != nil || have != want {
			t.Errorf("%s: want %+v, have %+v, %v", name, want, have, err)
		}
	}
	for _, text := range []string{"", "42", "42 (sh)", "42 (sh) S 1 2", "42 (sh" + rest, "42 (sh) S 1 x 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765"} {
		if have, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: have %+v", text, have)
		}
	}
	if s, err := readStat(os.Getpid()); err != nil || s.PGID != syscall.Getpgrp() || s.Start == 0 {
		t.Errorf("of myself: have %+v, %v", s, err)
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000"))
	f.Fuzz(func(t *testing.T, text []byte) { _, _ = parseStat(text) })
}

func TestBudget(t *testing.T) {
	for text, want := range map[string]budget{"5/60s": {5, time.Minute}, "0/1h": {0, time.Hour}, "1000/1ms": {1000, time.Millisecond}} {
		var have budget
		if err := have.UnmarshalText([]byte(text)); err != nil || have != want {
			t.Errorf("%s: have %v, %v", text, have, err)
		}
	}
	for _, text := range []string{"", "5", "/", "5/", "-1/60s", "5/60", "5/-1s", "5/0s", "5/60s/", "99999999999/1s"} {
		var have budget
		if err := have.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: have %v", text, have)
		}
	}
}

func FuzzBudget(f *testing.F) {
	f.Add("5/60s")
	f.Fuzz(func(t *testing.T, text string) {
		var b, again budget
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q: %v, written and read again %v, %v", text, b, again, err)
		}
	})
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"1": time.Second, "0.5": 500 * time.Millisecond, "0": 0, "250ms": 250 * time.Millisecond, "1m": time.Minute, "-1": -time.Second} {
		var have seconds
		if err := have.UnmarshalText([]byte(text)); err != nil || time.Duration(have) != want {
			t.Errorf("%s: have %v, %v", text, time.Duration(have), err)
		}
	}
	for _, text := range []string{"", "x", "NaN", "Inf", "1e99", "-5", "-5s"} {
		var have seconds
		if err := have.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: have %v", text, time.Duration(have))
		}
	}
}

func TestRestarts(t *testing.T) {
	const sec = time.Second
	begin := time.Now()
	r := newRestarts(budget{3, 60 * sec}, sec)
	next := func(started, now time.Duration, ordered bool) (time.Duration, bool) {
		return r.next(begin.Add(started), begin.Add(now), ordered)
	}
	check := func(what string, pause time.Duration, ok bool, least, most time.Duration, want bool) {
		t.Helper()
		if ok != want || pause < least || pause > most {
			t.Errorf("%s: want %v to %v, %v, have %v, %v", what, least, most, want, pause, ok)
		}
	}
	p, ok := next(0, 1*sec, false)
	check("the first is at once", p, ok, 0, 0, true)
	p, ok = next(1*sec, 2*sec, false)
	check("the second waits", p, ok, sec/2, 3*sec/2, true)
	p, ok = next(2*sec, 3*sec, true)
	check("an order waits too", p, ok, sec, 3*sec, true)
	p, ok = next(3*sec, 4*sec, false)
	check("longer", p, ok, 2*sec, 6*sec, true)
	p, ok = next(4*sec, 5*sec, false)
	check("the budget is spent", p, ok, 0, 0, false)
	p, ok = next(5*sec, 6*sec, true)
	check("but not for orders", p, ok, 4*sec, 12*sec, true)
	p, ok = next(6*sec, 62*sec, false)
	check("what is older than the window is forgiven", p, ok, 4*sec, 15*sec, true)
	p, ok = next(100*sec, 160*sec, false)
	check("a healthy stretch forgives all", p, ok, 0, 0, true)
}
