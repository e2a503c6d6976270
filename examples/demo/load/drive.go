package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// printEvery is how often a line is printed.
	printEvery = time.Second
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
)

// result is how one request ended.
type result struct {
	took   time.Duration // from the moment when it was due
	status int           // 0: there was no answer
	why    string        // why there was no answer
	id     string
	void   bool // we were interrupted: it doesn't count
}

func (r result) good() bool { return r.status >= 200 && r.status < 400 }

// drive sends requests until the time is over or ctx ends, prints a line each second, and returns the sum. At the end it
// waits for the answers that are still due, unless ctx has ended.
func (o order) drive(ctx context.Context, out io.Writer) *tally {
	// Not web.Client: its breaker would spare the service, which this program means to overload.
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: o.timeout}).DialContext, MaxIdleConnsPerHost: o.clients}
	client := &http.Client{Timeout: o.timeout, Transport: transport}
	defer transport.CloseIdleConnections()

	places := make(chan struct{}, o.clients)
	results := make(chan result, o.clients)
	go func() { // ends with the last answer
		defer close(results)
		var flying sync.WaitGroup
		defer flying.Wait()
		began := time.Now()
		for n := 0; ; n++ {
			due := time.Duration(float64(n) * float64(time.Second) / o.rate)
			last := o.duration > 0 && due >= o.duration
			if last {
				due = o.duration // the rate is for the whole time
			}
			if !until(ctx, began.Add(due)) || last {
				return
			}
			select {
			case places <- struct{}{}:
				flying.Go(func() {
					results <- o.ask(ctx, client, began.Add(due))
					<-places
				})
			default:
				results <- result{why: "not sent: -clients are in flight"}
			}
		}
	}()

	sum, second := newTally(), newTally()
	ticks := time.NewTicker(printEvery)
	defer ticks.Stop()
	for {
		select {
		case r, more := <-results:
			if !more {
				return sum
			}
			sum.add(r)
			second.add(r)
		case now := <-ticks.C:
			second.print(out, now.Format(time.TimeOnly))
			second = newTally()
		}
	}
}

// until waits for the time. It returns false if ctx ended first.
func until(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (o order) ask(ctx context.Context, client *http.Client, due time.Time) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return result{why: err.Error()}
	}
	resp, err := client.Do(req)
	if err != nil {
		return result{took: time.Since(due), why: reason(err), void: ctx.Err() != nil}
	}
	defer resp.Body.Close()
	r := result{status: resp.StatusCode, id: resp.Header.Get("X-Request-Id")}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		r.status, r.why, r.void = 0, "the answer was cut off", ctx.Err() != nil
	}
	r.took = time.Since(due)
	return r
}

// reason returns the part of an error's text that is the same for all requests.
func reason(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time"
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// label returns the name under which a result is counted.
func (r result) label() string {
	if r.status == 0 {
		return r.why
	}
	return fmt.Sprintf("%d %s", r.status, http.StatusText(r.status))
}
