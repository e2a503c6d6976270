package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// procStat is what /proc/<pid>/stat holds about a process (proc_pid_stat(5)).
type procStat struct {
	State   byte
	PGID    int
	Session int
	Start   uint64 // clock ticks after boot: pid and start together are unique until the next boot
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

var errStat = errors.New("not a line of /proc/pid/stat")

// parseStat reads the line. The name may hold anything, even parentheses: the last parenthesis ends it.
func parseStat(text []byte) (s procStat, err error) {
	_, rest, ok := bytes.Cut(text, []byte("("))
	i := bytes.LastIndexByte(rest, ')')
	if !ok || i < 0 {
		return s, errStat
	}
	f := bytes.Fields(rest[i+1:])
	const start = 19 // of the fields from the state on, which is the third
	if len(f) <= start || len(f[0]) != 1 {
		return s, errStat
	}
	pgid, e1 := strconv.Atoi(string(f[2]))
	session, e2 := strconv.Atoi(string(f[3]))
	ticks, e3 := strconv.ParseUint(string(f[start]), 10, 64)
	if err := errors.Join(e1, e2, e3); err != nil {
		return s, fmt.Errorf("%w: %w", errStat, err)
	}
	return procStat{f[0][0], pgid, session, ticks}, nil
}

// members returns the living processes of a group.
func members(pgid int) map[int]procStat {
	list := map[int]procStat{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil && s.PGID == pgid && s.State != 'Z' && s.State != 'X' {
			list[pid] = s
		}
	}
	return list
}

// catches returns whether a process handles a signal: SigCgt in /proc/<pid>/status.
func catches(pid int, s syscall.Signal) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<(uint(s)-1)) != 0
		}
	}
	return false
}

// bootID returns the id of this boot of the host, empty if there is none.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
