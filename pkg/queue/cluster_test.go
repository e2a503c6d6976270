package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
	"github.com/nats-io/nats.go/jetstream"
)

// load publishes and handles events all the time, and knows what was accepted and what was handled.
type load struct {
	mu       sync.Mutex
	accepted map[string]bool
	handled  map[string]int
	count    atomic.Int64
	errs     map[string]int
	all      sync.WaitGroup
}

func startLoad(t *testing.T, ctx context.Context, q *queue.Queue) *load {
	l := &load{accepted: map[string]bool{}, handled: map[string]int{}, errs: map[string]int{}}
	for i := range 2 {
		l.all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				events := makeSome(fmt.Sprintf("p%d-%d-", i, n), 1+i%2*11) // alone, or as a batch
				for {
					_, err := q.Publish(context.Background(), events...)
					if err == nil {
						break
					}
					l.mu.Lock()
					l.errs[err.Error()]++
					l.mu.Unlock()
					if !errors.Is(err, queue.ErrUnavailable) {
						t.Errorf("want ErrUnavailable or success, have %v", err)
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
				l.mu.Lock()
				for _, e := range events {
					l.accepted[e.ID] = true
				}
				l.mu.Unlock()
				l.count.Add(int64(len(events)))
				time.Sleep(25 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) handle(t *testing.T, ctx context.Context, q *queue.Queue) {
	l.all.Go(func() {
		for {
			e, err := q.Next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("next: %v", err)
				}
				return
			}
			l.mu.Lock()
			l.handled[e.ID]++
			l.mu.Unlock()
			if err := q.Ack(e.Receipt); err != nil {
				t.Errorf("ack: %v", err)
			}
		}
	})
}

// flows waits until events are accepted again.
func (l *load) flows(t *testing.T) {
	t.Helper()
	at := l.count.Load()
	until(t, "events are accepted", func() bool { return l.count.Load() > at+50 })
}

func (l *load) missing() (missing, twice int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.accepted {
		switch n := l.handled[id]; {
		case n == 0:
			missing++
		case n > 1:
			twice++
		}
	}
	return missing, twice
}

// healed waits until each stream has all its replicas again, as who restarts nodes one after the other must.
func healed(t *testing.T, q *queue.Queue) {
	t.Helper()
	js, err := jetstream.New(q.Conn())
	if err != nil {
		t.Fatal(err)
	}
	why := ""
	defer func() {
		if t.Failed() {
			t.Log(why)
		}
	}()
	until(t, "all replicas are current", func() bool {
		for _, name := range []string{"EVENTS", "DONE", "DEAD", "TRIES"} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second) // a question in the middle of an election gets no answer
			stream, err := js.Stream(ctx, name)
			cancel()
			if err != nil {
				why = fmt.Sprint(name, err)
				return false
			}
			for _, r := range stream.CachedInfo().Cluster.Replicas {
				if r.Offline || r.Lag > 0 {
					why = fmt.Sprintf("%s %+v", name, r)
					return false
				}
			}
		}
		return true
	})
}

func TestAClusterWhoseNodesFailLosesNothing(t *testing.T) { // alone: it needs the machine
	nodes := startNodes(t, 3)
	p := cluster(t, nodes, 0)
	var log logged
	q := p.open(t, log.into)
	other := p.elsewhere(t).open(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	handling, stop := context.WithCancel(context.Background())
	defer stop()
	publishing, enough := context.WithCancel(context.Background())
	defer enough()
	l := startLoad(t, publishing, q)
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() {
			t.Logf("errors: %v", l.errs)
		}
	})
	l.handle(t, handling, q)
	l.handle(t, handling, other)
	l.flows(t)
	for _, n := range []*node{nodes[0], nodes[2]} {
		n.kill()
		l.flows(t)
		n.start(t)
		healed(t, q)
	}
	nodes[1].pause()
	time.Sleep(time.Second)
	l.flows(t)
	nodes[1].resume()
	healed(t, q)
	l.flows(t)
	enough()
	until(t, "all that was accepted is handled", func() bool { m, _ := l.missing(); return m == 0 })
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
	stop()
	l.all.Wait()
	_, twice := l.missing()
	t.Logf("%d accepted, %d of them handled more than once; errors: %v", l.count.Load(), twice, l.errs)
}

func TestAClusterWithoutAMajorityIsNotAvailableAndRecovers(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 3)
	p := cluster(t, nodes, 0)
	q := p.open(t)
	publishIDs(t, q, "a", "b")
	a := nextID(t, q, "a", 1)
	nodes[0].kill()
	nodes[1].kill()
	began := time.Now()
	if _, err := q.Publish(within(t), make1("c")); !errors.Is(err, queue.ErrUnavailable) || fault.Of(err) != fault.KindDependency {
		t.Errorf("want ErrUnavailable, have %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("want an answer within seconds, have %v", took)
	}
	until(t, "Stats tell", func() bool { _, err := q.Stats(within(t)); return err != nil })
	until(t, "Err tells", func() bool { return errors.Is(q.Err(), queue.ErrUnavailable) })
	ack(t, q, a) // it is written when there is a majority again
	nodes[0].start(t)
	nodes[1].start(t)
	until(t, "events are accepted again", func() bool {
		_, err := q.Publish(within(t), make1("c"))
		return err == nil
	})
	untilState(t, q, "a", queue.StateProcessed)
	ack(t, q, nextID(t, q, "b", 1))
	ack(t, q, nextID(t, q, "c", 1))
	until(t, "no error any more", func() bool { _, err := q.Stats(within(t)); return err == nil && q.Err() == nil })
}

func TestCloseWithoutAServerEndsInTime(t *testing.T) {
	t.Parallel()
	n := startNodes(t, 1)[0]
	p := &place{opts: queue.Options{URL: n.url(0), AckWait: ackWait}, dirs: t.TempDir}
	q := p.open(t)
	publishIDs(t, q, "a", "b")
	e := next(t, q)
	n.pause()
	ack(t, q, e)
	began := time.Now()
	end(t, q)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("want the end in a few seconds, have %v", took)
	}
}
