package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// Latencies are counted in classes, each 5 % wider than the one before, from 10 µs to two minutes: so a long run needs
	// no more memory than a short one.
	finest  = 10 * time.Microsecond
	growth  = 1.05
	classes = 335
	// maxLabels bounds how many kinds of failure are counted one by one.
	maxLabels = 20
)

// tally counts results. One goroutine uses it.
type tally struct {
	began   time.Time
	labels  map[string]int
	good    int
	took    [classes]int // of those with an answer
	answers int
	slowest result
	failed  result // the first that failed
}

func newTally() *tally { return &tally{began: time.Now(), labels: map[string]int{}} }

func (t *tally) asked() int {
	n := 0
	for _, count := range t.labels {
		n += count
	}
	return n
}

func (t *tally) bad() int { return t.asked() - t.good }

func (t *tally) add(r result) {
	if r.void {
		return
	}
	label := r.label()
	if _, known := t.labels[label]; !known && len(t.labels) >= maxLabels {
		label = "other"
	}
	t.labels[label]++
	if r.good() {
		t.good++
	} else if t.bad() == 1 {
		t.failed = r
	}
	if r.status == 0 {
		return
	}
	t.answers++
	t.took[class(r.took)]++
	if r.took > t.slowest.took {
		t.slowest = r
	}
}

func class(d time.Duration) int {
	if d <= finest {
		return 0
	}
	return min(int(math.Ceil(math.Log(float64(d)/float64(finest))/math.Log(growth))), classes-1)
}

// within returns the time within which this share of the answers came, as the upper end of its class.
func (t *tally) within(share float64) time.Duration {
	rank, seen := int(math.Ceil(share*float64(t.answers))), 0
	for i, n := range t.took {
		if seen += n; seen >= rank {
			return min(time.Duration(float64(finest)*math.Pow(growth, float64(i))), t.slowest.took)
		}
	}
	return t.slowest.took
}

// print prints one line.
func (t *tally) print(out io.Writer, what string) {
	asked := t.asked()
	fmt.Fprintf(out, "%-8s  %6.1f/s", what, float64(asked)/time.Since(t.began).Seconds())
	if t.answers > 0 {
		fmt.Fprintf(out, "  half %s  99%% %s  slowest %s", short(t.within(0.5)), short(t.within(0.99)), short(t.slowest.took))
	}
	for _, label := range slices.Sorted(maps.Keys(t.labels)) {
		fmt.Fprintf(out, "  %d × %s", t.labels[label], label)
	}
	fmt.Fprintln(out)
}

func short(d time.Duration) string {
	return strings.TrimSpace(fmt.Sprintf("%6.1f ms", float64(d)/float64(time.Millisecond)))
}

// printIDs prints the ids of the requests that are worth a look into the logs.
func (t *tally) printIDs(out io.Writer) {
	for _, of := range []struct {
		what string
		result
	}{{"the slowest", t.slowest}, {"the first that failed", t.failed}} {
		if of.id != "" {
			fmt.Fprintf(out, "%s: %s, %s, request_id %s\n", of.what, of.label(), short(of.took), of.id)
		}
	}
}
