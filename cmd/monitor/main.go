// Command monitor keeps a program running: it notices at once when the program dies and soon when it hangs, writes a
// report of the reason, and starts it again. It works for any program in any language; docs/monitor.md is its manual.
//
//	supervisord ─► monitor ─► the program (a process group of its own)
//	                 ▲ ▲ └─── exit (wait), output (pipes)
//	                 │ └───── heartbeats: any message PUSHed to ipc://heartbeat
//	                 └─────── orders: any message PUSHed to ipc://command, or `monitor kill|stop|dump|status`
//
// It promises: never two copies of the program under one heartbeat address, whichever process is killed; no process
// left of its group; the exact exit code, 128+n for a signal; no false alarm because the machine stood still. Exit 0
// ends the monitor with 0, exit 64 and 78 are passed on, any other is followed by a restart: at once, then with a
// growing pause, and within a budget. Nothing that comes in over its sockets can stop it or make it grow.
//
// It does not follow processes that leave the group (setsid), and it does not restart itself: the rung above does.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), streams{os.Stdin, os.Stdout, os.Stderr}))
}
