package main

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// How long the output of a dead program is read. After that only a process that left the group keeps the pipe open.
	drainTime = time.Second
	// How long a restart waits for the killed processes of the group to be gone: they may hold a port.
	groupTime = 100 * time.Millisecond
)

// child is one life of the program.
type child struct {
	pid     int
	started time.Time
	ended   chan syscall.WaitStatus // gets one status, when the program is reaped and its group killed
	out     *capture
	mark    procStat // of its start, for the lock

	mu     sync.Mutex
	reaped bool // no signal any more: the pid may be another process's
}

// outlets are the pipes for the output of the next life. They are made in advance, so that a restart is quick.
type outlets struct {
	outR, errR *os.File
	outW, errW int
}

func newOutlets() (*outlets, error) {
	outR, outW, err := pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := pipe()
	if err != nil {
		return nil, errors.Join(err, outR.Close(), syscall.Close(outW))
	}
	return &outlets{outR, errR, outW, errW}, nil
}

// closeOurs closes the write ends, of which the program has its own copies, and if no program got them, the read ends.
func (o *outlets) closeOurs(unused bool) {
	_ = syscall.Close(o.outW)
	_ = syscall.Close(o.errW)
	if unused {
		o.outR.Close()
		o.errR.Close()
	}
}

// spawn starts the program in a group of its own. The calling goroutine must be locked to its thread and outlive the
// program: the kernel kills the program when that thread ends (PR_SET_PDEATHSIG), so that it never outlives the monitor.
// spawn closes the outlets that are left over; last is the capture of the life before, nil for the first.
func spawn(s *settings, env []string, stdin *os.File, o *outlets, last *capture, stdout, stderr *sink) (*child, error) {
	pid, err := syscall.ForkExec(s.path, s.argv, &syscall.ProcAttr{Env: env, Files: []uintptr{stdin.Fd(), uintptr(o.outW), uintptr(o.errW)},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}})
	o.closeOurs(err != nil)
	if err != nil {
		return nil, &os.PathError{Op: "start", Path: s.path, Err: err}
	}
	c := &child{pid: pid, started: time.Now(), ended: make(chan syscall.WaitStatus, 1), out: newCapture(last)}
	c.mark, _ = readStat(pid)
	c.out.pump(o.outR, stdout, false)
	c.out.pump(o.errR, stderr, true)
	go c.wait()
	return c, nil
}

// pipe returns a read end that knows deadlines, and a write end that blocks, as programs expect it.
func pipe() (r *os.File, w int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return nil, 0, os.NewSyscallError("pipe", err)
	}
	if err := syscall.SetNonblock(p[0], true); err != nil {
		return nil, 0, errors.Join(err, syscall.Close(p[0]), syscall.Close(p[1]))
	}
	return os.NewFile(uintptr(p[0]), "|0"), p[1], nil
}

// input returns the program's stdin: the monitor's own, but /dev/null for a terminal, since the kernel stops a
// background group that reads from one.
func input(own *os.File) (*os.File, error) {
	if own == nil || term.IsTerminal(int(own.Fd())) {
		return os.Open(os.DevNull)
	}
	return own, nil
}

// wait kills the rest of the group when the program has ended, and reaps the program after that: no other process
// can have its number while it is a zombie.
func (c *child) wait() {
	for {
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	c.mu.Lock()
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(c.pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	c.reaped = true
	c.mu.Unlock()
	awaitGroup(c.pid)
	c.ended <- status
	c.out.finish()
}

// awaitGroup waits until a killed group is empty, for groupTime at most. Mostly it is empty at once.
func awaitGroup(pgid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(groupTime); syscall.Kill(-pgid, 0) == nil && len(members(pgid)) > 0 && time.Now().Before(deadline); {
		<-tick.C
	}
}

// signal sends the program a signal, unless it is gone.
func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(c.pid, s) // fails only if the program has changed to another user
	}
}

// kill ends the program and its group at once.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // in case it has left its own group
	}
}

// exitCode returns the code as a shell does: for a signal, 128 and its number.
func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// signalName returns the name of the signal that ended the process, such as SIGKILL; empty if none did.
func signalName(s syscall.WaitStatus) string {
	if !s.Signaled() {
		return ""
	}
	if name := unix.SignalName(s.Signal()); name != "" {
		return name
	}
	return strings.ReplaceAll(s.Signal().String(), " ", "-")
}
