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

// Folder is the data folder of a running process. It is locked against a second process, and knows how the last run
// ended.
type Folder struct {
	Dir  string
	Run  string // this run's id
	lock *os.File
	prev holder
}

// holder is the text of the lock file: the lock's owner. The text stays when the owner is gone; the lock doesn't.
type holder struct {
	Run     string    `json:"run"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Borrower is a process that holds the lock but is no run of the app. The other fields then describe the last run.
	Borrower *borrower `json:"borrower,omitempty"`
}

type borrower struct {
	PID int    `json:"pid"`
	For string `json:"for"`
}

const lockFile = "lock"

const (
	// borrowTime is how long a start waits for a borrower. It is shorter than the 15 s that the container's monitor gives
	// a start, so that the monitor sees the error; and five such starts take a minute, in which the monitor allows five.
	borrowTime = 12 * time.Second
	// retryPause is the time between two tries to get the lock. A new owner needs less to write who it is.
	retryPause = 100 * time.Millisecond
)

// OpenFolder makes dir if needed and locks it until Close, or until the process has ended in whatever way: the lock
// is the kernel's (flock), so a stale file never stands in the way. Its errors are of fault.KindConfig and say what to do.
//
// If a command has borrowed the folder, OpenFolder logs that and blocks until the command gives it back or ctx ends, and
// for twelve seconds at most: then the error is of fault.KindDependency.
func OpenFolder(ctx context.Context, dir string, log *slog.Logger) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, unusable(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, unusable(dir, err)
	}
	folder := &Folder{Dir: dir, lock: f, Run: strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid())}
	if err := folder.acquire(ctx, log); err != nil {
		f.Close()
		return nil, err
	}
	stale, _ := filepath.Glob(filepath.Join(dir, "."+lastExit+"-*")) // of a run that was killed while it saved its exit
	for _, path := range stale {
		_ = os.Remove(path)
	}
	return folder, nil
}

// BorrowFolder locks dir as OpenFolder does, but at once or not at all. It is for a command that needs the files in it
// left alone for a while. The command is no run: the next run still learns how the last one ended. Purpose is logged by
// an app that wants to start meanwhile. The errors are of fault.KindConfig.
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
	if err := folder.writeHolder(mine); err != nil {
		f.Close()
		return nil, unusable(dir, err)
	}
	return folder, nil
}

// acquire locks the folder for this run. An owner that has just locked it may not have written yet who it is, so acquire
// fails only after a second try.
func (f *Folder) acquire(ctx context.Context, log *slog.Logger) error {
	began, logged := time.Now(), false
	for {
		held, err := f.flock()
		if !held && err == nil {
			break
		}
		b, waited := f.prev.Borrower, time.Since(began)
		switch {
		case !held || b == nil && waited >= retryPause:
			return err
		case b != nil && waited >= borrowTime:
			return &fault.Error{Kind: fault.KindDependency, Hint: "wait for it, or stop it",
				Err: fmt.Errorf("process %d (%s) has been using the data folder %s for %v", b.PID, b.For, f.Dir, borrowTime)}
		case b != nil && !logged:
			log.Warn("waiting for a command to end that uses the data folder", "command", b.For, "command_pid", b.PID,
				"at_most", borrowTime.String())
			logged = true
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := f.writeHolder(holder{Run: f.Run, PID: os.Getpid(), Started: time.Now().UTC()}); err != nil {
		return unusable(f.Dir, err)
	}
	return nil
}

// flock tries to lock the file and reads its last owner. If another process holds the lock, held is true and the error
// names that process.
func (f *Folder) flock() (held bool, err error) {
	err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	f.prev = holder{}
	_ = json.NewDecoder(io.NewSectionReader(f.lock, 0, 4096)).Decode(&f.prev) // a torn text, as after a power cut, is as good as none
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

// writeHolder writes who holds the lock. Others may read the file meanwhile: the rest of an older, longer text is cut off
// last, and a reader ignores it.
func (f *Folder) writeHolder(h holder) error {
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

// Previous returns how the run before this one ended. First is true if there was none. Vanished is true if it saved no
// exit: it was killed, or ended by lack of memory, a fatal runtime error or a power cut. Exit then holds only what the
// lock file knew.
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
// and returns how many files it removed. A missing folder is no error.
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
