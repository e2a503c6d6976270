package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait of these tests; none of them needs it when the code is right.
const patience = 10 * time.Second

// socket is a server that runs until the test ends.
type socket struct {
	*control.Server
	path string
	logs *logs
	stop func() // ends it and returns when it has ended
}

func start(t *testing.T, path string) *socket {
	t.Helper()
	s := &socket{path: path, logs: &logs{}}
	var err error
	s.Server, err = control.Listen(control.Options{Path: path, Log: slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	})
	t.Cleanup(s.stop)
	return s
}

// folder is short enough for a socket, unlike t.TempDir with a long test name.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestTheFileIsPrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		path := filepath.Join(folder(t), "control.sock")
		old := syscall.Umask(umask)
		s := start(t, path)
		syscall.Umask(old)
		file, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if have, want := file.Mode(), fs.ModeSocket|0o600; have != want {
			t.Errorf("umask %o: have %v, want %v", umask, have, want)
		}
		s.stop()
		if exists(path) {
			t.Error("the file is still there after the end")
		}
	}
}

func TestListenRefusesAndSaysWhatToDo(t *testing.T) {
	dir := folder(t)
	served := filepath.Join(dir, "served")
	start(t, served)
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, text, hint string }{
		{"a path that is served", served, "is served by another process", "stop that one first"},
		{"a path that is no socket", plain, "is no socket", "remove that file"},
		{"a path that is too long", filepath.Join(dir, strings.Repeat("x", 108)), "the system allows 107", "shorter DATA_DIR"},
		{"no path", "", "is empty", "set CONTROL_SOCKET"},
		{"an abstract name", "@app", "has no permissions", "set CONTROL_SOCKET"},
		{"a folder that is missing", filepath.Join(dir, "missing", "s"), "no such file", "make the folder " + filepath.Join(dir, "missing")},
		{"a folder that is a file", filepath.Join(plain, "s"), "not a directory", "set CONTROL_SOCKET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := control.Listen(control.Options{Path: c.path})
			if err == nil {
				t.Fatal("it listens")
			}
			if have := fault.ExitCode(err); have != fault.ExitConfig {
				t.Errorf("exit code: have %d, want %d", have, fault.ExitConfig)
			}
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(fault.Hint(err), c.hint) {
				t.Errorf("have %q with hint %q", err, fault.Hint(err))
			}
		})
	}
	if text, _ := os.ReadFile(plain); string(text) != "precious" {
		t.Error("the plain file was touched")
	}
	if err := control.NewClient(served).Get(t.Context(), "/", nil); fault.Of(err) != fault.KindUsage {
		t.Errorf("the first server does not answer any more: %v", err)
	}
}

func TestTheLongestPathWorks(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, strings.Repeat("x", 107-len(dir)-1))
	s := start(t, path)
	s.answer(t, "GET /ping", "pong")
	var have string
	if err := control.NewClient(path).Get(t.Context(), "/ping", &have); err != nil || have != "pong" {
		t.Errorf("have %q, %v", have, err)
	}
}

// answer adds a command that answers with v.
func (s *socket) answer(t *testing.T, pattern string, v any) {
	t.Helper()
	s.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { web.WriteJSON(w, r, 200, v) }))
}

func TestADeadFileIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close() // as kill -9 leaves it
	if !exists(path) {
		t.Fatal("there is no dead file to replace")
	}
	start(t, path).answer(t, "GET /ping", "pong")
	if err := control.NewClient(path).Get(t.Context(), "/ping", nil); err != nil {
		t.Error(err)
	}
}

func TestASuccessorsFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	first := start(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	start(t, path).answer(t, "GET /ping", "pong")
	first.stop()
	if err := control.NewClient(path).Get(t.Context(), "/ping", nil); err != nil {
		t.Error(err)
	}
}

func TestOthersGetNoAnswerEvenIfTheFileIsOpenToAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as somebody else")
	}
	dir := folder(t)
	path := filepath.Join(dir, "control.sock")
	s := start(t, path)
	s.answer(t, "GET /ping", "pong")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	answer, err := askAs(65534, path)
	if err != nil || answer != "" {
		t.Errorf("have %q, %v; want a closed connection", answer, err)
	}
	if log := s.logs.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "uid=65534") || strings.Contains(log, "msg=request") {
		t.Errorf("have %s", log)
	}
	if answer, err := askAs(0, path); err != nil || !strings.Contains(answer, "pong") {
		t.Errorf("root: have %q, %v", answer, err)
	}
}

