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
	// A record is padded to this size: one write replaces the whole of the record before.
	recordSize = 256
	// How long a monitor waits for the processes to be gone that it killed because a former monitor had left them.
	leftoverTime = 2 * time.Second
	// private is the mode of new folders: whoever may open the sockets in them can give orders.
	private = 0o700
)

// lock lets one monitor at a time have a heartbeat address. The lock is the kernel's (flock) and ends with the process.
// The file stays: in it the next monitor finds the process group that a killed monitor may have left.
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

// acquireLock acquires the lock at path and returns its last owner's record.
func acquireLock(path string) (*lock, record, error) {
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
	_ = json.Unmarshal(bytes.TrimSpace(text), &last) // a torn one, as after a power cut, is none
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

// save writes the program that runs into the lock's file; c is nil if none does.
func (l *lock) save(c *child) {
	r := record{Monitor: os.Getpid(), Boot: l.boot}
	if c != nil {
		r.PGID, r.Session, r.Start = c.pid, c.mark.Session, c.mark.Start
	}
	line := bytes.Repeat([]byte(" "), recordSize)
	text, err := json.Marshal(r)
	if err != nil || copy(line, text) < len(text) {
		return // neither happens: a record is far shorter than recordSize
	}
	line[recordSize-1] = '\n'
	_, _ = l.f.WriteAt(line, 0) // works on a full disk, too: the file has had its size since the start
}

// leftovers kills the processes of a killed monitor's program that still live, and returns their number. Processes
// that have got the same group number since are recognised by session and start time, and left alone.
func (r record) leftovers() int {
	if r.PGID <= 1 || r.Start == 0 {
		return 0
	}
	if s, err := readStat(r.PGID); err == nil && s.Start != r.Start {
		return 0 // another process has the number now, so nobody is left in the group
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
