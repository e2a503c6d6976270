package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/pipeline"
	"example.com/base-app/pkg/worker"
	"example.com/base-app/pkg/zmq"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts in testdata/script drive the real program: this test binary becomes `app`, and `broken`, which is the
// same app with a worker that breaks in the way that an event tells it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"app":       main,
		"broken":    func() { os.Exit(cli.Main(&config{}, runBroken)) },
		"failing":   func() { os.Exit(cli.Main(&config{}, runFailing)) },
		"recording": func() { os.Exit(cli.Main(&config{}, runRecording)) },
		"faulty":    func() { os.Exit(cli.Main(&config{}, runFaulty)) },
		"scheduled": func() { os.Exit(cli.Main(&scheduledConfig{}, runScheduled)) },
		"mistaken":  mainMistaken,
		"naive":     mainNaive,
	})
}

// runBroken runs the app with a victim: a worker that does what the handler of an event {"victim": "…"} tells it.
func runBroken(rt *base.Runtime, _ *config) error {
	orders := make(chan string, 1)
	victim := func(ctx context.Context) error {
		for {
			select {
			case order := <-orders:
				if err := breakDown(rt, order); err != nil || order == "return" {
					return err
				}
			case <-ctx.Done():
				return nil
			case <-time.After(10 * time.Millisecond):
				nanny.Beat(ctx)
			}
		}
	}
	rt.Go("victim", victim, nanny.Deadline(300*time.Millisecond))
	rt.Go("phoenix", idle, nanny.Restart(1, time.Hour))
	return runWith(rt, func(ctx context.Context, e event.Event) error {
		if m := order.FindSubmatch(e.Body); m != nil {
			orders <- string(m[1])
		}
		if bytes.Contains(e.Body, []byte("handler panics")) {
			panic("the handler panics")
		}
		if bytes.Contains(e.Body, []byte("handler waits")) {
			<-ctx.Done()
			return ctx.Err()
		}
		if bytes.Contains(e.Body, []byte("handler takes its time")) {
			rt.Log.Info("the handler takes its time")
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if bytes.Contains(e.Body, []byte("handler can never")) {
			return fault.Permanent(errors.New("no such customer"))
		}
		if bytes.Contains(e.Body, []byte("handler kills the process")) {
			go panic("nobody can recover this")
			hangForEver()
		}
		if bytes.Contains(e.Body, []byte("handler hangs")) {
			hangForEver()
		}
		return nil
	})
}

// runWith runs an app that handles events of each type with h.
func runWith(rt *base.Runtime, h pipeline.Handler) error {
	p := pipeline.New(rt)
	p.HandleAll(h)
	return p.Run(nil)
}

// idle is a worker that waits for its end.
func idle(ctx context.Context) error {
	place := "nothing to do"
	self := worker.FromContext(ctx)
	self.Park(&place)
	defer self.Unpark()
	<-ctx.Done()
	return nil
}

// runFailing starts a worker and then finds that it can't go on: the worker still ends in order, before the hooks.
func runFailing(rt *base.Runtime, _ *config) error {
	rt.OnStop("hook", time.Second, func(context.Context) error { rt.Log.Info("the hook runs"); return nil })
	ready := make(chan struct{})
	rt.Go("worker", func(ctx context.Context) error {
		close(ready)
		<-ctx.Done()
		<-time.After(50 * time.Millisecond)
		rt.Log.Info("the worker has ended")
		return nil
	})
	<-ready
	return errors.New("cannot open the database")
}

var order = regexp.MustCompile(`"victim": *"([^"]*)"`)

func breakDown(rt *base.Runtime, order string) error {
	switch order {
	case "panic":
		panic("the victim panics")
	case "fail":
		return errors.New("the victim fails")
	case "dependency":
		return fault.Dependency("database", errors.New("connection refused"))
	case "hang":
		hangForEver()
	case "ignore the shutdown":
		rt.Log.Info("the victim obeys")
		<-rt.Context().Done()
		hangForEver()
	case "crash":
		go panic("nobody guards this goroutine")
		hangForEver()
	case "be sick":
		rt.Check("victim", func() (any, error) { return "sick", errors.New("the victim is sick") })
	case "receive without a context":
		s, err := rt.ZMQ.Bind(rt.Context(), zmq.Pull, "inproc://nobody-sends")
		if err != nil {
			return err
		}
		rt.Go("deaf", func(context.Context) error {
			_, err := s.Recv(context.Background())
			return errors.Join(err, s.Close())
		})
	case "hold a hook":
		rt.OnStop("holder", time.Second, func(context.Context) error {
			hangForEverAfter(func() { rt.Log.Info("the hook hangs") })
			return nil
		})
		rt.Log.Info("the victim obeys")
	}
	return nil
}

func hangForEver() { <-make(chan struct{}) }

// hangForEverAfter hangs, too, and stands in the stack already while it tells so.
func hangForEverAfter(tell func()) {
	tell()
	hangForEver()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("WEB_ADDR", "127.0.0.1:0")
			env.Setenv("SYSLOG_ADDRESS", "off")
			env.Setenv("GORACE", noRaceSleep)
			env.Values["child"] = &child{work: env.WorkDir}
			env.Defer(env.Values["child"].(*child).kill)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":  func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).start(ts, args) },
			"await":  func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).await(ts, args) },
			"signal": func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).signal(ts, args[0]) },
			"exits":  func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).exits(ts, args) },
			"post":   func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).post(ts, args) },
			"freeport": func(ts *testscript.TestScript, _ bool, _ []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				ts.Setenv("WEB_ADDR", l.Addr().String())
				ts.Check(l.Close())
			},
			"fill": func(ts *testscript.TestScript, _ bool, args []string) { theChild(ts).fill(ts, args[0]) },
			"get":  func(ts *testscript.TestScript, neg bool, args []string) { theChild(ts).get(ts, neg, args) },

			"record": record,
		},
	})
}

