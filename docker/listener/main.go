// Command listener ends the container where supervisord alone would go on without the program: when a program is in the
// state FATAL (it can't be started), or when one ends unexpectedly for the third time within ten minutes. It kills
// supervisord. Then tini and the container end, and docker's restart policy starts it again, with growing pauses.
//
// It is an event listener of supervisord: http://supervisord.org/events.html. It ignores a program that ends as expected
// (code 0), or that an operator stops. It ends with its standard input.
package main

import (
	"os"
	"syscall"
)

func main() {
	supervisor := os.Getppid()
	os.Exit(run(os.Stdin, os.Stdout, os.Stderr, func() error { return syscall.Kill(supervisor, syscall.SIGKILL) }))
}
