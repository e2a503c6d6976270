package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
)

const (
	// A record is padded to this, so that writing it is one write and nothing of a longer one is left.
	recordSize = 256
	// How long the next monitor waits for what it killed of the former one's to be gone.
	leftoverTime = 2 * time.Second
	// private is the mode of the folders that are made: what is in them gives and takes orders.
	private = 0o700
)

// lock lets one monitor at a time have a heartbeat address. It is the kernel's (flock) and ends with the process; the
// file stays and tells the next monitor which group a killed one may have left.
type lock struct {
	f    *os.File
	boot string
}

// record is what stands in the lock's file.
type record struct {
	Monitor int    `json:"monitor"`           // pid
	PGID    int    `json:"pgid,omitempty"`    // the program's pid and group, 0 if none runs
	Session int    `json:"session,omitempty"` // the group's
	Start   uint64 `json:"start,omitempty"`   // of the program, in ticks after the boot
	Boot    string `json:"boot"`
}

// besides returns the path of a file that belongs to an address: beside an ipc socket, else in the data folder.
func besides(address, dataDir, suffix string) string {
	if path, ok := strings.CutPrefix(address, "ipc://"); ok {
		return path + suffix
	}
	_, name, _ := strings.Cut(address, "://")
	return filepath.Join(dataDir, "monitor-"+strings.NewReplacer(":", "-", "/", "-").Replace(name)+suffix)
}

// takeLock takes the lock at path and returns what its last owner wrote.
func takeLock(path string) (*lock, record, error) {
	var last record
	if err := os.MkdirAll(filepath.Dir(path), private); err != nil {
		return nil, last, fault.Config("choose another heartbeat address or --data-dir", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, last, fault.Config("the folder must be writable; choose another heartbeat address or --data-dir", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	text, _ := io.ReadAll(io.LimitReader(f, recordSize))
	_ = json.Unmarshal(bytes.TrimSpace(text), &last) // a torn one, as after a power cut, tells nothing
	if err != nil {
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, last, fault.Config("", fmt.Errorf("lock %s: %w", path, err))
		}
		return nil, last, fault.Config("stop it, or choose another heartbeat address (-b)",
			fmt.Errorf("the monitor with pid %d already has the heartbeat address", last.Monitor))
	}
	l := &lock{f: f, boot: bootID()}
	if last.Boot != l.boot {
		last = record{}
	}
	return l, last, nil
}

// note writes down which program runs.
func (l *lock) note(c *child) {
	r := record{Monitor: os.Getpid(), Boot: l.boot}
	if c != nil {
		r.PGID, r.Session, r.Start = c.pid, c.mark.Session, c.mark.Start
	}
	line := bytes.Repeat([]byte(" "), recordSize)
	text, err := json.Marshal(r)
	if err != nil || copy(line, text) < len(text) {
		return // neither happens: the record is far shorter
	}
	line[recordSize-1] = '\n'
	_, _ = l.f.WriteAt(line, 0) // a full disk doesn't: the file has its size since the start
}

// leftovers kills what a killed monitor's program has left of its group, and returns how many processes that were. A
// number that somebody else has got since is recognised by the session and the start, and left alone.
func (r record) leftovers() int {
	if r.PGID <= 1 || r.Start == 0 {
		return 0
	}
	if s, err := readStat(r.PGID); err == nil && s.Start != r.Start {
		return 0 // the number is another process's now, and can't be before nobody is left in the group
	}
	n := 0
	for _, s := range members(r.PGID) {
		if s.Session == r.Session && s.Start >= r.Start {
			n++
		}
	}
	if n == 0 {
		return 0
	}
	_ = syscall.Kill(-r.PGID, syscall.SIGKILL)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(leftoverTime); len(members(r.PGID)) > 0 && time.Now().Before(deadline); {
		<-tick.C
	}
	return n
}
