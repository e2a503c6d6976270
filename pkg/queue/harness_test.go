package queue_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

// The test binary is also what the tests kill: a node of a cluster, or a process with a queue.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(nodeEnv) != "":
		os.Exit(runNode())
	case os.Getenv(childEnv) != "":
		os.Exit(runChild())
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(accounts)); err != nil { // they wait for disks and for time, not for a core
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patience is for what must happen; a slow machine may take its time.
const patience = 90 * time.Second

// ackWait of the tests: long enough for a machine that stands still for a moment.
const ackWait = time.Second

// place is where a queue lives: in a folder of its own, or in a cluster. Each process has its own folder either way.
type place struct {
	name string
	opts queue.Options
	dirs func() string
}

// embedded returns an empty place in this process.
func embedded(t testing.TB) *place {
	dir := t.TempDir()
	return &place{name: "embedded", opts: queue.Options{AckWait: ackWait}, dirs: func() string { return dir }}
}

// options returns those of a process at the place, the same process's each time.
func (p *place) options(change ...func(*queue.Options)) queue.Options {
	o := p.opts
	o.Dir = p.dirs()
	for _, f := range change {
		f(&o)
	}
	return o
}

// open opens a queue; it is closed with the test if nobody did before.
func (p *place) open(t testing.TB, change ...func(*queue.Options)) *queue.Queue {
	t.Helper()
	q, err := tryOpen(p.options(change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, q) })
	return q
}

func tryOpen(o queue.Options) (*queue.Queue, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return queue.Open(ctx, o)
}

func end(t testing.TB, q *queue.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Errorf("want a clean close, have %v", err)
	}
}

// within returns a context that ends when the test has waited too long.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func make1(id string) event.Event { return event.Event{ID: id, Body: []byte(`{"n":"` + id + `"}`)} }

func makeSome(prefix string, n int) []event.Event {
	all := make([]event.Event, n)
	for i := range all {
		all[i] = make1(fmt.Sprintf("%s%d", prefix, i))
	}
	return all
}

func publish(t testing.TB, q *queue.Queue, events ...event.Event) []queue.Accepted {
	t.Helper()
	answers, err := publishPatiently(within(t), q, events)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return answers
}

// publishPatiently does it as a client would: an answer that takes too long leaves open what happened, so it asks again under
// the same ids, and what the first try stored is new all the same. A disk that many tests share can take that long.
func publishPatiently(ctx context.Context, q *queue.Queue, events []event.Event) ([]queue.Accepted, error) {
	answers, err := q.Publish(ctx, events...)
	for again := 0; errors.Is(err, queue.ErrUnavailable) && errors.Is(err, context.DeadlineExceeded) && again < 5; again++ {
		if slices.ContainsFunc(events, func(e event.Event) bool { return e.ID == "" }) {
			break
		}
		answers, err = q.Publish(ctx, events...)
		for i := range answers {
			answers[i].Duplicate = false
		}
	}
	return answers, err
}

func publishIDs(t testing.TB, q *queue.Queue, ids ...string) []queue.Accepted {
	t.Helper()
	events := make([]event.Event, len(ids))
	for i, id := range ids {
		events[i] = make1(id)
	}
	return publish(t, q, events...)
}

func next(t testing.TB, q *queue.Queue) event.Event {
	t.Helper()
	e, err := q.Next(within(t))
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return e
}

// nextID takes the next event and checks that it is the one.
func nextID(t testing.TB, q *queue.Queue, id string, delivery uint32) event.Event {
	t.Helper()
	e := next(t, q)
	if e.ID != id || e.Delivery != delivery {
		t.Fatalf("want %s, delivery %d, have %s, %d", id, delivery, e.ID, e.Delivery)
	}
	return e
}

// nothing checks that no event comes within the time.
func nothing(t testing.TB, q *queue.Queue, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if e, err := q.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("want nothing within %v, have %s, delivery %d, %v", d, e.ID, e.Delivery, err)
	}
}

func ack(t testing.TB, q *queue.Queue, e event.Event) {
	t.Helper()
	if err := q.Ack(e.Receipt); err != nil {
		t.Fatalf("ack %s: %v", e.ID, err)
	}
}

func retry(t testing.TB, q *queue.Queue, e event.Event, pause time.Duration) queue.State {
	t.Helper()
	state, err := q.Retry(e.Receipt, pause, errors.New("it failed"))
	if err != nil {
		t.Fatalf("retry %s: %v", e.ID, err)
	}
	return state
}

func begin(t testing.TB, q *queue.Queue, e event.Event) {
	t.Helper()
	if err := q.Begin(e.Receipt); err != nil {
		t.Fatalf("begin %s: %v", e.ID, err)
	}
}

// until polls, because what is awaited happens in another process or goroutine.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := within(t); !ok(); {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for this: %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func untilState(t testing.TB, q *queue.Queue, id string, want queue.State) queue.Status {
	t.Helper()
	var s queue.Status
	var err error
	until(t, fmt.Sprintf("%s is %s", id, want), func() bool {
		s, err = q.Status(within(t), id)
		return err == nil && s.State == want
	})
	return s
}

// logged collects what a queue says.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) into(o *queue.Options) {
	o.Log = slog.New(slog.NewTextHandler(l, nil))
}

// emptyCluster deletes the streams, so that the next test finds none.
func emptyCluster(t testing.TB, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"EVENTS", "DONE", "DEAD", "TRIES"} {
		if err := js.DeleteStream(name); err != nil && !errors.Is(err, nats.ErrStreamNotFound) {
			t.Fatal(err)
		}
	}
}
