// Command load requests one URL at a steady rate and prints how it was answered: a line each second, and a summary.
//
//	load -url http://127.0.0.1:8081/ -rate 50 -for 10s
//
// It doesn't wait for slow answers before the next request. Latencies count from the moment at which a request was due, so
// that they show a server that stood still. It prints the ids of the slowest request and of the first that failed; both
// are found by them in the logs of both services.
//
// It exits with 0 if enough requests succeeded, with 1 if more than -failures failed, and with 64 for a wrong command
// line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// maxRate is the highest rate that one machine can drive beside the services.
const maxRate = 10000

// order is the parsed command line.
type order struct {
	url      string
	rate     float64       // requests a second
	duration time.Duration // 0: until the signal
	clients  int           // requests in flight at most; more are not sent, and failed
	timeout  time.Duration // of one request
	failures float64       // the share of failures that is still a success
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	o, err := parse(args, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return fault.ExitClean
	case err != nil:
		fmt.Fprintln(errs, "load:", err)
		return fault.ExitUsage
	}
	sum := o.drive(ctx, out)
	sum.print(out, "in all")
	sum.printIDs(out)
	if sum.asked() == 0 || float64(sum.bad()) > o.failures*float64(sum.asked()) {
		return fault.ExitUnhandled
	}
	return fault.ExitClean
}

func parse(args []string, errs io.Writer) (o order, err error) {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8081/", "what to ask for")
	flags.Float64Var(&o.rate, "rate", 50, "requests a second")
	flags.DurationVar(&o.duration, "for", 10*time.Second, "how long; 0 means until a signal")
	flags.IntVar(&o.clients, "clients", 100, "requests in flight at most; those that would be more are not sent, and failed")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "for one request")
	flags.Float64Var(&o.failures, "failures", 0, "the share of requests that may fail, 0.01 for one in a hundred")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	u, err := url.Parse(o.url)
	switch {
	case flags.NArg() > 0:
		err = errors.New("there are only flags")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		err = errors.New("-url is no http URL")
	case !(o.rate > 0 && o.rate <= maxRate):
		err = fmt.Errorf("-rate is above 0 and at most %d", maxRate)
	case o.clients < 1 || o.clients > maxRate:
		err = fmt.Errorf("-clients is from 1 to %d", maxRate)
	case o.duration < 0 || o.timeout <= 0:
		err = errors.New("-for and -timeout are not negative")
	case !(o.failures >= 0 && o.failures <= 1):
		err = errors.New("-failures is from 0 to 1")
	}
	return o, err
}
