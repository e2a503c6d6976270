package base

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type forked struct {
	Settings
	Colour string `envconfig:"APP_COLOUR" default:"red" desc:"the fork's own"`
}

// call runs the app in this process. Its error is what the command line would print.
func call(t *testing.T, run func(*Runtime) error, vars []string) (code int, out, err string) {
	t.Helper()
	var stdout bytes.Buffer
	code, e := runWith(&stdout, run, append(vars, "WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off", "DATA_DIR="+t.TempDir())) // the first counts
	if e != nil {
		err = e.Error() + " (" + fault.Hint(e) + ")\n"
	}
	return code, stdout.String(), err
}

// runWith runs the app with its log in out.
func runWith(out io.Writer, run func(*Runtime) error, vars []string) (code int, err error) {
	cfg, env := &forked{}, config.Environment{Vars: vars}
	warnings, err := Load(cfg, env)
	if err != nil {
		return fault.ExitCode(err), err
	}
	signals := lifecycle.Arm()
	defer signals.Disarm()
	return Run(Program{Config: cfg, Warnings: warnings, Env: env, Out: out, Signals: signals, Main: func(rt *Runtime) error {
		err := run(rt)
		if err == nil {
			rt.Done("tested")
		}
		return err
	}})
}

func TestARunIsServedAndEndsWithItsCause(t *testing.T) {
	for _, c := range []struct {
		cause error
		code  int
		last  string
	}{
		{nil, 1, `"cause":"stopped without a cause"`},
		{errors.New("boom"), 1, `"cause":"boom"`},
		{fault.Dependency("db", errors.New("gone")), 69, `"cause":"dependency: db: gone"`},
	} {
		code, out, _ := call(t, func(rt *Runtime) error {
			rt.Serve(func(mux *http.ServeMux) {
				mux.HandleFunc("GET /own", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
			})
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/version": 200, "/own": 418, "/other": 404} {
				if have := statusOf(t, rt.addr, path); have != want {
					t.Errorf("%s: want %d, have %d", path, want, have)
				}
			}
			rt.Started()
			if have := statusOf(t, rt.addr, "/readyz"); have != 200 {
				t.Errorf("want it ready once it has started, have %d", have)
			}
			rt.Stop(c.cause)
			return rt.Wait()
		}, nil)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != c.code || !strings.Contains(lines[len(lines)-1], c.last) {
			t.Errorf("want %d and %s in the last line, have %d and %s", c.code, c.last, code, lines[len(lines)-1])
		}
	}
}

func statusOf(t *testing.T, addr net.Addr, path string) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

// A refused start is told as such by the next one, and never as a crash; the data folder of another is left alone.
func TestARefusedStartIsRemembered(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "crashes"), nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	if code, _, err := call(t, nil, []string{"DATA_DIR=" + dir}); code != 78 || !strings.Contains(err, "DATA_DIR") {
		t.Fatalf("want 78 and what to do, have %d, %s", code, err)
	}
	if err := os.Remove(filepath.Join(dir, "crashes")); err != nil {
		t.Fatal(err)
	}
	other := func(rt *Runtime) error {
		if code, _, err := call(t, nil, []string{"DATA_DIR=" + dir}); code != 78 || !strings.Contains(err, "already uses the data folder") {
			t.Errorf("want the second refused, have %d, %s", code, err)
		}
		if last, err := lifecycle.LoadExit(dir); err != nil || last.Kind != "config" {
			t.Errorf("want the refused start in last_exit.json, not the second's, have %+v, %v", last, err)
		}
		return nil
	}
	if _, out, _ := call(t, other, []string{"DATA_DIR=" + dir}); !strings.Contains(out, `"msg":"last run"`) || strings.Contains(out, "without a word") {
		t.Errorf("want the start before told as refused, have\n%s", out)
	}
}

func TestASampleOfTheLogIsTakenOnRequest(t *testing.T) {
	for setting, want := range map[string]int{"LOG_SAMPLE=0": 100, "LOG_SAMPLE=10": 10 + 9} {
		code, out, _ := call(t, func(rt *Runtime) error {
			for i := range 100 {
				rt.Log.Info("hello", "n", i)
			}
			return nil
		}, []string{setting})
		if have := strings.Count(out, `"msg":"hello"`); code != 0 || have != want {
			t.Errorf("%s: want %d lines, have %d", setting, want, have)
		}
		if told := strings.Contains(out, `"line":"hello","count":81}`); told != (want < 100) {
			t.Errorf("%s: want what was left out told at the end, have %t", setting, told)
		}
	}
}

func TestTwoWorkersOfOneNameEndTheProcess(t *testing.T) {
	code, _, _ := call(t, func(rt *Runtime) error {
		wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
		rt.Go("twin", wait)
		rt.Go("twin", wait)
		return rt.Wait()
	}, nil)
	if code != 1 {
		t.Errorf("want 1, have %d", code)
	}
}

// Whatever way the app's run ends, the hooks come after the workers: they close what the workers use.
func TestHooksComeAfterTheWorkersHoweverRunEnds(t *testing.T) {
	for name, end := range map[string]func() error{
		"an error": func() error { return errors.New("boom") },
		"a panic":  func() error { panic("boom") },
		"Goexit":   func() error { runtime.Goexit(); return nil },
	} {
		var worker, hook time.Time
		code, _, _ := call(t, func(rt *Runtime) error {
			rt.OnStop("hook", time.Second, func(context.Context) error { hook = time.Now(); return nil })
			started := make(chan struct{})
			rt.Go("worker", func(ctx context.Context) error {
				close(started)
				<-ctx.Done()
				time.Sleep(50 * time.Millisecond)
				worker = time.Now()
				return nil
			})
			<-started
			return end()
		}, nil)
		if code != 1 || worker.IsZero() || hook.Before(worker) {
			t.Errorf("%s: want exit 1 and the hook after the worker, have %d, %v, %v", name, code, worker, hook)
		}
	}
}

func TestAStartDuringABackupWaitsForIt(t *testing.T) {
	dir := t.TempDir()
	lent, err := lifecycle.BorrowFolder(dir, "app backup")
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(300*time.Millisecond, func() { lent.Close() }).Stop()
	code, out, _ := call(t, func(*Runtime) error { return nil }, []string{"DATA_DIR=" + dir})
	if code != 0 || !strings.Contains(out, `"msg":"waiting for a command to end that uses the data folder"`) {
		t.Errorf("want a start that waited, have %d\n%s", code, out)
	}
}
