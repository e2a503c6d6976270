//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// thePath is of the address that must never be seen outside of its file.
const thePath = "/ping/secret-uuid"

// onceAYear keeps cron out of tests that ping by hand.
const onceAYear = "0 0 1 1 *"

// recorder is a check at healthchecks.io: it notes what it is told.
type recorder struct {
	url    string
	port   int
	pings  chan string // method, path and body of those that were taken
	tries  atomic.Int32
	before func(try int32) (status int) // looks at each try first, where given
}

func newRecorder(t *testing.T, before func(int32) int) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0") // containers come from the bridge's address
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	r := &recorder{url: fmt.Sprintf("http://host.docker.internal:%d%s", port, thePath), port: port, pings: make(chan string, 100), before: before}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(req.Body, 1<<20))
		if n := r.tries.Add(1); r.before != nil {
			if status := r.before(n); status != http.StatusOK {
				w.WriteHeader(status)
				return
			}
		}
		if q := req.URL.RawQuery; q != "" && q != "create=1" {
			t.Errorf("want the query as it was, have %s", q)
		}
		r.pings <- req.Method + " " + req.URL.Path + " " + string(body)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}

func (r *recorder) next(t *testing.T) string {
	t.Helper()
	select {
	case p := <-r.pings:
		return p
	case <-time.After(patience):
		t.Fatal("no ping")
		return ""
	}
}

// overlay lets the container reach a recorder on this host, which it gets the address of. Cron pings according to the
// given line only, and docker finds it unhealthy soon.
func overlay(t *testing.T, port int, environment, cron string) string {
	t.Helper()
	crontab := filepath.Join(t.TempDir(), "crontab")
	if err := os.WriteFile(crontab, []byte(cron+" healthcheck.sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`services:
  app:
    extra_hosts: ['host.docker.internal:host-gateway']
    volumes: ['%s:/etc/app/crontab:ro']
    environment:
      WAIT_FOR: host.docker.internal:%d
      %s
    healthcheck:
      interval: 1s
`, crontab, port, environment)
}

func TestAnOperatorsStopIsRespected(t *testing.T) {
	r := newRecorder(t, nil)
	s := newStack(t, overlay(t, r.port, "HC_PING_URL: "+r.url+"/?create=1", onceAYear)) // what is told goes before the query
	s.up()
	s.kill("TERM", theApp)
	s.awaitLog("exited: app (exit status 0; expected)", 1)
	s.inside("healthcheck.sh")
	if p := r.next(t); !strings.HasPrefix(p, "POST "+thePath+"/log ") || !strings.Contains(p, "down by operator") {
		t.Errorf("want /log and down by operator, have %s", p)
	}
	if out := s.inside("sh", "-c", "supervisorctl status app || true"); !strings.Contains(out, "EXITED") {
		t.Errorf("want it to stay down, have %s", out)
	}
	s.until("docker finds it unhealthy", func() bool { return s.inspect("{{.State.Health.Status}}") == "unhealthy" })
	if n := s.inspect("{{.State.Running}} {{.RestartCount}}"); n != "true 0" {
		t.Errorf("want the container to live on, have %s", n)
	}
	began := s.inspect("{{.State.StartedAt}}")
	s.docker("compose", "restart")
	s.restarted(began)
	s.process("after")

	s.inside("supervisorctl", "stop", "app")
	s.inside("healthcheck.sh")
	if p := r.next(t); !strings.HasPrefix(p, "POST "+thePath+"/log ") {
		t.Errorf("want /log, have %s", p)
	}
	s.inside("supervisorctl", "start", "app")
	s.process("started-again")
	if n := s.inspect("{{.RestartCount}}"); n != "0" {
		t.Errorf("want the container to live on, have %s restarts", n)
	}
}

func TestPingsTellTheAppsRealHealthAndNeverTheAddress(t *testing.T) {
	r := newRecorder(t, nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hc_ping_url"), []byte(r.url+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const everyTwoSeconds = "*/2 * * * * * *"
	s := newStack(t, overlay(t, r.port, "", everyTwoSeconds), "SECRETS_DIR="+dir)
	s.files = append(s.files, filepath.Join(root, "docker/compose.secrets.yml"))
	s.up()
	// The first may have come before the app was up.
	s.until("cron pings success", func() bool {
		p := r.next(t)
		return strings.HasPrefix(p, "POST "+thePath+" ") && strings.Contains(p, "base-app: ok, up ")
	})
	// With a hung monitor beside it: a living one would replace the app before anybody pings.
	s.kill("STOP", theMonitor)
	s.kill("STOP", theApp)
	s.until("cron pings the failure of a hung app", func() bool {
		p := r.next(t)
		return strings.HasPrefix(p, "POST "+thePath+"/fail ") && strings.Contains(p, "the app does not answer")
	})
	s.until("docker finds it unhealthy", func() bool { return s.inspect("{{.State.Health.Status}}") == "unhealthy" })
	s.kill("CONT", theApp)
	s.kill("CONT", theMonitor)
	s.until("and its recovery", func() bool { return strings.HasPrefix(r.next(t), "POST "+thePath+" ") })
	s.until("which docker sees too", func() bool { return s.inspect("{{.State.Health.Status}}") == "healthy" })
	for what, text := range map[string]string{
		"the log":             s.logs(),
		"docker inspect":      s.docker("inspect", s.id()),
		"the image":           s.docker("image", "inspect", image),
		"the image's history": s.docker("history", "--no-trunc", image),
		"the environment":     s.inside("env"),
		"a file":              s.inside("sh", "-c", "grep -rs secret-uuid /data /tmp /run/*.* /etc/app || true"),
	} {
		if strings.Contains(text, "secret-uuid") {
			t.Errorf("%s has the address", what)
		}
	}
}

func TestAPingIsTriedAgainAndNeverShowsTheAddress(t *testing.T) {
	var s *stack
	var commands atomic.Value
	r := newRecorder(t, func(try int32) int {
		if try > 2 {
			return http.StatusOK
		}
		out, _ := s.try("compose", "exec", "-T", "app", "sh", "-c", `cat /proc/[0-9]*/cmdline | tr '\0' ' '`)
		commands.Store(out)
		return http.StatusServiceUnavailable
	})
	s = newStack(t, overlay(t, r.port, "HC_PING_URL: "+r.url, onceAYear))
	s.up()
	s.awaitLog(`answers","app":"entrypoint"`, 1)
	if out := s.inside("healthcheck.sh"); out != "" {
		t.Errorf("want silence, have %s", out)
	}
	if p := r.next(t); !strings.HasPrefix(p, "POST "+thePath+" ") || r.tries.Load() != 3 {
		t.Errorf("want success at the third try, have try %d: %s", r.tries.Load(), p)
	}
	if c := fmt.Sprint(commands.Load()); !strings.Contains(c, "curl") || strings.Contains(c, "secret-uuid") {
		t.Errorf("want the address in no command line, have %s", c)
	}
}

func TestNoAddressIsSilenceAndAnUnreadableOneAnError(t *testing.T) {
	s := newStack(t, "")
	s.up()
	if out := s.inside("healthcheck.sh"); out != "" {
		t.Errorf("want silence, have %s", out)
	}
	if out, err := s.try("compose", "exec", "-T", "-e", "HC_PING_URL_FILE=/data/none", "app", "healthcheck.sh"); err == nil || !strings.Contains(out, "can't be read") {
		t.Errorf("want an error that says why, have %v: %s", err, out)
	}
}
