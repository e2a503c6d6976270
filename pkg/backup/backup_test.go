package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/backup"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// killedEnv makes this binary a process that is killed while it writes a backup into the folder that it names.
const killedEnv = "BACKUP_TEST_KILLED_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedEnv); dir != "" {
		_, _, _ = backup.Save(context.Background(), backup.Targets{Dir: dir, Keep: 1}, day(9), func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<20))
			return errors.Join(err, syscall.Kill(os.Getpid(), syscall.SIGKILL))
		})
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// fake is a source without a server.
type fake struct {
	pieces int
	err    error
}

func (f fake) Export(_ context.Context, begin func(string, []byte) (io.Writer, error)) ([]queue.Content, error) {
	var list []queue.Content
	for _, stream := range []string{"EVENTS", "DEAD"} {
		w, err := begin(stream, []byte(`{"config":{},"state":{}}`))
		for i := 0; i < f.pieces && err == nil; i++ {
			_, err = w.Write(bytes.Repeat([]byte{byte(i)}, 700))
		}
		if err != nil {
			return nil, err
		}
		list = append(list, queue.Content{Stream: stream, Messages: uint64(f.pieces)})
	}
	return list, f.err
}

func day(n int) time.Time { return time.Date(2026, 3, n, 4, 5, 6, 0, time.UTC) }

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// from writes a backup of a source.
func from(t *testing.T, s backup.Source) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := backup.Write(inTime(t), w, s, backup.Manifest{Time: day(1), App: "test", Version: "1"})
		return err
	}
}

func save(t *testing.T, to backup.Targets, now time.Time) string {
	t.Helper()
	file, m, err := backup.Save(inTime(t), to, now, from(t, fake{pieces: 3}))
	if err != nil || m.App != "test" || len(m.Streams) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	return file
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := backup.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// only checks that nothing but backups and the lock is in a folder.
func only(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" && !strings.HasSuffix(e.Name(), ".backup") {
			t.Errorf("%s is left behind in %s", e.Name(), dir)
		}
	}
}

func TestEachFlippedBitAndEachCutIsFound(t *testing.T) {
	file := save(t, backup.Targets{Dir: t.TempDir(), Keep: 1}, day(1))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(damaged, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Check(damaged); err == nil {
			t.Errorf("%s is not found", what)
		}
	}
	for i := 0; i < len(whole); i += 7 { // 7 and 512 have nothing in common: each place of a block has its turn
		data := bytes.Clone(whole)
		data[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("bit %d of byte %d", i%8, i), data)
	}
	for i := 0; i < len(whole); i += 101 {
		check(fmt.Sprintf("a cut after byte %d", i), whole[:i])
	}
	check("a cut of the last byte", whole[:len(whole)-1])
	check("a byte too much", append(bytes.Clone(whole), 0))
	check("two in one", append(bytes.Clone(whole), whole...))
	if _, err := backup.Check(file); err != nil {
		t.Errorf("the original is whole, have %v", err)
	}
}

func TestTheNewestStayAndTheOneJustMadeAlways(t *testing.T) {
	dir, second := t.TempDir(), t.TempDir()
	foreign := filepath.Join(dir, "queue-of-somebody-else.backup")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	to := backup.Targets{Dir: filepath.Join(dir, ".", ""), Second: second, Keep: 3}
	for n := 10; n < 15; n++ {
		save(t, to, day(n))
	}
	want := []string{"queue-20260312T040506.000Z.backup", "queue-20260313T040506.000Z.backup", "queue-20260314T040506.000Z.backup"}
	if have := names(t, dir); !slices.Equal(have, want) {
		t.Errorf("want %v, have %v", want, have)
	}
	save(t, to, day(1)) // the clock was wrong before, or is now
	want = []string{"queue-20260301T040506.000Z.backup", want[1], want[2]}
	for _, d := range []string{dir, second} {
		if have := names(t, d); !slices.Equal(have, want) {
			t.Errorf("%s: want %v, have %v", d, want, have)
		}
		only(t, d)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("what is no backup stays, have %v", err)
	}
	a, _ := os.ReadFile(filepath.Join(dir, want[0]))
	b, _ := os.ReadFile(filepath.Join(second, want[0]))
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Error("want the same in both folders")
	}
}

