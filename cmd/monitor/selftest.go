package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	patternBytes = 1 << 20 // touches 256 pages; more could be too much for a small host that is short of memory
	// With less than these the next start may fail for the same reason.
	fewMemory = 32 << 20
	fewDisk   = 64 << 20
	fewFiles  = 32
	clockStep = 2 * time.Second // a wall clock that is this far from the monotonic one was set
)

// check is one part of the self-test after a crash. Redis has such a test, too: is it the machine?
type check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// selfTest runs the checks. It takes some milliseconds and waits for nothing but the kernel.
func selfTest(dataDir string, born time.Time) []check {
	return []check{memoryPattern(), memoryFree(), diskFree(dataDir), filesFree(), clock(born)}
}

// memoryPattern writes patterns and reads them back.
func memoryPattern() check {
	buf := make([]byte, patternBytes)
	bad := 0
	for _, pattern := range []byte{0x00, 0xff, 0x55, 0xaa} {
		for i := range buf {
			buf[i] = pattern ^ byte(i)
		}
		for i := range buf {
			if buf[i] != pattern^byte(i) {
				bad++
			}
		}
	}
	return check{"memory pattern", bad == 0, fmt.Sprintf("%d of %d bytes wrong", bad, len(buf))}
}

func memoryFree() check {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(f[1], 10, 53)
			return check{"memory free", err == nil && kib<<10 >= fewMemory, fmt.Sprintf("%d MiB", kib>>10)}
		}
	}
	return check{"memory free", true, "not to be known"}
}

func diskFree(dir string) check {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	if os.IsNotExist(err) {
		err = syscall.Statfs(".", &s)
	}
	if err != nil {
		return check{"disk free", false, err.Error()}
	}
	free := s.Bavail * uint64(s.Bsize)
	return check{"disk free", free >= fewDisk && (s.Files == 0 || s.Ffree > 0), fmt.Sprintf("%d MiB, %d files", free>>20, s.Ffree)}
}

func filesFree() check {
	text, err := os.ReadFile("/proc/sys/fs/file-nr")
	var used, unused, most uint64
	if _, e := fmt.Sscan(string(text), &used, &unused, &most); err != nil || e != nil {
		return check{"file descriptors", true, "not to be known"}
	}
	return check{"file descriptors", most-min(used, most) >= fewFiles, fmt.Sprintf("%d of %d in use on the host", used, most)}
}

func clock(born time.Time) check {
	now := time.Now()
	step := now.Round(0).Sub(born.Round(0)) - now.Sub(born)
	return check{"clock", step.Abs() < clockStep, fmt.Sprintf("set by %v since the monitor's start", step.Round(time.Millisecond))}
}
