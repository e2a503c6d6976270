package nanny

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/worker"
)

const (
	// rounds is how many rounds the watcher makes within the shortest deadline: a hang is found at most an eighth late.
	rounds = 8
	// The bounds of the time between two rounds: more often would cost something, less often would be late for people.
	shortestRound = 5 * time.Millisecond
	longestRound  = time.Second
	// lateLooks is how many checks in a row, each a longestRound after the other, may find no new round before the watcher
	// itself counts as hung.
	lateLooks = 5
	// backTime is how long a worker may take to come back when its context has ended.
	backTime = time.Second
)

// watcher finds the workers that are busy and make no progress. It counts only the time that it observed: if its own
// rounds come late, because the host is overloaded or was frozen, no worker is blamed for that.
type watcher struct {
	nanny *Nanny
	joins chan struct{} // a worker was started, perhaps with a shorter deadline
	count atomic.Uint64 // rounds
	hung  atomic.Bool
}

var place = "between rounds"

func (w *watcher) run(ctx context.Context) error {
	self := worker.FromContext(ctx)
	for {
		began, every := time.Now(), w.interval()
		w.count.Add(1)
		self.Park(&place)
		ok := w.wait(ctx, every)
		self.Unpark()
		if !ok {
			return nil
		}
		w.round(observed(time.Since(began), every))
	}
}

// wait waits for the time between two rounds, or until a worker joins. It returns false if ctx ended first.
func (w *watcher) wait(ctx context.Context, every time.Duration) bool {
	timer := time.NewTimer(every)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.joins:
	case <-ctx.Done():
		return false
	}
	return true
}

// interval returns the time between two rounds: a share of the shortest deadline.
func (w *watcher) interval() time.Duration {
	n := w.nanny
	n.mu.Lock()
	defer n.mu.Unlock()
	shortest := n.opts.Deadline
	for _, t := range n.workers {
		if t.state.alive() {
			shortest = min(shortest, t.policy.deadline)
		}
	}
	return max(shortestRound, min(longestRound, shortest/rounds))
}

// observed returns how much of the time between two rounds counts against a worker. If it is longer than two rounds, the
// host was asleep or too busy to run this process, and the rest does not count.
func observed(elapsed, every time.Duration) time.Duration { return min(elapsed, 2*every) }

// watchOver ends the process when the watcher makes no rounds any more. It takes no lock and writes no log, since the
// watcher may hang in one of these. It counts checks instead of time, since the host may have slept. It ends with ctx.
func (w *watcher) watchOver(ctx context.Context) {
	looks := time.NewTicker(longestRound)
	defer looks.Stop()
	for seen, still := w.count.Load(), 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-looks.C:
		}
		now := w.count.Load()
		if now != seen {
			seen, still = now, 0
			continue
		}
		if still++; still == lateLooks {
			w.hung.Store(true)
			w.nanny.opts.Fail(&fault.Error{Kind: fault.KindStuck, Op: "nanny", Err: errHung})
			return
		}
	}
}

var errHung = errors.New("the nanny makes no rounds any more")

func (w *watcher) round(passed time.Duration) {
	for _, t := range w.overdue(passed) {
		w.nanny.stuck(t)
	}
}

func (w *watcher) overdue(passed time.Duration) (list []*tracked) {
	n := w.nanny
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.workers {
		if t.state != StateBusy {
			continue
		}
		beats := t.worker.Beats()
		_, parked := t.worker.Parked()
		if parked || beats != t.seen {
			t.seen, t.quiet = beats, 0
			continue
		}
		switch t.quiet += passed; {
		case t.quiet < t.policy.deadline:
		case t.policy.judged || beats > 0:
			list = append(list, t)
		case t.listens:
		case !t.tried: // it may be a sound one that waits in its own way
			t.tried = true
			t.end(errTried)
		case t.quiet >= t.policy.deadline+backTime:
			list = append(list, t)
		}
	}
	return list
}

// stuck gives up a worker: it is named with the stack that it hangs in, and the process ends.
func (n *Nanny) stuck(t *tracked) {
	if n.closing() {
		return
	}
	where := "its stack could not be found"
	if mine := stack.Of(t.name, stack.All()); len(mine) > 0 {
		where = fmt.Sprintf("goroutine %d [%s]:\n%s", mine[0].ID, mine[0].State, mine[0].Text)
	}
	n.mu.Lock()
	if t.state != StateBusy {
		n.mu.Unlock()
		return
	}
	err := &fault.Error{Kind: fault.KindStuck, Op: "worker", Subject: t.name, Stack: []byte(where),
		Hint: watchHint, Err: fmt.Errorf("made no progress for %v", t.quiet.Round(time.Millisecond))}
	t.state, t.since, t.err = StateStuck, time.Now(), err
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	n.report(n.ctx, t.name, err)
	n.opts.Fail(err)
}
