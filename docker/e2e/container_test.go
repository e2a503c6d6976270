//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestComesUpHealthyAndSmallWithoutRights(t *testing.T) {
	s := newStack(t, "")
	began := time.Now()
	s.up()
	t.Logf("docker compose up to healthy: %v", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("want it healthy within 10 s, have %v", took)
	}
	s.process("first")
	if !strings.Contains(s.logs(), `"memory_limit":"460 MiB"`) {
		t.Errorf("want the Go runtime to know nine tenths of the container's 512 MiB, have:\n%s", s.logs())
	}
	s.inside("app", "cleanup") // cron does it at night
	if have := s.inspect("{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Type}} " +
		"{{.HostConfig.LogConfig.Config}} {{.HostConfig.SecurityOpt}} {{.HostConfig.PidsLimit}} {{.HostConfig.Memory}}"); have !=
		"999:999 true [ALL] unless-stopped json-file map[max-file:5 max-size:10m] [no-new-privileges:true] 256 536870912" {
		t.Errorf("have %s", have)
	}
	for line := range strings.Lines(s.docker("top", s.id(), "-eo", "pid,uid,args")) {
		if uid := strings.Fields(line)[1]; uid != "UID" && uid != "999" {
			t.Errorf("want every process to be 999's, have %s", line)
		}
	}
	for _, path := range []string{"/x", "/etc/x", "/usr/local/bin/x"} {
		if out, err := s.try("compose", "exec", "-T", "app", "touch", path); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("want %s read-only, have %s", path, out)
		}
	}
	size, _ := strconv.Atoi(s.docker("image", "inspect", "-f", "{{.Size}}", image))
	if size == 0 || size > 200e6 {
		t.Errorf("want an image under 200 MB, have %d bytes", size)
	}
	usage := s.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", s.id())
	if mib, _ := strconv.ParseFloat(strings.Split(usage, "MiB")[0], 64); mib == 0 || mib > 80 {
		t.Errorf("want it under 80 MiB, have %s", usage)
	}
	used, began := s.cpu(), time.Now()
	time.Sleep(30 * time.Second) // two health checks
	share := float64(s.cpu()-used) / float64(time.Since(began))
	if share > 0.01 {
		t.Errorf("want it to use less than 1 %% of a core, have %.2f %%", 100*share)
	}
	t.Logf("idle: %s, %.2f %% of a core; image: %.0f MB", usage, 100*share, float64(size)/1e6)
}

