package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// shrink gives back memory that start-up and reports needed and waiting doesn't: the heap's free pages, and the pages of
// constant data of our own program file. The kernel reads those again when they are needed. The pages of code stay: a
// restart must not wait for them.
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
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode)
		if err != nil || mode[1] == 'w' || mode[2] == 'x' || !strings.HasSuffix(strings.TrimSpace(line), " "+own) {
			continue // neither code nor pages that we may have written to
		}
		// An error costs memory only.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
	}
}