func theChild(ts *testscript.TestScript) *child { return ts.Value("child").(*child) }

// noRaceSleep keeps the race detector from sleeping for a second at each exit.
const noRaceSleep = "atexit_sleep_ms=0"

// patience bounds every wait of a script; the machine may be very busy.
const patience = 30 * time.Second

// child is the process that a script drives, one at a time. Its output is in the file log.
type child struct {
	work  string
	cmd   *exec.Cmd
	ended chan struct{}
	url   string
	since time.Time // of the last signal or request: what the time in `exits` counts from
}

// start runs a program in the background: start app [args…]
func (c *child) start(ts *testscript.TestScript, args []string) {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	log, err := os.Create(filepath.Join(c.work, "log"))
	ts.Check(err)
	defer log.Close()
	c.cmd = exec.Command(path, args[1:]...)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = c.work, log, log
	c.cmd.Env = append(os.Environ(), "PWD="+c.work, "GORACE="+noRaceSleep)
	for _, name := range []string{"WEB_ADDR", "SYSLOG_ADDRESS", "DATA_DIR", "SHUTDOWN_GRACE", "LOG_LEVEL", "LOG_FORMAT", "HANDLER_TIMEOUT",
		"QUEUE_MAX_DELIVERIES", "QUEUE_MAX_BYTES", "WORKERS", "DEPLOYMENT_ID", "WEB_RATE", "WEB_BURST", "DRAIN_DELAY", "PROGRESS_DEADLINE", "APP_REPORT_SPEC", "APP_REPORT_PING_URL", "APP_BANK_URL", "APP_FORGET_CLOSE", "APP_NAIVE", "APP_POLL_EVERY"} {
		if v := ts.Getenv(name); v != "" {
			c.cmd.Env = append(c.cmd.Env, name+"="+v)
		}
	}
	ts.Check(c.cmd.Start())
	c.since, c.url, c.ended = time.Now(), "", make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(c.ended) }()
}

func (c *child) log() string { return c.text("log") }

func (c *child) text(file string) string {
	text, _ := os.ReadFile(filepath.Join(c.work, file))
	return string(text)
}

// await waits until a regular expression matches the log, or another file: await 'msg":"started"' [file]
func (c *child) await(ts *testscript.TestScript, args []string) {
	pattern, file := args[0], "log"
	if len(args) > 1 {
		file = args[1]
	}
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	for deadline := time.Now().Add(patience); !re.MatchString(c.text(file)); time.Sleep(2 * time.Millisecond) {
		select {
		case <-c.ended:
			if !re.MatchString(c.text(file)) {
				ts.Fatalf("the process ended before %s stood in its %s:\n%s", pattern, file, c.text(file))
			}
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s is not in the %s after %v:\n%s", pattern, file, patience, c.text(file))
		}
	}
}

