package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// shrink gives back the memory that start-up and reports needed and waiting does not: the heap's, and the constant data
// of our own program file, which the kernel maps by the dozen and brings back from its cache when they are read again.
// The code stays: a restart must not wait for it.
func shrink() {
	debug.FreeOSMemory()
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[1] == 'w' || mode[2] == 'x' || !strings.HasSuffix(strings.TrimSpace(line), " "+own) {
			continue // neither code nor what we could have written to
		}
		// An error costs memory only.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
	}
}
