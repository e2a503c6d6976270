package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"example.com/base-app/pkg/stack"
)

const (
	keepCrashes = 10            // in the folder crashes: enough for a bad night
	crashing    = "running.txt" // where the runtime writes the crash of this run
	maxCrash    = 1 << 20       // bytes of a crash that are read; the file keeps all
)

// Crash is what the Go runtime wrote when the last run died in a way that cannot be recovered: by a panic in a
// goroutine without a guard, a fatal error of the runtime, or SIGQUIT.
type Crash struct {
	File  string // in the data folder's folder crashes
	Cause string // its first line
	Stack string // of the goroutine that crashed
}

// CatchCrash makes the runtime write a crash, with every goroutine's stack, into the data folder as well as to stderr.
// It returns the crash of the run before, nil if there was none. The newest ten are kept.
func (f *Folder) CatchCrash() (*Crash, error) {
	dir := filepath.Join(f.Dir, "crashes")
	if err := os.MkdirAll(dir, private|0o100); err != nil {
		return nil, unusable(f.Dir, err)
	}
	path := filepath.Join(dir, crashing)
	last, err := archiveCrash(dir, path)
	if err != nil {
		return nil, unusable(f.Dir, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, private)
	if err != nil {
		return last, unusable(f.Dir, err)
	}
	defer file.Close() // the runtime has its own copy
	debug.SetTraceback("all")
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return last, fmt.Errorf("catch crashes: %w", err)
	}
	return last, nil
}

// archiveCrash gives the last run's crash its final name and returns it.
func archiveCrash(dir, path string) (*Crash, error) {
	data, err := readStart(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Crash{File: filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000Z")+".txt")}
	if err := os.Rename(path, c.File); err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	c.Cause = string(line)
	if all := stack.Parse(data); len(all) > 0 {
		c.Stack = all[0].Text
	}
	return c, keepNewest(dir, keepCrashes)
}

func readStart(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCrash))
}

// keepNewest removes all but the newest crashes; their names begin with the time.
func keepNewest(dir string, keep int) error {
	list, err := filepath.Glob(filepath.Join(dir, "2*.txt"))
	slices.Sort(list)
	for len(list) > keep {
		err = errors.Join(err, os.Remove(list[0]))
		list = list[1:]
	}
	return err
}
