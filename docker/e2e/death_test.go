//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAKilledAppIsBackAndTellsWhy(t *testing.T) {
	s := newStack(t, "")
	s.up()
	s.until("supervisord trusts it", func() bool { return strings.Contains(s.logs(), "app entered RUNNING state") })
	began := time.Now()
	s.kill("KILL", theApp)
	s.process("after")
	t.Logf("kill -9 of the app to the next event processed: %v", time.Since(began).Round(time.Millisecond))
	s.awaitLog("the last run ended without a word: killed", 1)
	if n := s.inspect("{{.RestartCount}}"); n != "0" {
		t.Errorf("want the container to live on, have %s restarts", n)
	}
}

func TestACrashLoopEndsTheContainerAndDockerRestartsIt(t *testing.T) {
	s := newStack(t, "services:\n  app:\n    environment:\n      WEB_ADDR: nonsense\n")
	s.docker("compose", "up", "-d", "--no-build")
	for n, ended := 1, ""; n <= 2; n++ {
		s.until("docker restarts it", func() bool { have, _ := strconv.Atoi(s.inspect("{{.RestartCount}}")); return have >= n })
		times := strings.Fields(s.inspect("{{.State.FinishedAt}} {{.State.StartedAt}} {{.State.ExitCode}}"))
		down, _ := time.Parse(time.RFC3339Nano, times[0])
		up, _ := time.Parse(time.RFC3339Nano, times[1])
		t.Logf("restart %d: docker paused for %v", n, up.Sub(down).Round(time.Millisecond))
		if pause := up.Sub(down); ended == times[0] || pause < 100*time.Millisecond {
			t.Errorf("want docker's pause before restart %d, have %v", n, pause)
		}
		ended = times[0]
	}
	logs := s.logs()
	if !strings.Contains(logs, "WEB_ADDR") {
		t.Error("want the app's reason in the log")
	}
	// Which of the two it is depends on when supervisord looked at its children.
	fatal := strings.Contains(logs, `ending the container: a program can't be started","app":"listener","program":"app"`) && strings.Contains(logs, "gave up: app entered FATAL state")
	third := strings.Contains(logs, `ending the container: a program ended unexpectedly 3 times within 10m0s","app":"listener","program":"app"`)
	if !fatal && !third {
		t.Error("want the listener's reason in the log")
	}
}

func TestTheThirdUnexpectedExitEndsTheContainer(t *testing.T) {
	s := newStack(t, "")
	s.up()
	began := s.inspect("{{.State.StartedAt}}")
	for i := range 3 {
		s.awaitLog("app entered RUNNING state", i+1)
		s.kill("KILL", theApp)
	}
	s.restarted(began)
	if !strings.Contains(s.logs(), "ending the container: a program ended unexpectedly 3 times within 10m0s") {
		t.Error("want the reason in the log")
	}
	s.process("after")
}

func TestEveryLevelThatIsKilledComesBack(t *testing.T) {
	s := newStack(t, "")
	s.up()
	s.kill("KILL", theCron)
	s.awaitLog("spawned: 'cron'", 2)
	s.kill("KILL", theListener)
	s.awaitLog("listener entered RUNNING state", 2)
	began := s.inspect("{{.State.StartedAt}}")
	s.kill("KILL", theSupervisor)
	s.restarted(began)
	s.process("after-supervisord")

	// From outside, as the kernel's OOM killer would: docker kill would mark the container as stopped by hand.
	began = s.inspect("{{.State.StartedAt}}")
	if out, err := exec.Command("kill", "-9", s.inspect("{{.State.Pid}}")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.restarted(began)
	s.process("after-tini")
}

func TestABrokenCrontabIsNoticed(t *testing.T) {
	crontab := filepath.Join(t.TempDir(), "crontab")
	if err := os.WriteFile(crontab, []byte("every now and then, healthcheck.sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, fmt.Sprintf("services:\n  app:\n    volumes: ['%s:/etc/app/crontab:ro']\n", crontab))
	s.docker("compose", "up", "-d", "--no-build")
	s.awaitLog("gave up: cron entered FATAL state", 1)
	s.awaitLog(`ending the container: a program can't be started","app":"listener","program":"cron"`, 1)
	s.until("docker restarts it", func() bool { return s.inspect("{{.RestartCount}}") != "0" })
}

// host plays with the machine's engine, where the tool that can is named by DOCKER_HOST_TOOL.
func host(t *testing.T, verb string) {
	t.Helper()
	out, err := exec.Command(os.Getenv("DOCKER_HOST_TOOL"), verb).CombinedOutput()
	const refused = 3
	if e, ok := err.(*exec.ExitError); ok && e.ExitCode() == refused {
		t.Skipf("the tool refuses to %s an engine that it has not started", verb)
	}
	if err != nil {
		t.Fatalf("docker-host %s: %v\n%s", verb, err, out)
	}
}

func TestTheHostLosesPowerAndReboots(t *testing.T) {
	if os.Getenv("DOCKER_HOST_TOOL") == "" {
		t.Skip("DOCKER_HOST_TOOL names no tool that can play a power cut and a reboot of this host")
	}
	s := newStack(t, "")
	s.up()
	s.process("before")
	for _, c := range []struct{ down, told string }{
		{"crash", "the last run ended without a word: killed"},
		{"down", `"msg":"last run"`},
	} {
		before := s.inspect("{{.State.StartedAt}}")
		host(t, c.down)
		began := time.Now()
		host(t, "boot")
		s.restarted(before)
		s.process("after-" + c.down)
		t.Logf("%s: engine started to the next event processed: %v", c.down, time.Since(began).Round(time.Millisecond))
		s.awaitLog(c.told, 1)
	}
}