func TestASecondFolderThatFailsKeepsTheFirstBackup(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(t.TempDir(), "not mounted")
	file, _, err := backup.Save(inTime(t), backup.Targets{Dir: dir, Second: missing, Keep: 1}, day(1), from(t, fake{pieces: 1}))
	if fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "second copy") || !strings.Contains(fault.Hint(err), "BACKUP_SECOND_DIR") {
		t.Errorf("want an error about the second folder, have %v (%s)", err, fault.Hint(err))
	}
	if _, err := backup.Check(file); err != nil {
		t.Errorf("want the first backup, have %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a folder that is missing must not be made: its disk is not mounted")
	}
}

func TestABackupThatFailsLeavesTheOldOnesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	old := save(t, backup.Targets{Dir: dir, Keep: 1}, day(1))
	broken := errors.New("broken")
	for name, fill := range map[string]func(io.Writer) error{
		"the source fails":           from(t, fake{pieces: 2, err: broken}),
		"it ends too early":          func(w io.Writer) error { return from(t, fake{pieces: 2})(&short{w, 3000}) },
		"nothing is written":         func(io.Writer) error { return nil },
		"something is written":       func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<20)); return err },
		"it fails at the end":        func(w io.Writer) error { return errors.Join(from(t, fake{})(w), broken) },
		"its name is not a stream's": from(t, misnamed{}),
	} {
		if file, _, err := backup.Save(inTime(t), backup.Targets{Dir: dir, Keep: 1}, day(2), fill); file != "" || err == nil {
			t.Errorf("%s: want an error, have %q, %v", name, file, err)
		}
		if have := names(t, dir); !slices.Equal(have, []string{filepath.Base(old)}) {
			t.Errorf("%s: want the old one, have %v", name, have)
		}
		only(t, dir)
	}
}

// short drops what is behind so many bytes.
type short struct {
	io.Writer
	left int
}

func (s *short) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	_, err := s.Writer.Write(p[:n])
	return len(p), err
}

type misnamed struct{}

func (misnamed) Export(_ context.Context, begin func(string, []byte) (io.Writer, error)) ([]queue.Content, error) {
	_, err := begin("../EVENTS", nil)
	return []queue.Content{{}}, err
}

