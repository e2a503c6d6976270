package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
)

// Folder is the data folder of a running process: locked against a second one, and with what the last run left.
type Folder struct {
	Dir  string
	Run  string // this run's id
	lock *os.File
	prev holder
}

// holder is what the lock file says of its owner. It stays when the owner is gone; the lock itself doesn't.
type holder struct {
	Run     string    `json:"run"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Borrower is a process that holds the lock and is no run of the app: the rest is still about the last run.
	Borrower *borrower `json:"borrower,omitempty"`
}

type borrower struct {
	PID int    `json:"pid"`
	For string `json:"for"`
}

const lockFile = "lock"

const (
	// borrowTime is how long a start waits for a borrower: shorter than the container's monitor gives a start (15 s), so
	// that it hears why, and so long that five such starts in a row take the minute in which it allows five.
	borrowTime = 12 * time.Second
	// lookPause is the time between two looks at the lock, and what a new owner may need to say who it is.
	lookPause = 100 * time.Millisecond
)

// OpenFolder makes dir if needed and locks it until Close, or until the process is gone, however it went: the lock
// is the kernel's (flock), so a stale file never stands in the way. Its errors are of fault.KindConfig and say what to do.
//
// If somebody has borrowed the folder it says so in the log and blocks until it is given back, twelve seconds pass, which
// is an error of fault.KindDependency, or ctx ends.
func OpenFolder(ctx context.Context, dir string, log *slog.Logger) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, unusable(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, unusable(dir, err)
	}
	folder := &Folder{Dir: dir, lock: f, Run: strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid())}
	if err := folder.take(ctx, log); err != nil {
		f.Close()
		return nil, err
	}
	stale, _ := filepath.Glob(filepath.Join(dir, "."+lastExit+"-*")) // of a run that was killed while it saved its exit
	for _, path := range stale {
		_ = os.Remove(path)
	}
	return folder, nil
}

// BorrowFolder locks dir as OpenFolder does, but at once or not at all, for a command that needs what is in it to be left
// alone for a while, and is no run: the next one still learns how the last one ended. The errors are of
// fault.KindConfig; purpose is what an app is told that wants to start meanwhile.
func BorrowFolder(dir, purpose string) (*Folder, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, unusable(dir, err)
	}
	folder := &Folder{Dir: dir, lock: f}
	if _, err := folder.flock(); err != nil {
		f.Close()
		return nil, err
	}
	mine := folder.prev
	mine.Borrower = &borrower{os.Getpid(), purpose}
	if err := folder.say(mine); err != nil {
		f.Close()
		return nil, unusable(dir, err)
	}
	return folder, nil
}

// take makes the folder this run's. Somebody who has only just locked it has not yet said who it is, so that a refusal
// needs two looks.
func (f *Folder) take(ctx context.Context, log *slog.Logger) error {
	began, told := time.Now(), false
	for {
		held, err := f.flock()
		if !held && err == nil {
			break
		}
		b, waited := f.prev.Borrower, time.Since(began)
		switch {
		case !held || b == nil && waited >= lookPause:
			return err
		case b != nil && waited >= borrowTime:
			return &fault.Error{Kind: fault.KindDependency, Hint: "wait for it, or stop it", Err: fmt.Errorf("process %d (%s) has been using the data folder %s for %v", b.PID, b.For, f.Dir, borrowTime)}
		case b != nil && !told:
			log.Warn("waiting for a command to end that uses the data folder", "command", b.For, "command_pid", b.PID, "at_most", borrowTime.String())
			told = true
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := f.say(holder{Run: f.Run, PID: os.Getpid(), Started: time.Now().UTC()}); err != nil {
		return unusable(f.Dir, err)
	}
	return nil
}

// flock takes the lock and reads what it says of the last owner. If another process has it, held is true, and the error
// says which.
func (f *Folder) flock() (held bool, err error) {
	err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	f.prev = holder{}
	_ = json.NewDecoder(io.NewSectionReader(f.lock, 0, 4096)).Decode(&f.prev) // a torn one tells nothing, as after a power cut
	if errors.Is(err, syscall.EWOULDBLOCK) {
		who := "another process"
		if b := f.prev.Borrower; b != nil {
			who = fmt.Sprintf("process %d (%s)", b.PID, b.For)
		} else if f.prev.PID > 0 {
			who = fmt.Sprintf("process %d, which runs since %s,", f.prev.PID, f.prev.Started.Local().Format(time.DateTime))
		}
		return true, fault.Config("stop it, or give this one a data folder of its own with DATA_DIR",
			fmt.Errorf("%s already uses the data folder %s", who, f.Dir))
	}
	if err != nil {
		return false, unusable(f.Dir, err)
	}
	return false, nil
}

// say writes who holds the lock. Others may read it meanwhile: what is left of an older text behind the new one is cut
// off last, and doesn't matter.
func (f *Folder) say(h holder) error {
	mine, err := json.Marshal(h)
	if err != nil {
		return err
	}
	mine = append(mine, '\n')
	return errors.Join(writeAt(f.lock, mine), f.lock.Truncate(int64(len(mine))))
}

func writeAt(f *os.File, data []byte) error {
	_, err := f.WriteAt(data, 0)
	return err
}

func unusable(dir string, err error) error {
	return fault.Config("make it a folder that this user may write to, or set DATA_DIR",
		fmt.Errorf("the data folder %s can't be used: %w", dir, err))
}

// Previous tells how the run before this one ended. First is true if there was none. Vanished is true if it ended
// without a word: killed, out of memory, a fatal runtime error or a power cut; Exit then holds only what its lock said.
func (f *Folder) Previous() (e Exit, vanished, first bool) {
	e, err := LoadExit(f.Dir)
	switch {
	case f.prev.Run == "":
		return e, false, errors.Is(err, fs.ErrNotExist)
	case err != nil || e.Run != f.prev.Run:
		return Exit{Run: f.prev.Run, PID: f.prev.PID, Started: f.prev.Started, Code: -1, Kind: "vanished",
			Cause: "ended without a word: killed, out of memory, a fatal runtime error or a power cut"}, true, false
	}
	return e, false, false
}

// Cleanup removes dumps, errors and crashes from the data folder that are older than age, whether or not a process uses it,
// and returns how many files it removed. What is missing is no error.
func Cleanup(dir string, age time.Duration) (removed int, err error) {
	var files []string
	for _, pattern := range []string{"dumps/*", "errors/*", "crashes/[^r]*"} {
		list, globErr := filepath.Glob(filepath.Join(dir, pattern))
		files, err = append(files, list...), errors.Join(err, globErr)
	}
	for _, path := range files {
		info, statErr := os.Lstat(path)
		if statErr != nil || time.Since(info.ModTime()) < age {
			continue // another cleanup was quicker, or it is young
		}
		if removeErr := os.Remove(path); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		removed++
	}
	if err != nil {
		return removed, fmt.Errorf("clean up: %w", err)
	}
	return removed, nil
}

// Close gives up the lock.
func (f *Folder) Close() error { return f.lock.Close() }
