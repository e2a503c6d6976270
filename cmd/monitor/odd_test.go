package main

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A program may take QUIT for a polite request, and end with 0. It hung all the same, and the rung above has to know.
func TestAHangIsNeverTakenForACleanEnd(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), "-t", "0.2", "-m", "1", "--startup-grace", "2", "--budget", "0/60s", "--", "sh", "-c", `trap "exit 0" QUIT; while :; do sleep 0.02; done`)
	p.exits(137)
}

// A shell's wrapper around the program is the child then; the beats come from its group, and count.
func TestAProgramUnderAShellBeatsForItsGroup(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), "-t", "1", "--", "sh", "-c", `puppet beat:50ms ready sleep:4s exit:0; exit $?`)
	p.exits(0)
	if list, _ := filepath.Glob(filepath.Join(p.dir, "data/crashes/*")); len(list) > 0 {
		t.Errorf("want no report, have %q\n%s", list, p.log())
	}
}

func TestQuitToTheMonitorLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	p := start(t, dir, "-t", "0", "--", "sh", "-c", `sleep 1000 & echo $! >grand; echo ready; wait`)
	p.ready()
	p.signal(syscall.SIGQUIT)
	p.exits(131) // what the shell died of
	text, err := os.ReadFile(filepath.Join(dir, "grand"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text[:len(text)-1]))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the monitor", pid)
		}
	}
}

func TestReportsAreBoundedWhateverTheFolderIsCalled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "a[b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * keepReports {
		for _, suffix := range []string{".txt", ".json"} {
			if suffix == ".txt" && i%3 == 0 {
				continue // half a report is one too
			}
			if err := os.WriteFile(filepath.Join(dir, "monitor-"+strconv.Itoa(1000+i)+suffix), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := prune(dir); err != nil {
		t.Error(err)
	}
	left := map[string]bool{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left[e.Name()[:len("monitor-1000")]] = true
	}
	if len(left) != keepReports || !left["monitor-1039"] || left["monitor-1019"] {
		t.Errorf("want the newest %d reports left, have %v", keepReports, left)
	}
}
