package alert

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/warnlimit"
)

const (
	// callTime bounds one try. All services answer in a second; one that never does delays the next item by this.
	callTime = 10 * time.Second
	// keepTime is what is left of the time to end for what is put aside: some dozen small files. It is keepShare of the
	// time at most, since to send is better.
	keepTime, keepShare = 500 * time.Millisecond, 4
	// maxLogged bounds what a foreign server can bring into the log.
	maxLogged = 300
)

// item is one thing to send to a service.
type item struct {
	key   string // what it is about: items with the same key are limited together; empty: not limited
	state State  // of the key
	// send makes one try. Left is how many of the key were left out since the last one that was let through.
	send func(ctx context.Context, left uint64) error
	left uint64
	// keep puts aside what could not be sent before the end; nil: it is lost.
	keep func(left uint64) error
}

// sender sends to one service, in the background, one item after another.
//
//	offer ─► limit by key ─► outbox, oldest dropped ─► the service
//	              │   ▲
//	              └───┘ the last of a storm, when its window ends
//
// It lives from open to Close; what is offered before waits.
type sender struct {
	service  string
	box      *outbox.Outbox[item]
	warnings *warnlimit.Limiter
	log      *slog.Logger                          // set before open
	keeps    bool                                  // its items have keep
	outcome  func(service string, it item, f Fate) // called with what became of beginnings and ends; nil: not called

	suppressed, late atomic.Uint64 // items left out by the limits, and offered after the end

	mu     sync.Mutex
	limits limits
	timer  *time.Timer // for what waits for the end of a window; nil: nothing does
	closed bool
}

func newSender(service string, size, burst int, window time.Duration, redact func(string) string) *sender {
	s := &sender{service: service, log: slog.New(slog.DiscardHandler), limits: newLimits(burst, window)}
	s.warnings = &warnlimit.Limiter{
		Warn: func(_ context.Context, err error, more int) {
			short := text.Ellipsis(text.OneLine(redact(err.Error())), maxLogged)
			s.log.Warn("alerts can't be sent", "service", service, "error", short, "more", more)
		},
		Over: func(_ context.Context, failures int) {
			s.log.Info("alerts are sent again", "service", service, "failures", failures)
		}}
	s.box = outbox.New(outbox.Options[item]{Name: "alert " + service, Items: size, Timeout: callTime,
		Warnings: s.warnings, Outcome: s.ended,
		Deliver: func(ctx context.Context, batch []item) error { return batch[0].send(ctx, batch[0].left) }})
	return s
}

// open starts the sending.
func (s *sender) open() { s.box.Start() }

// offer queues it, or counts why not. It never blocks.
func (s *sender) offer(it item) {
	lost, known := s.enqueue(it)
	s.recordFate(Lost, lost...)
	if known {
		s.reportFate(it)
	}
}

// enqueue returns what gave way, and whether it is known already what became of it.
func (s *sender) enqueue(it item) (lost []item, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.late.Add(1)
		return nil, false
	}
	now, suppressed := s.limits.admit(it, time.Now())
	s.suppressed.Add(suppressed)
	if now != nil {
		lost = s.box.Post(*now)
	} else {
		_, known = s.limits.fate(it)
	}
	return append(lost, s.release(false)...), known
}

// release posts what has waited until its window ended, and all that waits if all is true; it sets the timer for the rest.
// It is called under the lock, and returns what gave way.
func (s *sender) release(all bool) (lost []item) {
	due, wait := s.limits.due(time.Now(), all)
	for _, it := range due {
		lost = append(lost, s.box.Post(it)...)
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.timer = nil; wait > 0 {
		s.timer = time.AfterFunc(wait, s.windowEnds)
	}
	return lost
}

func (s *sender) windowEnds() {
	s.mu.Lock()
	lost := s.release(s.closed)
	s.mu.Unlock()
	s.recordFate(Lost, lost...)
}

// ended is the outbox's Outcome.
func (s *sender) ended(it item, f Fate) {
	s.recordFate(f, it)
	if f != Lost || it.keep == nil {
		return
	}
	if err := fault.Recover("alert "+s.service, func() error { return it.keep(it.left) }); err != nil {
		s.warnings.Failed(context.Background(), err)
	}
}

// recordFate keeps what became of items, and reports it.
func (s *sender) recordFate(f Fate, list ...item) {
	for _, it := range list {
		s.mu.Lock()
		s.limits.record(it, f)
		s.mu.Unlock()
		s.reportFate(it)
	}
}

// reportFate passes on what became of an item, once nothing else about its key is on its way.
func (s *sender) reportFate(it item) {
	if s.outcome == nil || it.state == Note {
		return
	}
	s.mu.Lock()
	f, known := s.limits.fate(it)
	s.mu.Unlock()
	if known {
		s.outcome(s.service, it, f)
	}
}

func (s *sender) stat() Stat {
	b := s.box.Stats()
	return Stat{s.service, b.Delivered, b.Dropped + b.Refused + s.late.Load(), s.suppressed.Load()}
}

// Close tries each item that is left once, until ctx ends; the rest is lost, and counted. What is put aside instead has
// the last moments of that. It returns when all is done or ctx ends.
func (s *sender) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	lost := s.release(true)
	s.mu.Unlock()
	s.recordFate(Lost, lost...)
	trying := ctx
	if end, ok := ctx.Deadline(); ok && s.keeps {
		var cancel context.CancelFunc
		trying, cancel = context.WithDeadline(ctx, end.Add(-min(keepTime, time.Until(end)/keepShare)))
		defer cancel()
	}
	_, err := s.box.Close(trying)
	if err == nil {
		return nil
	}
	if s.keeps {
		select {
		case <-s.box.Done():
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("alert: %s: %w", s.service, err)
}

// maxSecret is how long what must not be seen may be, for cut.
const maxSecret = 256

// cut is text.Ellipsis for texts whose secrets are looked for later: it ends before a word that it would split, since half a
// secret is not recognized.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if end := strings.LastIndexAny(s[n-min(n, maxSecret):n], " \t\r\n"); end >= 0 {
		n += end - min(n, maxSecret)
	}
	return text.Ellipsis(s, n)
}
