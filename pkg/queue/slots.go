package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"golang.org/x/sys/unix"
)

// slotBytes is the length of a line in the file: a JSON object with an id of event.MaxID, filled up with spaces.
const slotBytes = 192

// slots is a file with a line for each event that is being handled, after one that says whether the server's files were
// closed in good order. Its size is fixed, so that a full disk doesn't
// matter, and it is never synced: it is for the death of the process, not of the machine.
type slots struct {
	path  string
	file  *os.File
	clean bool     // the last process to use the folder came to its end
	dir   *os.File // locked: two processes in one folder would destroy it
	free  []int
}

// attempt is one line.
type attempt struct {
	ID       string `json:"id"`
	Delivery uint32 `json:"delivery"`
}

// openSlots opens the file and returns what the last process had not finished with.
func (q *Queue) openSlots(path string) ([]attempt, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fault.Config("make DATA_DIR readable", fmt.Errorf("queue: %w", err))
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fault.Config("give each process a DATA_DIR of its own",
			fmt.Errorf("queue: lock %s: %w", dir.Name(), err)), dir.Close())
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(fault.Config("make DATA_DIR writable", fmt.Errorf("queue: %w", err)), dir.Close())
	}
	s := &slots{path: path, file: file, dir: dir}
	q.slots = s
	for n := q.opts.InFlight; n > 0; n-- { // the first line is not an event's
		s.free = append(s.free, n)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	rest, clean := bytes.CutPrefix(old, cleanSlot)
	s.clean = clean || len(old) == 0
	var unfinished []attempt
	for line := range bytes.Lines(rest) {
		var a attempt
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := json.Unmarshal(line, &a); err != nil || event.CheckID(a.ID) != nil {
			q.log.Warn("queue: a line of the file of interrupted events can't be read", "file", path, "line", string(line))
			continue
		}
		unfinished = append(unfinished, a)
	}
	return unfinished, nil
}

// clear makes all the lines empty, and the file as long as it may get.
func (s *slots) clear() error {
	if _, err := s.file.WriteAt(bytes.Repeat(emptySlot, 1+len(s.free)), 0); err != nil {
		return fault.Config("free some space in DATA_DIR", fmt.Errorf("queue: %w", err))
	}
	if err := s.file.Truncate(int64(1+len(s.free)) * slotBytes); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

var (
	emptySlot = append(bytes.Repeat([]byte{' '}, slotBytes-1), '\n')
	cleanSlot = append([]byte("clean"), emptySlot[len("clean"):]...)
)

// take writes a line and returns its number; -1 with an error.
func (s *slots) take(id string, delivery uint32) (int, error) {
	if len(s.free) == 0 {
		return -1, errors.New("more events are handled than were delivered")
	}
	text, err := json.Marshal(attempt{id, delivery})
	if err != nil {
		return -1, err
	}
	line := append(append(make([]byte, 0, slotBytes), text...), emptySlot[len(text):]...)
	n := s.free[len(s.free)-1]
	if _, err := s.file.WriteAt(line, int64(n)*slotBytes); err != nil {
		return -1, err
	}
	s.free = s.free[:len(s.free)-1]
	return n, nil
}

// release empties a line. Should that fail the worst is that the event counts as interrupted, and is found in DONE.
func (s *slots) release(n int) {
	if n >= 0 {
		_, _ = s.file.WriteAt(emptySlot, int64(n)*slotBytes)
		s.free = append(s.free, n)
	}
}

// end tells the next process that the server's files were closed in good order. What is still being handled, by a worker
// that is stuck, keeps its line.
func (s *slots) end() error {
	_, err := s.file.WriteAt(cleanSlot, 0)
	return errors.Join(err, s.close())
}

func (s *slots) close() error { return errors.Join(s.file.Close(), s.dir.Close()) }
