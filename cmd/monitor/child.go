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
	// What the program wrote before it died is read to the end within this; longer only a process that left the group
	// keeps the pipe open.
	drainTime = time.Second
	// How long a restart waits for the killed rest of the group to be gone: they may hold a port.
	groupTime = 100 * time.Millisecond
)

// child is one life of the program.
type child struct {
	pid     int
	started time.Time
	ended   chan syscall.WaitStatus // gets one, when it is dead, reaped, and its group killed
	out     *capture
	mark    procStat // of its start, for the lock

	mu     sync.Mutex
	reaped bool // its pid may be another's: no signal any more
}

// outlets are the pipes for the output of the next life. They are made in advance: a restart must not wait for them.
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

// closeOurs closes the ends that the program has; ends of which the program has none are closed too.
func (o *outlets) closeOurs(unused bool) {
	_ = syscall.Close(o.outW)
	_ = syscall.Close(o.errW)
	if unused {
		o.outR.Close()
		o.errR.Close()
	}
}

// spawn starts the program in a group of its own. The calling goroutine must be locked to its thread and outlive the
// program: the program is killed when that thread ends (PR_SET_PDEATHSIG), so that it never outlives the monitor.
// It takes the outlets; last is what took the output of the life before, nil for the first.
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

// input returns what the program reads: what we have, but no terminal, since a background group that reads from one
// is stopped.
func input(own *os.File) (*os.File, error) {
	if own == nil || term.IsTerminal(int(own.Fd())) {
		return os.Open(os.DevNull)
	}
	return own, nil
}

// wait kills what is left of the group when the program has ended, and reaps the program after that: as long as it is
// a zombie nobody else can have its number.
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

// awaitGroup waits until nobody lives in a group that was killed. Mostly there is nobody, and that is known at once.
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
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // should it have left its own group
	}
}

// exitCode is what a shell would tell: the code, or 128 and the signal's number.
func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// signalName returns SIGKILL for 9; empty if the status is not of a signal.
func signalName(s syscall.WaitStatus) string {
	if !s.Signaled() {
		return ""
	}
	if name := unix.SignalName(s.Signal()); name != "" {
		return name
	}
	return strings.ReplaceAll(s.Signal().String(), " ", "-")
}
