package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"golang.org/x/sys/unix"
)

// slotBytes is the length of a line in the file: a JSON object with an id of event.MaxID, filled up with spaces.
const slotBytes = 192

// slots is a file with a line for each event that is being handled, after one that says whether the last process to use
// the folder came to its end. Its size is fixed and it is never removed, so that a full disk doesn't matter, and it is
// never synced: it is for the death of the process, not of the machine.
type slots struct {
	file  *os.File
	dir   *os.File // locked: two processes in one folder would destroy it
	clean bool     // the last process to use the folder came to its end, or there was none
	count int      // of events that may be handled
	told  bool     // what the last process had not finished with is in TRIES, or there is nothing
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
		return nil, errors.Join(fault.Config("give each process a DATA_DIR of its own", fmt.Errorf("queue: lock %s: %w", dir.Name(), err)), dir.Close())
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(fault.Config("make DATA_DIR writable", fmt.Errorf("queue: %w", err)), dir.Close())
	}
	s := &slots{file: file, dir: dir, count: q.opts.InFlight}
	q.slots = s
	for n := s.count; n > 0; n-- { // the first line is not an event's
		s.free = append(s.free, n)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	s.clean = len(old) == 0
	if rest, ok := bytes.CutPrefix(old, cleanSlot); ok {
		old, s.clean = rest, true
	}
	if err := s.line(0, emptySlot); err != nil { // from now on it is in use
		return nil, err
	}
	var unfinished []attempt
	for line := range bytes.Lines(old) {
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
	s.told = len(unfinished) == 0
	return unfinished, nil
}

// line writes one line.
func (s *slots) line(n int, text []byte) error {
	_, err := s.file.WriteAt(text, int64(n)*slotBytes)
	if errors.Is(err, syscall.ENOSPC) {
		return fault.Config("free some space in DATA_DIR", fmt.Errorf("queue: %w", err))
	}
	return err
}

// clear makes all the slots empty, and the file as long as it may get.
func (s *slots) clear() error { return s.begin(emptySlot) }

func (s *slots) begin(first []byte) error {
	if err := s.line(0, append(bytes.Clone(first), bytes.Repeat(emptySlot, s.count)...)); err != nil {
		return err
	}
	if err := s.file.Truncate(int64(1+s.count) * slotBytes); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	s.told = true
	return nil
}

// The lines that are not an event's.
var (
	emptySlot = filled("")
	cleanSlot = filled("# nothing is being handled, the queue was closed")
)

func filled(text string) []byte {
	return append([]byte(text), append(bytes.Repeat([]byte{' '}, slotBytes-1-len(text)), '\n')...)
}

// take writes a line and returns its number; -1 with an error.
func (s *slots) take(id string, delivery uint32) (int, error) {
	if len(s.free) == 0 {
		return -1, errors.New("more events are handled than were delivered")
	}
	text, err := json.Marshal(attempt{id, delivery})
	if err != nil {
		return -1, err
	}
	n := s.free[len(s.free)-1]
	if err := s.line(n, filled(string(text))); err != nil {
		return -1, err
	}
	s.free = s.free[:len(s.free)-1]
	return n, nil
}

// release empties a line. Should that fail the worst is that the event counts as interrupted, and is found in DONE.
func (s *slots) release(n int) {
	if n >= 0 {
		_ = s.line(n, emptySlot)
		s.free = append(s.free, n)
	}
}

// abandon ends its use when the queue could not be opened: what it says is for the next start.
func (s *slots) abandon() error {
	if s.told && s.clean {
		return s.end()
	}
	return s.close()
}

// end ends its use in good order: nothing is being handled any more, and the server has closed its files.
func (s *slots) end() error { return errors.Join(s.begin(cleanSlot), s.close()) }

func (s *slots) close() error { return errors.Join(s.file.Close(), s.dir.Close()) }
