package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"example.com/base-app/pkg/fault"
)

// Exit is how a run ended. The file last_exit.json holds it.
type Exit struct {
	Run     string    `json:"run"` // the run's id, as in the lock file
	Code    int       `json:"code"`
	Kind    string    `json:"kind"`              // the first cause's, see pkg/fault
	Cause   string    `json:"cause"`             // the first cause
	Worker  string    `json:"worker,omitempty"`  // the worker or dependency that failed, if one did
	Clean   bool      `json:"clean"`             // false: the end was forced, or something went wrong in it
	Unclean string    `json:"unclean,omitempty"` // what went wrong first while the process closed
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Uptime  float64   `json:"uptime_seconds"`
	PID     int       `json:"pid"`
	Version string    `json:"version,omitempty"`
	Commit  string    `json:"commit,omitempty"`
}

// exit returns the first cause's code. If the cause was a request to stop and the end was forced, the code is 70.
func (l *Life) exit(cause error, clean bool) Exit {
	e := Exit{Code: fault.ExitCode(cause), Kind: fault.Of(cause).String(), Cause: cause.Error(), Clean: clean,
		Started: l.began.UTC(), Ended: time.Now().UTC(), Uptime: time.Since(l.began).Seconds(), PID: os.Getpid()}
	if f, ok := errors.AsType[*fault.Error](cause); ok {
		e.Worker = f.Subject
	}
	l.mu.Lock()
	if clean && l.flaw != nil {
		e.Clean, e.Unclean = false, l.flaw.Error()
	}
	l.mu.Unlock()
	if !e.Clean && e.Code == fault.ExitClean {
		e.Code, e.Kind = fault.ExitUnclean, fault.KindUnclean.String()
	}
	return e
}

const lastExit = "last_exit.json"

// SaveExit writes e to last_exit.json in the data folder, whole or not at all.
func SaveExit(dir string, e Exit) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("save the exit: %w", err)
	}
	return replaceFile(filepath.Join(dir, lastExit), append(data, '\n'))
}

// LoadExit reads last_exit.json from the data folder. Its error is fs.ErrNotExist on the first start.
func LoadExit(dir string) (Exit, error) {
	var e Exit
	data, err := os.ReadFile(filepath.Join(dir, lastExit))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read %s: %w", lastExit, err)
	}
	return e, nil
}

// replaceFile writes a file beside path, syncs it, and moves it there.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // does nothing once it is moved
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