func TestAKilledBackupIsNoBackupAndTheNextOneCleansUp(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.StartProcess(self, []string{self}, &os.ProcAttr{Env: append(os.Environ(), killedEnv+"="+dir)})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || s.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("want a killed process, have %v, %v", s, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.partial"))
	if len(left) != 1 || len(names(t, dir)) != 0 {
		t.Fatalf("want half a file that is no backup, have %v, %v", left, names(t, dir))
	}
	save(t, backup.Targets{Dir: dir, Keep: 1}, day(1))
	only(t, dir)
}

func TestOneBackupAtATime(t *testing.T) {
	to := backup.Targets{Dir: t.TempDir(), Keep: 1}
	_, _, err := backup.Save(inTime(t), to, day(1), func(w io.Writer) error {
		_, _, err := backup.Save(inTime(t), to, day(2), from(t, fake{}))
		if err == nil || !strings.Contains(err.Error(), "another backup") {
			t.Errorf("want a refusal, have %v", err)
		}
		return from(t, fake{})(w)
	})
	if err != nil {
		t.Error(err)
	}
}

// The last space on the disk is the queue's: see queue's own reserve.
func TestAFullDiskKeepsItsReserveAndTheOldBackups(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", backup.Reserve+8<<20)); err != nil {
		t.Skipf("needs a small disk of its own, and mounting one: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	old := save(t, backup.Targets{Dir: dir, Keep: 5}, day(1))
	_, _, err := backup.Save(inTime(t), backup.Targets{Dir: dir, Keep: 5}, day(2), from(t, fake{pieces: 12 << 10}))
	if !errors.Is(err, syscall.ENOSPC) || fault.Of(err) != fault.KindDependency || !strings.Contains(fault.Hint(err), "free some space") {
		t.Errorf("want no space, have %v", err)
	}
	if have := names(t, dir); !slices.Equal(have, []string{filepath.Base(old)}) {
		t.Errorf("want the old one, have %v", have)
	}
	only(t, dir)
	save(t, backup.Targets{Dir: dir, Keep: 5}, day(3))
}

// real is a queue with n events, and one that was handled.
func real(t *testing.T, n int) *queue.Queue {
	t.Helper()
	return realIn(t, filepath.Join(t.TempDir(), "queue"), n)
}

func realIn(t *testing.T, folder string, n int) *queue.Queue {
	t.Helper()
	q, err := queue.Open(inTime(t), queue.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(inTime(t)); err != nil {
			t.Error(err)
		}
	})
	for i := range n + 1 {
		if _, err := q.Publish(inTime(t), event.Event{ID: fmt.Sprint("e", i), Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	e, err := q.Next(inTime(t))
	if err == nil {
		err = q.Ack(e.Receipt)
	}
	if err != nil {
		t.Fatal(err)
	}
	for ctx := inTime(t); ; {
		s, err := q.Status(ctx, "e0")
		if err == nil && s.State == queue.StateProcessed {
			return q
		}
		if ctx.Err() != nil {
			t.Fatalf("want e0 processed, have %+v, %v", s, err)
		}
	}
}

func TestWhatIsVerifiedCanBeRestoredAndDelivered(t *testing.T) {
	q := real(t, 20)
	file, _, err := backup.Save(inTime(t), backup.Targets{Dir: t.TempDir(), Keep: 1}, day(1), from(t, q))
	if err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	m, err := backup.Verify(inTime(t), file, place, nil)
	if waiting, dead := m.Events(); err != nil || waiting < 20 || dead != 0 {
		t.Errorf("want 20 events, have %d, %d, %v", waiting, dead, err)
	}
	only(t, place)

	folder := filepath.Join(place, "data", "queue")
	if _, err := backup.Restore(inTime(t), file, folder, nil); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(place, "data", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	restored, err := queue.Open(inTime(t), queue.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 20; i++ {
		e, err := restored.Next(inTime(t))
		if err == nil && i == 1 && e.ID == "e0" { // its end was written while the copy was made
			i--
		} else if err != nil || e.ID != fmt.Sprint("e", i) {
			t.Fatalf("want e%d, have %+v, %v", i, e, err)
		}
		if err := restored.Ack(e.Receipt); err != nil {
			t.Fatal(err)
		}
	}
	if err := restored.Close(inTime(t)); err != nil {
		t.Error(err)
	}
	_, err = backup.Restore(inTime(t), file, folder, nil)
	if fault.Of(err) != fault.KindConfig || !strings.Contains(fault.Hint(err), "mv ") {
		t.Errorf("want a refusal that says what to do, have %v (%s)", err, fault.Hint(err))
	}
}

// lying says of a queue's contents what is not so, under a good checksum: as a fault of ours or of the server's would.
type lying struct {
	*queue.Queue
	lie func([]queue.Content)
}

func (l lying) Export(ctx context.Context, begin func(string, []byte) (io.Writer, error)) ([]queue.Content, error) {
	list, err := l.Queue.Export(ctx, begin)
	l.lie(list)
	return list, err
}

func TestWhatDiffersAfterRestoringIsTold(t *testing.T) {
	q := real(t, 3)
	for name, lie := range map[string]func([]queue.Content){
		"one event more":   func(c []queue.Content) { c[0].Messages++ },
		"another body":     func(c []queue.Content) { c[0].SHA256 = strings.Repeat("0", 64) },
		"another sequence": func(c []queue.Content) { c[3].Position++ },
		"another stream":   func(c []queue.Content) { c[1].Stream = "OTHER" },
	} {
		dir := t.TempDir()
		file, _, err := backup.Save(inTime(t), backup.Targets{Dir: dir, Keep: 1}, day(1), from(t, lying{q, lie}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Verify(inTime(t), file, dir, nil); err == nil || !strings.Contains(err.Error(), "differs") {
			t.Errorf("%s: want a difference, have %v", name, err)
		}
		only(t, dir)
		folder := filepath.Join(t.TempDir(), "queue")
		if _, err := backup.Restore(inTime(t), file, folder, nil); err == nil {
			t.Errorf("%s: want no restoration", name)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%s: a queue that differs must not be there", name)
		}
	}
}
