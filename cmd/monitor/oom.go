package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCounter reads how often the kernel killed a process of our control group because memory was out: memory.events of
// cgroup v2, memory.oom_control of v1 (https://docs.kernel.org/admin-guide/cgroup-v2.html). If the counter grew and the
// program died of a KILL that the monitor did not send, memory was out.
type oomCounter struct {
	f    *os.File // nil: there is no counter
	last uint64
}

func newOOMCounter() *oomCounter {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	c := &oomCounter{}
	for _, path := range oomFiles(string(groups)) {
		if f, err := os.Open(path); err == nil {
			c.f = f
			break
		}
	}
	c.mark()
	return c
}

// oomFiles returns the files that may hold the counter, given the text of /proc/self/cgroup. In a container the path
// in that text may be the host's, while the mounted root is our own group: both are tried.
func oomFiles(groups string) (list []string) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		root, file := "", ""
		switch {
		case f[1] == "memory":
			root, file = "/sys/fs/cgroup/memory", "memory.oom_control"
		case f[0] == "0" && f[1] == "":
			root, file = "/sys/fs/cgroup", "memory.events"
		default:
			continue
		}
		list = append(list, filepath.Join(root, filepath.Clean("/"+f[2]), file), filepath.Join(root, file))
	}
	return list
}

func (c *oomCounter) read() uint64 {
	if c.f == nil {
		return 0
	}
	buf := make([]byte, 512) // such files have a few short lines
	n, err := c.f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return c.last
	}
	return oomKills(string(buf[:n]))
}

// oomKills finds the line "oom_kill 3", which both files have.
func oomKills(text string) uint64 {
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			v, _ := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			return v
		}
	}
	return 0
}

func (c *oomCounter) mark() { c.last = c.read() }

// grown returns whether the kernel has killed a process since mark.
func (c *oomCounter) grown() bool { return c.read() > c.last }

func (c *oomCounter) close() {
	if c.f != nil {
		c.f.Close()
	}
}
