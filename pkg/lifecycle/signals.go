package lifecycle

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals are the signals that a Life handles:
//   - TERM and INT stop the process, after Options.Delay if there is one. The next one ends the delay, and one after that
//     ends the process at once.
//   - HUP calls Options.Hangup. USR1 writes a dump, and the process goes on.
//   - PIPE, which comes when the reader of the log is gone, is ignored: the app outlives its log.
//   - QUIT keeps Go's meaning: all stacks, and exit code 2.
type Signals struct{ c chan os.Signal }

// signalQueue is how many signals can wait. More are dropped, which does no harm: they repeat those that wait.
const signalQueue = 16

// Arm makes the process receive the signals. It is the first call of main: a signal before it ends the process at once,
// a signal after it waits for the Life.
func Arm() *Signals {
	s := &Signals{c: make(chan os.Signal, signalQueue)}
	signal.Notify(s.c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGPIPE)
	return s
}

// Disarm gives the signals back to the system.
func (s *Signals) Disarm() { signal.Stop(s.c) }

func (l *Life) listen(s *Signals, second chan<- os.Signal, done <-chan struct{}) {
	var d departure
	for {
		select {
		case <-done:
			return
		case <-d.over:
			l.Stop(d.cause)
		case sig := <-s.c:
			l.signal(sig, &d, second)
		}
	}
}

func (l *Life) signal(sig os.Signal, d *departure, second chan<- os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT:
		l.ask(sig, d, second)
	case syscall.SIGHUP:
		if l.opts.Hangup != nil {
			go l.opts.Hangup() // it logs, and the log may block
		}
	case syscall.SIGUSR1:
		go l.Dump("SIGUSR1")
	}
}

func name(s os.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	}
	return s.String()
}
