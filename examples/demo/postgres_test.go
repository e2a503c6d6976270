package demo_test

import (
	"bufio"
	"database/sql"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// database is a PostgreSQL server of the test's own, with its data in a temporary folder and a unix socket there.
type database struct {
	url  string
	dir  string
	bin  string
	as   *syscall.Credential // whose server it is; nil: ours
	stop func()              // nil: it doesn't run
}

// newDatabase makes the files of a database, and starts nothing.
func newDatabase(t *testing.T) *database {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("", "demo") // short: it is a part of the socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &database{dir: dir, bin: filepath.Dir(found[len(found)-1])}
	if os.Getuid() == 0 { // PostgreSQL refuses to be root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		d.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	d.url = "postgres:///postgres?" + url.Values{"host": {dir}, "user": {"service2"}}.Encode()
	if text, err := d.command("initdb", "-D", d.data(), "-U", "service2", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, text)
	}
	t.Cleanup(func() {
		if d.stop != nil {
			d.stop()
		}
	})
	return d
}

func (d *database) data() string { return filepath.Join(d.dir, "data") }

func (d *database) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// start starts the server, with these settings, and waits until it takes connections.
func (d *database) start(t *testing.T, settings ...string) {
	t.Helper()
	cmd := d.command("postgres", append([]string{"-D", d.data(), "-F", "-k", d.dir, "-c", "listen_addresses=", "-c", "shared_buffers=8MB"}, settings...)...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "ready to accept connections") {
				ready <- true
			}
		}
		ended <- cmd.Wait()
	}()
	d.stop = func() { // as an operator does: connections are cut, nothing is lost
		d.stop = nil
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Errorf("PostgreSQL did not stop: %v", <-ended)
		}
	}
	select {
	case <-ready:
	case err := <-ended:
		d.stop = nil
		t.Fatalf("PostgreSQL ended: %v", err)
	case <-time.After(patience):
		t.Fatal("PostgreSQL is not ready")
	}
}

// take takes a connection, until release.
func (d *database) take(t *testing.T) (release func()) {
	t.Helper()
	pool, err := sql.Open("pgx", d.url)
	if err != nil {
		t.Fatal(err)
	}
	one, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() { _, _ = one.Close(), pool.Close() }
}

// count returns how many users of this last name are in the table.
func (d *database) count(t *testing.T, lastName string) (n int) {
	t.Helper()
	pool, err := sql.Open("pgx", d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := pool.QueryRowContext(t.Context(), "SELECT count(*) FROM users WHERE last_name = $1", lastName).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
