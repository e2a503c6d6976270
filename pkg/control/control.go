// Package control is how an operator talks to the running app: HTTP/1 over a unix socket that only the app's own
// user and root can use. `app ctl` is its client, and curl does as well:
//
//	curl --unix-socket data/control.sock http://app/status
//
// It promises:
//   - Nobody else gets in: by the file's mode (0600 from its first moment) and, if somebody changes that, by the peer's
//     credentials, which the kernel knows.
//   - A command that changes something is logged before it runs, with who gave it.
//   - It has the bounds, ids, problem documents and orderly end of pkg/web, which serves it.
//
// It has no command of its own. The owner of a state registers the commands for it.
package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

const (
	mode = 0o600
	// The longest path of a unix socket: sun_path of unix(7) less its final NUL.
	maxPath = 107
	// Commands are a few words; anything longer is a mistake.
	maxBody = 64 << 10
	// An operator, a probe, the monitor, and room for a loop in a script.
	maxConns = 16
	// Both ends are on one machine: a request arrives at once or not at all.
	readTimeout = 5 * time.Second
	// A dump of everything takes seconds on a machine in trouble.
	writeTimeout = 60 * time.Second
	// A command at the very end is still answered, but delays the end by no more than this.
	drainTimeout = 2 * time.Second
	// A living app accepts within milliseconds; a stopped one (SIGSTOP) still does, by its backlog.
	probeTimeout = time.Second
)

// Options says where to listen. Path's folder must exist.
type Options struct {
	Path string // at most 107 bytes
	Log  *slog.Logger
}

// Server is the socket and its commands. It is made by Listen and lives until Serve returns.
type Server struct {
	path string
	file fs.FileInfo // our own file: a successor's is never removed
	mux  *http.ServeMux
	web  *web.Server
}

// Listen makes the socket's file and binds it. The file of a dead app is replaced. A file that a living process serves, one
// that is no socket, a path that is too long and a folder that is missing or not ours are errors of fault.KindConfig, with
// a hint. Listen does not protect against two apps that start on one path at the same moment; the data folder's lock does.
func Listen(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := bind(o.Path)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(o.Path)
	if err != nil {
		_ = l.Close()
		return nil, unusable(o.Path, err)
	}
	s := &Server{path: o.Path, file: file, mux: http.NewServeMux()}
	s.web = web.New(&guarded{UnixListener: l, self: uint32(os.Geteuid()), log: o.Log}, web.Options{
		Handler:           audited(s.mux, o.Log),
		Log:               o.Log,
		Level:             level,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		DrainTimeout:      drainTimeout,
		MaxConns:          maxConns,
	})
	return s, nil
}

// Handle adds a command: "GET /status", "POST /dump". A GET must change nothing; a command that does is a POST, which is
// logged. The body that a handler reads ends with an error after 64 KiB. Handle panics as http.ServeMux.Handle does, and
// may be called while the server runs.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Serve answers until ctx ends, lets commands in flight finish for two seconds, and removes the file if it is still
// its own. It returns as web.Server.Serve does and is called once; with a context that has ended it just cleans up.
func (s *Server) Serve(ctx context.Context) error {
	err := s.web.Serve(ctx)
	if file, e := os.Lstat(s.path); e == nil && os.SameFile(file, s.file) {
		_ = os.Remove(s.path)
	}
	return err
}

// audited logs each command that can change something. It does so before the command runs: that may end the app.
func audited(next *http.ServeMux, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			log.InfoContext(r.Context(), "control command", "command", r.Method+" "+r.URL.Path, "by", r.RemoteAddr)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// WriteError answers a failed command with a problem that has err's text and hint. Unlike the public port the socket hides
// nothing: whoever may use it may read the logs, too.
func WriteError(w http.ResponseWriter, r *http.Request, status int, err error) {
	(&web.Problem{Status: status, Detail: err.Error(), Hint: fault.Hint(err)}).Write(w, r)
}

func level(_ *http.Request, status int) slog.Level {
	if status >= 500 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// bind listens on path, in place of a dead file if there is one.
func bind(path string) (*net.UnixListener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	l, err := listen(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeDead(path); err != nil {
			return nil, err
		}
		l, err = listen(path)
	}
	if err != nil {
		return nil, unusable(path, err)
	}
	return l, nil
}

// listen sets the socket's mode before bind: Linux gives the file of the socket the same mode, so that there is no moment
// at which others could connect.
func listen(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), mode) }); e != nil {
			return e
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path) // nothing in it blocks
	if err != nil {
		return nil, err
	}
	unix := l.(*net.UnixListener)
	unix.SetUnlinkOnClose(false) // it would remove a successor's file
	return unix, nil
}

// removeDead removes the file at path if it is a socket that nobody serves.
func removeDead(path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner has just removed it
	}
	if err != nil {
		return unusable(path, err)
	}
	if file.Mode().Type() != fs.ModeSocket {
		return fault.Config("remove that file, or set CONTROL_SOCKET to another path",
			fmt.Errorf("control: listen: %s is there already and is no socket", path))
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		_ = c.Close()
	}
	switch {
	case err == nil || errors.Is(err, syscall.EAGAIN): // the latter: its backlog is full
		return fault.Config("stop that one first, or set CONTROL_SOCKET to another path",
			fmt.Errorf("control: listen: %s is served by another process", path))
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return unusable(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unusable(path, err)
	}
	return nil
}

func checkPath(path string) error {
	const hint = "set CONTROL_SOCKET to a short path, in a folder of the app's own"
	switch {
	case path == "":
		return fault.Config(hint, errors.New("control: the socket's path is empty"))
	case len(path) > maxPath:
		return fault.Config(hint+", or use a shorter DATA_DIR",
			fmt.Errorf("control: the socket's path has %d bytes, and the system allows %d: %s", len(path), maxPath, path))
	case path[0] == '@':
		return fault.Config(hint, fmt.Errorf("control: %s is an abstract name, which has no permissions", path))
	}
	return nil
}

func unusable(path string, err error) error {
	hint := "set CONTROL_SOCKET to a path that this user can make a socket at"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "make the folder " + filepath.Dir(path) + ", or set CONTROL_SOCKET to another path"
	}
	return fault.Config(hint, fmt.Errorf("control: listen: %w", err))
}
