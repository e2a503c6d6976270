package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"example.com/base-app/pkg/fault"
)

const (
	// callTime bounds one try. All services answer in a second; one that never does delays the next item by this.
	callTime = 10 * time.Second
	// The pause after a failed try doubles from the first to the longest, with jitter.
	firstPause, longestPause = time.Second, time.Minute
	// askedPause bounds the pause that a service asks for (Retry-After): none may silence us for a day.
	askedPause = 10 * time.Minute
	// keepTime is what is left of the time to end for what is put aside: some dozen small files. It is keepShare of the
	// time at most, since to send is better.
	keepTime, keepShare = 500 * time.Millisecond, 4
)

// item is one thing to tell a service.
type item struct {
	key   string // what it is about: items with the same key are limited together; empty: not limited
	state State  // what it says of the key
	// send makes one try. Left is how many of the key were left out since the last one that was let through.
	send func(ctx context.Context, left uint64) error
	left uint64
	// keep puts aside what could not be sent before the end; nil: it is lost.
	keep func(left uint64) error
}

// refusal is an answer that is not the one we want, or none.
type refusal struct {
	err   error
	final bool          // another try can't help
	after time.Duration // before which the service wants no other try
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// sender tells one service, in the background, one item after another.
//
//	offer ─► limit by key ─► queue, oldest dropped ─► try ─► sent
//	                                                   │ ▲
//	                                                   ▼ │ not final
//	                                                  pause
//
// It lives from open to Close; what is offered before waits.
type sender struct {
	service string
	size    int // of the queue
	tell    *teller
	keeps   bool                                  // its items have keep
	settled func(service string, it item, f Fate) // hears what became of beginnings and ends; nil: nobody does

	sent, dropped, suppressed atomic.Uint64

	wake   chan struct{} // with room for one
	last   chan struct{} // closed when nothing follows
	ended  chan struct{} // closed when the goroutine is gone
	life   context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	limits limits
	queue  []item // oldest first
	opened bool
	closed bool
}

func newSender(service string, size, burst int, window time.Duration, tell *teller) *sender {
	s := &sender{service: service, size: size, tell: tell, limits: newLimits(burst, window),
		wake: make(chan struct{}, 1), last: make(chan struct{}), ended: make(chan struct{})}
	s.life, s.cancel = context.WithCancel(context.Background())
	return s
}

// offer takes it, or counts why not. It never blocks.
func (s *sender) offer(it item) {
	lost, known := s.enqueue(it)
	s.settle(Lost, lost...)
	if known {
		s.say(it)
	}
}

// enqueue returns what gave way, and whether it is known already what became of it.
func (s *sender) enqueue(it item) (lost []item, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.dropped.Add(1)
		return nil, false
	}
	now, suppressed := s.limits.take(it, time.Now())
	s.suppressed.Add(suppressed)
	if now != nil {
		lost = s.push(*now)
	} else {
		_, known = s.limits.fate(it)
	}
	s.rouse() // if only to set the timer for what has to wait
	return lost, known
}

// push is called under the lock. It returns the one that gave way.
func (s *sender) push(it item) (lost []item) {
	if len(s.queue) == s.size {
		lost, s.queue = []item{s.queue[0]}, s.queue[1:]
		s.dropped.Add(1)
	}
	s.queue = append(s.queue, it)
	return lost
}

// settle notes what became of items.
func (s *sender) settle(f Fate, list ...item) {
	for _, it := range list {
		s.mu.Lock()
		s.limits.settle(it, f)
		s.mu.Unlock()
		s.say(it)
	}
}

// say tells whoever asks what became of it, once nothing else about its key is on its way.
func (s *sender) say(it item) {
	if s.settled == nil || it.state == Note {
		return
	}
	s.mu.Lock()
	f, known := s.limits.fate(it)
	s.mu.Unlock()
	if known {
		s.settled(s.service, it, f)
	}
}

func (s *sender) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next takes the oldest item. Without one, wait is the time until the limits let one through, 0 if there is none.
func (s *sender) next(closing bool) (it item, wait time.Duration, ok bool) {
	var lost []item
	defer func() { s.settle(Lost, lost...) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	due, wait := s.limits.due(time.Now(), closing)
	for _, it := range due {
		lost = append(lost, s.push(it)...)
	}
	if len(s.queue) == 0 {
		return item{}, wait, false
	}
	it, s.queue = s.queue[0], s.queue[1:]
	return it, 0, true
}

// open starts the sending.
func (s *sender) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened && !s.closed {
		s.opened = true
		go s.run()
	}
}

func (s *sender) run() {
	defer close(s.ended)
	pause := backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: longestPause}
	pause.Reset()
	for {
		closing := s.closing()
		it, wait, ok := s.next(closing)
		if !ok {
			if closing {
				return
			}
			s.await(wait)
			continue
		}
		for again := true; again; {
			closing = s.closing() // before the try: one that began in time is followed by a last one
			err := s.try(it)
			if err == nil {
				s.sent.Add(1)
				s.settle(Taken, it)
				pause.Reset()
				break
			}
			s.tell.say(err)
			r, _ := errors.AsType[*refusal](err)
			if r != nil && r.final {
				s.dropped.Add(1)
				s.settle(Refused, it)
				break
			}
			if again = !closing; !again {
				s.giveUp(it)
				break
			}
			asked := time.Duration(0)
			if r != nil {
				asked = min(r.after, askedPause)
			}
			s.sleep(max(asked, pause.NextBackOff()))
		}
	}
}

// giveUp puts aside what could not be sent before the end.
func (s *sender) giveUp(it item) {
	s.dropped.Add(1)
	s.settle(Lost, it)
	if it.keep == nil {
		return
	}
	if err := fault.Recover("alert "+s.service, func() error { return it.keep(it.left) }); err != nil {
		s.tell.say(err)
	}
}

var errGivenUp = errors.New("the time to end was over")

// try sends one item. A panic in the encoding is an error like any other: telling of a failure must not cause one.
func (s *sender) try(it item) error {
	ctx, cancel := context.WithTimeout(s.life, callTime)
	defer cancel()
	if ctx.Err() != nil {
		return errGivenUp
	}
	return fault.Recover("alert "+s.service, func() error { return it.send(ctx, it.left) })
}

// await waits for something to do.
func (s *sender) await(wait time.Duration) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-s.wake:
	case <-over:
	case <-s.last:
	}
}

func (s *sender) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.last:
	}
}

func (s *sender) closing() bool {
	select {
	case <-s.last:
		return true
	default:
		return false
	}
}

// Close tries each item that is left once, until ctx ends; the rest is lost, and counted. What is put aside instead has
// the last moments of that. It returns when all is done or ctx ends.
func (s *sender) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.last)
		if !s.opened {
			s.dropped.Add(uint64(len(s.queue)))
			s.queue = nil
			close(s.ended)
		}
	}
	s.mu.Unlock()
	defer s.cancel()
	trying := ctx
	if end, ok := ctx.Deadline(); ok && s.keeps {
		var cancel context.CancelFunc
		trying, cancel = context.WithDeadline(ctx, end.Add(-min(keepTime, time.Until(end)/keepShare)))
		defer cancel()
	}
	select {
	case <-s.ended:
		return nil
	case <-trying.Done():
	}
	s.cancel()
	if s.keeps {
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("alert: %s: %w", s.service, context.Cause(trying))
}

// waiting is how many items are queued.
func (s *sender) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}