// signal sends a signal by its name without SIG: signal TERM
func (c *child) signal(ts *testscript.TestScript, name string) {
	s, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[name]
	if !ok {
		ts.Fatalf("unknown signal %s", name)
	}
	c.since = time.Now()
	ts.Check(c.cmd.Process.Signal(s))
}

// exits waits for the end and checks the code, or the signal's name, and how long it took: exits 70 200ms 2s
func (c *child) exits(ts *testscript.TestScript, args []string) {
	least, err := time.ParseDuration(args[1])
	ts.Check(err)
	most, err := time.ParseDuration(args[2])
	ts.Check(err)
	select {
	case <-c.ended:
	case <-time.After(patience):
		_ = c.cmd.Process.Signal(syscall.SIGQUIT)
		<-c.ended
		ts.Fatalf("no end within %v:\n%s", patience, c.log())
	}
	took := time.Since(c.since)
	have := strconv.Itoa(c.cmd.ProcessState.ExitCode())
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		have = status.Signal().String()
	}
	if have != args[0] || took < least || took > most {
		ts.Fatalf("want exit %s after %v to %v, have %s after %v:\n%s", args[0], least, most, have, took, c.log())
	}
	ts.Logf("exit %s after %v", have, took)
}

func (c *child) base(ts *testscript.TestScript) string {
	if c.url == "" {
		c.await(ts, []string{`"url":"http`})
		c.url = regexp.MustCompile(`"url":"([^"]*)"`).FindStringSubmatch(c.log())[1]
	}
	return c.url
}

// post sends an event, or a file's, or as many as a number says, and checks the status; the answer is in the file
// answer: post 202 '{"a":1}' [header:value]
// The status - means that the process may be gone before it answers.
func (c *child) post(ts *testscript.TestScript, args []string) {
	body := args[1]
	if name, ok := strings.CutPrefix(body, "@"); ok {
		body = ts.ReadFile(name)
	} else if n, err := strconv.Atoi(body); err == nil {
		body = strings.Repeat(`{"type":"order.created"}`+"\n", n)
	}
	req, err := http.NewRequest(http.MethodPost, c.base(ts)+"/events", strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	for _, h := range args[2:] {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(name, value)
	}
	c.since = time.Now()
	status, text, err := c.do(ts, req)
	if args[0] == "-" {
		return
	}
	ts.Check(err)
	if status != args[0] {
		ts.Fatalf("want status %s, have %s: %s", args[0], status, text)
	}
}

// fill posts large events, the first of which the handler never finishes, until one is answered with the status: fill 503
func (c *child) fill(ts *testscript.TestScript, status string) {
	c.post(ts, []string{"202", `{"do":"handler waits"}`})
	body := `{"filler":"` + strings.Repeat("x", 400<<10) + `"}`
	for i := range 4 {
		c.post(ts, []string{"202", body, fmt.Sprintf("Idempotency-Key:filler-%d", i+1)})
	}
	c.post(ts, []string{"-", body})
	c.post(ts, []string{status, body})
}

// get asks for a path until the answer has the status, and the text if there is one: get 200 /events/x '"processed"'
func (c *child) get(ts *testscript.TestScript, _ bool, args []string) {
	want := ""
	if len(args) > 2 {
		want = args[2]
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		req, err := http.NewRequest(http.MethodGet, c.base(ts)+args[1], nil)
		ts.Check(err)
		status, text, err := c.do(ts, req)
		if err == nil && status == args[0] && strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("want status %s and %s, have %s and %s, %v", args[0], want, status, text, err)
		}
	}
}

// do sends a request; the answer is also in the file answer.
func (c *child) do(ts *testscript.TestScript, req *http.Request) (status, text string, err error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", "", err
	}
	var head bytes.Buffer
	_ = answer.Header.Write(&head)
	ts.Check(os.WriteFile(filepath.Join(c.work, "answer"), fmt.Appendf(nil, "%s%s", head.Bytes(), body), 0o644))
	return strconv.Itoa(answer.StatusCode), string(body), nil
}

func (c *child) kill() {
	if c.cmd == nil {
		return
	}
	select {
	case <-c.ended:
	default:
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}
