// Command listener ends the container when supervisord alone would idle on: when a program is in the state FATAL
// (it can't be started), or when one ends unexpectedly for the third time within ten minutes. It kills supervisord, so
// that tini ends, the container with it, and docker's restart policy acts, with docker's growing pauses.
//
// It is an event listener of supervisord: http://supervisord.org/events.html. A program that ends as expected (code
// 0), or that an operator stops, is none of its business. It ends with its standard input.
package main

import (
	"os"
	"syscall"
)

func main() {
	supervisor := os.Getppid()
	os.Exit(run(os.Stdin, os.Stdout, os.Stderr, func() error { return syscall.Kill(supervisor, syscall.SIGKILL) }))
}
