package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/stack"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The tests drive the real program: this test binary becomes `monitor`, and `puppet`, the program that it watches over.
func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"monitor": main, "puppet": puppet})
}

// leakless is goleak.VerifyTestMain for testscript.Main.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// patience bounds every wait; none of them needs it when the code is right.
const patience = 30 * time.Second

// puppet does what its arguments say, one after another.
func puppet() {
	silent := make(chan struct{})
	for _, arg := range os.Args[1:] {
		what, value, _ := strings.Cut(arg, ":")
		switch what {
		case "say":
			fmt.Println(value)
		case "pid":
			f, _ := os.OpenFile(value, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			fmt.Fprintln(f, os.Getpid())
			f.Close()
		case "env":
			fmt.Printf("%s=%s\n", value, os.Getenv(value))
		case "many":
			n, _ := strconv.Atoi(value)
			for i := range n {
				fmt.Println("line", i)
			}
		case "beat":
			every, _ := time.ParseDuration(value)
			c := heartbeat.New(heartbeat.Options{Addr: os.Getenv("HEARTBEAT_ADDR"), Every: every, Healthy: func() error {
				select {
				case <-silent:
					return errors.New("a worker is stuck")
				default:
					return nil
				}
			}})
			go func() { _ = c.Run(context.Background()) }()
		case "silent":
			close(silent)
		case "ignore":
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		case "catch":
			caught := make(chan os.Signal, 9)
			signal.Notify(caught, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
			go func() {
				for s := range caught {
					fmt.Println("caught", s)
					if s == syscall.SIGTERM {
						code, _ := strconv.Atoi(value)
						os.Exit(code)
					}
				}
			}()
		case "grandchild":
			cmd := exec.Command("sleep", "1000")
			if cmd.Start() == nil {
				_ = os.WriteFile(value, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
			}
		case "unless": // ends well from this restart on
			n, _ := strconv.Atoi(value)
			if now, _ := strconv.Atoi(os.Getenv("MONITOR_RESTARTS")); now >= n {
				os.Exit(0)
			}
		case "sleep":
			d, _ := time.ParseDuration(value)
			time.Sleep(d)
		case "hang":
			stack.Labelled(context.Background(), "processor", func(context.Context) { <-make(chan int) })
		case "busy":
			for i := 0; ; i++ {
			}
		case "panic":
			panic(value)
		case "exit":
			code, _ := strconv.Atoi(value)
			os.Exit(code)
		}
	}
}

// proc is a monitor that runs in a folder of its own.
type proc struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	since time.Time
}

// folder is short enough for sockets, unlike t.TempDir.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mon")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func environment() []string {
	return append(os.Environ(), "GORACE=atexit_sleep_ms=0", "DATA_DIR=", "HEARTBEAT_ADDR=") // else each race-built exit sleeps a second
}

// start runs monitor with the arguments in dir, in the background; its output is in the file log there.
func start(t *testing.T, dir string, args ...string) *proc {
	t.Helper()
	p := newProc(t, dir, args...)
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.begin()
	return p
}

func newProc(t *testing.T, dir string, args ...string) *proc {
	p := &proc{t: t, dir: dir, cmd: exec.Command("monitor", args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, environment()
	return p
}

func (p *proc) begin() {
	p.t.Helper()
	p.since = time.Now()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
}

func (p *proc) log() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return string(text)
}

// await waits until a regular expression matches the log, and returns its groups.
func (p *proc) await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if m := re.FindStringSubmatch(p.log()); m != nil {
			return m
		}
		select {
		case <-p.ended:
			if m := re.FindStringSubmatch(p.log()); m != nil {
				return m
			}
			p.t.Fatalf("the monitor ended before %q stood in its log:\n%s", pattern, p.log())
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%q is not in the log:\n%s", pattern, p.log())
		}
	}
}

// ready waits until the puppet has said so: the word stands in its command line, too.
func (p *proc) ready() { p.t.Helper(); p.await(`(?m)^ready$`) }

func (p *proc) signal(s syscall.Signal) {
	p.t.Helper()
	p.since = time.Now()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for the end and returns how long it took since the last signal or the start.
func (p *proc) exits(want int) time.Duration {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("the monitor does not end:\n%s", p.log())
	}
	if have := exitCode(p.cmd.ProcessState.Sys().(syscall.WaitStatus)); have != want {
		p.t.Fatalf("want exit %d, have %d:\n%s", want, have, p.log())
	}
	return time.Since(p.since)
}

// pids returns what the puppet's step pid:pids has written, one for each life.
func (p *proc) pids() (list []int) {
	text, _ := os.ReadFile(filepath.Join(p.dir, "pids"))
	for _, f := range strings.Fields(string(text)) {
		n, _ := strconv.Atoi(f)
		list = append(list, n)
	}
	return list
}

// life waits for the nth life of the puppet and returns its pid.
func (p *proc) life(n int) int {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("life %d", n), func() bool { return len(p.pids()) >= n })
	return p.pids()[n-1]
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// inTime checks a promised time. A busy machine only adds to it, so the best of some tries counts; mostly it is the first.
func inTime(t *testing.T, most time.Duration, try func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 3 {
		took = append(took, try())
		if t.Failed() || took[len(took)-1] <= most {
			return
		}
	}
	t.Errorf("want it within %v once at least, have %v", most, took)
}

// alive says whether a process is there and not a zombie.
func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.State != 'Z' && s.State != 'X'
}

// command runs the monitor's other commands in the folder.
func (p *proc) command(want int, args ...string) string {
	p.t.Helper()
	cmd := exec.Command("monitor", args...)
	cmd.Dir, cmd.Env = p.dir, environment()
	out, _ := cmd.CombinedOutput()
	if have := cmd.ProcessState.ExitCode(); have != want {
		p.t.Fatalf("monitor %q: want exit %d, have %d: %s", args, want, have, out)
	}
	return string(out)
}

func (p *proc) status() (s status) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.command(0, "status", "--json")), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// reportOf waits for the nth report and returns it.
func (p *proc) reportOf(n int) (r report) {
	p.t.Helper()
	var list []string
	eventually(p.t, "a crash report", func() bool {
		list, _ = filepath.Glob(filepath.Join(p.dir, "data/crashes/monitor-*.json"))
		if len(list) < n {
			return false
		}
		text, err := os.ReadFile(list[n-1])
		r = report{}
		return err == nil && json.Unmarshal(text, &r) == nil
	})
	return r
}

// inProcess runs the monitor within this process, which is quicker, and returns its exit code and output.
func inProcess(t testing.TB, args ...string) (code int, output string) {
	t.Helper()
	dir := folder(t)
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	own := []string{"-b", "ipc://" + dir + "/heartbeat", "-c", "ipc://" + dir + "/command", "--data-dir", dir}
	code = run(append(own, args...), environment(), streams{nil, out, out})
	text, _ := os.ReadFile(out.Name())
	return code, string(bytes.TrimSpace(text))
}
