// Command naughty is the naughty worker: a program to try the monitor with. It works (sleeps) for random times, sends a
// heartbeat after each, and now and then crashes, hangs for ever or ends cleanly. With the same --seed it does the same
// again. It beats as a program without our client would: with a bare PUSH socket and empty messages. docs/monitor.md has a
// transcript.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"example.com/base-app/pkg/zmq"
)

const (
	exitCrash = 255 // the original's exit(-1)
	// In each turn 1 in 10 crashes, and 1 in 10 of the rest ends, as in the original; ours also hangs in 1 of 20.
	crashShare, endShare, hangShare = 0.1, 0.1, 0.05
	sendTime                        = 100 * time.Millisecond // for a beat, when no monitor is there
)

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

// run is the program; it returns its exit code.
func run(args []string, out io.Writer) int {
	flags := flag.NewFlagSet("naughty", flag.ContinueOnError)
	seed := flags.Uint64("seed", 0, "what decides about its life; 0 takes a random one")
	longest := flags.Duration("longest", 3*time.Second, "the longest time that it works without a heartbeat")
	addr := flags.String("addr", os.Getenv("HEARTBEAT_ADDR"), "where the monitor listens")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	if *addr == "" {
		*addr = "ipc://heartbeat"
	}
	random := rand.New(rand.NewPCG(*seed, restarts()))
	sockets := zmq.NewContext(zmq.Options{Log: slog.New(slog.DiscardHandler)})
	push, err := sockets.Socket(context.Background(), zmq.Push)
	if err != nil {
		fmt.Fprintln(out, "[naughty_worker]", err)
		return 1
	}
	defer push.Close()
	connect := func(ctx context.Context) error { return push.Connect(ctx, *addr) }
	alone := within(connect)
	if alone != nil {
		fmt.Fprintln(out, "[naughty_worker] No monitor:", alone)
	}
	for {
		work := time.Duration(random.Float64() * float64(*longest))
		fmt.Fprintf(out, "[naughty_worker] Working (sleeping) for %.3f seconds.\n", work.Seconds())
		<-time.After(work)
		if alone != nil { // no monitor: work on; a monitor that answers later is found in a later turn
			alone = within(connect)
		}
		if alone == nil {
			_ = within(func(ctx context.Context) error { return push.Send(ctx, nil) })
		}
		switch {
		case random.Float64() < crashShare:
			fmt.Fprintln(out, "[naughty_worker] Randomly crashing ...")
			return exitCrash
		case random.Float64() < endShare:
			fmt.Fprintln(out, "[naughty_worker] Enough work ...")
			return 0
		case random.Float64() < hangShare:
			fmt.Fprintln(out, "[naughty_worker] Hanging for ever ...")
			for i := 0; ; i++ { // a real hang: no work, and no way out
			}
		}
	}
}

// restarts returns which life under a monitor this is. It changes the seed: with the same one each life would crash at the
// same point.
func restarts() (n uint64) {
	_, _ = fmt.Sscan(os.Getenv("MONITOR_RESTARTS"), &n)
	return n
}

func within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	return f(ctx)
}