// askAs asks for /ping as another user. The user changes for one thread only, by a raw system call, and the thread
// ends with its goroutine, since that stays locked to it.
func askAs(uid uintptr, path string) (answer string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); e != 0 {
			err = e
			return
		}
		var fd int
		if fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer syscall.Close(fd)
		limit := syscall.NsecToTimeval(patience.Nanoseconds())
		if err = errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
			syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})); err != nil {
			return
		}
		request := []byte("GET /ping HTTP/1.0\r\n\r\n")
		_ = syscall.Sendto(fd, request, syscall.MSG_NOSIGNAL, nil) // it may be closed already
		buf := make([]byte, 4096)
		for {
			n, e := syscall.Read(fd, buf)
			if e == syscall.ECONNRESET || e == nil && n == 0 {
				return
			}
			if e != nil {
				err = e
				return
			}
			answer += string(buf[:n])
		}
	}()
	<-done
	return answer, err
}

func TestCommandsThatChangeSomethingAreLoggedBeforeTheyRun(t *testing.T) {
	s := start(t, filepath.Join(folder(t), "control.sock"))
	var before string
	s.Handle("POST /loglevel", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before = s.logs.String()
		web.WriteJSON(w, r, 200, "done")
	}))
	s.answer(t, "GET /status", "fine")
	c := control.NewClient(s.path)
	if err := c.Get(t.Context(), "/status", nil); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.logs.String(), "level=INFO") {
		t.Errorf("a look is logged: %s", s.logs)
	}
	if err := c.Post(t.Context(), "/loglevel", map[string]string{"level": "debug"}, nil); err != nil {
		t.Fatal(err)
	}
	want := `level=INFO msg="control command" command="POST /loglevel" by="pid=` + itoa(os.Getpid()) + ` uid=` + itoa(os.Geteuid()) + `"`
	if !strings.Contains(before, want) {
		t.Errorf("have %s\nwant %s", before, want)
	}
}

func itoa(n int) string { text, _ := json.Marshal(n); return string(text) }

func TestTheClientKeepsNoConnection(t *testing.T) {
	s := start(t, filepath.Join(folder(t), "control.sock"))
	s.Handle("GET /last", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { web.WriteJSON(w, r, 200, r.Close) }))
	var last bool
	if err := control.NewClient(s.path).Get(t.Context(), "/last", &last); err != nil || !last {
		t.Errorf("have %v, %v; want a request that says it is the last", last, err)
	}
}

func TestClientErrors(t *testing.T) {
	dir := folder(t)
	dead := filepath.Join(dir, "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	mute, err := net.Listen("unix", filepath.Join(dir, "mute")) // it takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	s := start(t, filepath.Join(dir, "live"))
	s.Handle("POST /level", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			err = fault.Config("use debug, info, warn or error", errors.New(`level "loud" is unknown`))
		}
		control.WriteError(w, r, http.StatusBadRequest, err)
	}))
	s.Handle("GET /broken", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken") }))
	s.Handle("GET /long", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := bytes.Repeat([]byte(" "), 1<<20)
		for range 17 {
			_, _ = w.Write(block)
		}
	}))
	s.Handle("GET /text", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") }))

	for _, c := range []struct {
		name, path, command string
		in                  any
		want                fault.Kind
		text, hint          string
	}{
		{"no such socket", dir + "/none", "/status", nil, fault.KindDependency, "no such file", "is the app running? set DATA_DIR or CONTROL_SOCKET as it has"},
		{"a dead socket", dead, "/status", nil, fault.KindDependency, "connection refused", "is the app running? set DATA_DIR or CONTROL_SOCKET as it has"},
		{"a path that is too long", "/" + strings.Repeat("x", 200), "/status", nil, fault.KindConfig, "allows 107", "CONTROL_SOCKET"},
		{"no answer", dir + "/mute", "/status", nil, fault.KindDependency, "deadline", "does not answer in time"},
		{"an unknown command", s.path, "/nonsense", nil, fault.KindUsage, "nothing is served", "same version"},
		{"a wrong method", s.path, "/level", nil, fault.KindUsage, "only to POST", ""},
		{"a command that is refused", s.path, "/level", "loud", fault.KindUsage, `level "loud" is unknown`, "use debug, info, warn or error"},
		{"a command that is too long", s.path, "/level", strings.Repeat("x", 1<<17), fault.KindUsage, "too large", ""},
		{"a command that panics", s.path, "/broken", nil, fault.KindUnhandled, "the server failed", ""},
		{"an answer that is too long", s.path, "/long", nil, fault.KindUnhandled, "longer than 16777216 bytes", ""},
		{"an answer that is no JSON", s.path, "/text", nil, fault.KindUnhandled, "invalid character", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := patience
			if c.path == dir+"/mute" {
				limit = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			client := control.NewClient(c.path)
			var out, err = any(nil), error(nil)
			if c.in != nil {
				err = client.Post(ctx, c.command, c.in, &out)
			} else {
				err = client.Get(ctx, c.command, &out)
			}
			if err == nil {
				t.Fatalf("have no error, and %v", out)
			}
			if have := fault.Of(err); have != c.want {
				t.Errorf("have %v, want %v", have, c.want)
			}
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(fault.Hint(err), c.hint) {
				t.Errorf("have %q with hint %q", err, fault.Hint(err))
			}
		})
	}
}

// logs keeps what a handler writes.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
