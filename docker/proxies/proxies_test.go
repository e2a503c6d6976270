// Package proxies_test runs the samples docker/haproxy/haproxy.cfg and docker/nginx/nginx.conf as they are, but for
// addresses and folders, with the real HAProxy and nginx, without any right, in front of two real replicas of the app. Replicas are
// stopped, killed and started again under load, and clients count what they were answered.
//
// Each replica has the queue in its own process. Replicas that share a cluster do the same towards a proxy; what differs is
// that an id which both know is then handled once. Nothing here needs Docker.
package proxies_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// patience bounds every wait; none of them needs it when the code is right.
	patience = 60 * time.Second
	// nobody is the user that the proxies run as when the tests run as root.
	nobody = 65534
	root   = "../.."
)

var programs string // the folder of the app, built once

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "proxies"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programs)
		os.Exit(code)
	}))
}

var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "app")
	out, err := exec.Command("go", "build", "-o", path, root+"/internal/testapp").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// installed returns the path of a Debian package's program. Only where nobody promised the package the test is left out.
func installed(t *testing.T, name string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8, which only Linux has")
	}
	for _, place := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("no %s here, and CI is to install it", name)
	}
	t.Skipf("no %s here: apt-get install %s", name, name)
	return ""
}

// until polls for a state.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(patience); !reached(); <-look.C {
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// process is a child whose output is in a file, since a program that opens /dev/stdout can't open another user's pipe.
type process struct {
	*exec.Cmd
	log   string
	ended chan struct{}
}

func start(t *testing.T, cmd *exec.Cmd, log string, uid int) *process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid != os.Getuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		if err := file.Chown(uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{cmd, log, make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with nginx's workers
		<-p.ended
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", filepath.Base(log), tail(p.said()))
		}
	})
	return p
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

func (p *process) said() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit waits for the end of the process and returns its code, -1 after a signal.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	until(t, "the end of "+p.Path, func() bool { return !p.running() })
	return p.ProcessState.ExitCode()
}

// proxy starts a proxy on a sample in which each old text has been replaced by the new one behind it.
func proxy(t *testing.T, sample string, command func(folder, config string) []string, replace ...string) *process {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, sample))
	if err != nil {
		t.Fatal(err)
	}
	folder, uid := folder(t), os.Getuid()
	if uid == 0 {
		uid = nobody
		if err := os.Chown(folder, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	config := string(text)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(config, replace[i]) {
			t.Fatalf("%s doesn't have %q any more", sample, replace[i])
		}
		config = strings.ReplaceAll(config, replace[i], strings.ReplaceAll(replace[i+1], "$FOLDER", folder))
	}
	path := filepath.Join(folder, filepath.Base(sample))
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	words := command(folder, path)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = folder
	return start(t, cmd, filepath.Join(folder, "log"), uid)
}

// folder returns one with a short name, as a socket in it needs, through which other users find a way.
func folder(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("", "proxies")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// freePort returns a port that is free now on all the addresses. Those of the replicas are theirs alone, so that no client's
// connection takes the port while a replica is away.
func freePort(t *testing.T, hosts ...string) string {
	t.Helper()
	for range 100 {
		port, free := "0", true
		var held []net.Listener
		for _, host := range hosts {
			l, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if free = err == nil; !free {
				break
			}
			held = append(held, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
		}
		for _, l := range held {
			l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatalf("no port is free on %q", hosts)
	return ""
}

// find returns the first group of the first match in a file, and fails where there is none.
func find(t *testing.T, name, pattern string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?m)" + pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has nothing like %s", name, pattern)
	}
	return string(m[1])
}