// cpu returns the processor time that the container has used. It asks the engine: a command inside would be in it, and costs as
// much as a health check.
func (s *stack) cpu() time.Duration {
	s.t.Helper()
	path, ok := strings.CutPrefix(s.docker("context", "inspect", "-f", "{{.Endpoints.docker.Host}}"), "unix://")
	if !ok {
		s.t.Fatalf("want an engine with a unix socket, have %q", path)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	answer, err := client.Get("http://docker/containers/" + s.id() + "/stats?stream=false&one-shot=true")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	var told struct {
		CPU struct {
			Usage struct {
				Total time.Duration `json:"total_usage"` // in nanoseconds
			} `json:"cpu_usage"`
		} `json:"cpu_stats"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&told); err != nil || told.CPU.Usage.Total == 0 {
		s.t.Fatalf("processor time: %+v, %v", told, err)
	}
	return told.CPU.Usage.Total
}

func TestASlowStopExplainsItselfBeforeAnyKill(t *testing.T) {
	r := newRecorder(t, nil)
	s := newStack(t, overlay(t, r.port, "HC_PING_URL: "+r.url, onceAYear), "IMAGE="+stubborn)
	s.up()
	if status, text := s.request("POST", "/stubborn", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { _, err := s.try("compose", "stop"); stopped <- err }()
	s.awaitLog("received SIGTERM indicating exit request", 1)
	s.until("the app answers no more", func() bool { status, _ := s.request("GET", "/healthz", ""); return status == 0 })
	s.inside("healthcheck.sh")
	if p := r.next(t); !strings.HasPrefix(p, "POST "+thePath+"/log ") {
		t.Errorf("want nobody paged while it is being stopped, have %s", p)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 35*time.Second || took > 45*time.Second {
		t.Errorf("want the app's own forced end after 35 s, and no KILL, have %v", took)
	}
	logs := s.logs()
	for _, want := range []string{"the shutdown takes longer than 30s", `worker mule`, "main.standStill", `"code":70`, "stopped: app (exit status 70)"} {
		if !strings.Contains(logs, want) {
			t.Errorf("want %q in the log", want)
		}
	}
	if code := s.inspect("{{.State.ExitCode}}"); code != "0" {
		t.Errorf("want docker to see an orderly stop, have %s", code)
	}
	if e := s.lastExit(); e.Code != 70 || e.Clean || !strings.Contains(e.Cause, "SIGTERM") {
		t.Errorf("want code 70 of SIGTERM in last_exit.json, have %+v", e)
	}
}

func TestAPromptStopIsPrompt(t *testing.T) {
	s := newStack(t, "")
	s.up()
	began := time.Now()
	s.docker("compose", "stop")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("want it within seconds, have %v", took)
	}
	if e := s.lastExit(); e.Code != 0 || !e.Clean {
		t.Errorf("want a clean 0, have %+v", e)
	}
	// The data outlive the container.
	s.docker("compose", "down")
	s.up()
	s.awaitLog(`"msg":"last run"`, 1)
}

func TestZombiesAreReaped(t *testing.T) {
	s := newStack(t, "")
	s.up()
	// Their parents are gone when they end: only the container's first process can reap them.
	s.inside("bash", "-c", "for i in $(seq 20); do (sleep 10 >/dev/null 2>&1 & exec true) & done; wait")
	orphans := func() int {
		return strings.Count(s.inside("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || true"), "(sleep)")
	}
	if n := orphans(); n != 20 {
		t.Fatalf("want 20 orphans, have %d", n)
	}
	s.until("they are gone, and no zombie is left of them", func() bool { return orphans() == 0 })
}

func TestLogLinesAreWholeAndNeitherLostNorDoubled(t *testing.T) {
	s := newStack(t, "services:\n  app:\n    environment:\n      LOG_LEVEL: debug\n")
	s.up()
	const events = 500
	done := make(chan int, 8)
	for hand := range 8 {
		go func() {
			bad := 0
			for i := hand; i < events; i += 8 {
				if status, _ := s.request("POST", "/events", fmt.Sprintf(`{"type":"order.created","id":"line-%d"}`, i)); status != 202 {
					bad++
				}
			}
			done <- bad
		}()
	}
	// State dumps among them: many records at once, up to the longest that the app writes.
	const dumps = 5
	for range dumps {
		s.kill("USR1", theApp)
	}
	for range 8 {
		if bad := <-done; bad > 0 {
			t.Errorf("%d posts were refused", bad)
		}
	}
	s.awaitLog(`"order created"`, events)
	supervisor := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARN|CRIT) `)
	count, longest := map[string]int{}, 0
	var lines []string
	for line := range strings.Lines(s.logs()) {
		line = strings.TrimRight(line, "\n")
		longest = max(longest, len(line))
		var record map[string]any
		switch {
		case supervisor.MatchString(line):
			lines = append(lines, line)
		case json.Unmarshal([]byte(line), &record) != nil:
			t.Errorf("no whole record: %s", line)
		case record["msg"] == "order created":
			count[fmt.Sprint(record["id"])]++
		}
	}
	for i := range events {
		if n := count[fmt.Sprintf("line-%d", i)]; n != 1 {
			t.Errorf("want line-%d once, have it %d times", i, n)
		}
	}
	if longest < 1000 {
		t.Errorf("want long records too, the longest has %d bytes", longest)
	}
	t.Logf("the longest record has %d bytes", longest)
	slices.Sort(lines)
	if n := len(slices.Compact(slices.Clone(lines))); n != len(lines) {
		t.Errorf("want none of supervisord's lines doubled, have %q", lines)
	}
}

func TestTheStartWaitsForDependenciesAndGivesUpClearly(t *testing.T) {
	s := newStack(t, "")
	out, err := s.try("run", "--rm", "-e", "WAIT_FOR=127.0.0.1:9", "-e", "WAIT_FOR_TIMEOUT=1", image)
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 69 || !strings.Contains(out, "127.0.0.1:9 did not answer within 1 s") {
		t.Errorf("want exit 69 and the name, have %v: %s", err, out)
	}
	for _, wrong := range []string{"WAIT_FOR=nonsense", "WAIT_FOR=127.0.0.1:9,nonsense", "WAIT_FOR_TIMEOUT=1h"} {
		out, err = s.try("run", "--rm", "-e", wrong, image)
		if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 78 || !strings.Contains(out, "WAIT_FOR") {
			t.Errorf("%s: want exit 78 and the name, have %v: %s", wrong, err, out)
		}
	}
}
