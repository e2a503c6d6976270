package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/warnlimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is what an outbox sends to: it keeps what it took and answers as the test says.
type receiver struct {
	*outbox.Outbox[string]
	t *testing.T

	mu       sync.Mutex
	answer   func(ctx context.Context, batch []string) error
	tries    []time.Time
	took     []string
	outcomes []string
	warnings []string
}

// receive returns a receiver in virtual time, with its outbox not started.
func receive(t *testing.T, o outbox.Options[string]) *receiver {
	r := &receiver{t: t, answer: func(context.Context, []string) error { return nil }}
	o.Name = "test"
	o.Deliver = func(ctx context.Context, batch []string) error {
		r.mu.Lock()
		answer := r.answer
		r.tries = append(r.tries, time.Now())
		r.mu.Unlock()
		err := answer(ctx, batch)
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.took = append(r.took, strings.Join(batch, "+"))
		}
		return err
	}
	o.Outcome = func(item string, out outbox.Outcome) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcomes = append(r.outcomes, item+[]string{" lost", " delivered", " refused"}[out])
	}
	o.Warnings = &warnlimit.Limiter{
		Warn: func(_ context.Context, err error, more int) {
			r.warnings = append(r.warnings, fmt.Sprint(err, " ", more))
		},
		Over: func(_ context.Context, failures int) { r.warn(fmt.Sprint("over ", failures)) }}
	r.Outbox = outbox.New(o)
	return r
}

func (r *receiver) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, text)
}

// be changes the answer, when everybody waits.
func (r *receiver) be(answer func(context.Context, []string) error) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) fails(err error) { r.be(func(context.Context, []string) error { return err }) }

func (r *receiver) post(items ...string) (dropped []string) {
	for _, i := range items {
		dropped = append(dropped, r.Post(i)...)
	}
	return dropped
}

// check compares what is new in list.
func (r *receiver) check(list *[]string, want ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(*list, want) {
		r.t.Errorf("want %q, have %q", want, *list)
	}
	*list = nil
}

func (r *receiver) checkStats(want outbox.Stats) {
	r.t.Helper()
	synctest.Wait()
	if have := r.Stats(); have != want {
		r.t.Errorf("want %+v, have %+v", want, have)
	}
}

// close ends it, and checks what Close returns.
func (r *receiver) close(budget time.Duration, lost int, late bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), budget)
	defer cancel()
	if n, err := r.Close(ctx); n != lost || (err != nil) != late {
		r.t.Errorf("want %d lost, have %d, %v", lost, n, err)
	}
}

func TestAFullQueueDropsByItsPolicy(t *testing.T) {
	bytes := func(s string) int { return len(s) }
	for name, c := range map[string]struct {
		o             outbox.Options[string]
		dropped, took []string
	}{
		"the oldest":      {outbox.Options[string]{Items: 2}, []string{"a", "bb"}, []string{"ccc", "d"}},
		"the newest":      {outbox.Options[string]{Items: 2, Full: outbox.DropNewest}, []string{"ccc", "d"}, []string{"a", "bb"}},
		"by bytes":        {outbox.Options[string]{Bytes: 4, Size: bytes}, []string{"a", "bb"}, []string{"ccc", "d"}},
		"by their bytes":  {outbox.Options[string]{Bytes: 3, Size: bytes, Full: outbox.DropNewest}, []string{"ccc", "d"}, []string{"a", "bb"}},
		"what never fits": {outbox.Options[string]{Bytes: 2, Size: bytes}, []string{"a", "bb", "ccc"}, []string{"d"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := receive(t, c.o)
			dropped := r.post("a", "bb", "ccc", "d")
			slices.Sort(dropped)
			slices.Sort(c.dropped)
			if !slices.Equal(dropped, c.dropped) {
				t.Errorf("%s: want %q dropped, have %q", name, c.dropped, dropped)
			}
			r.Start()
			r.check(&r.took, c.took...)
			r.checkStats(outbox.Stats{Delivered: uint64(len(c.took)), Dropped: uint64(len(c.dropped))})
			r.close(time.Second, 0, false)
		})
	}
}

func TestWhatNeverFitsDropsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Bytes: 2, Size: func(s string) int { return len(s) }})
		if dropped := r.post("a", "ccc", "b"); !slices.Equal(dropped, []string{"ccc"}) {
			t.Errorf("have %q", dropped)
		}
		r.close(time.Second, 2, false)
	})
}

func TestWhatWaitsIsDeliveredInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9, Batch: 2})
		r.post("a", "b", "c")
		r.Start()
		r.check(&r.took, "a+b", "c")
		r.check(&r.outcomes, "a delivered", "b delivered", "c delivered")
		r.close(0, 0, false)
	})
}

func TestAReceiverThatFailsIsTriedAgainAfterGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 2, First: time.Second, Longest: time.Minute})
		r.fails(errors.New("away"))
		r.Start()
		r.post("a")
		synctest.Wait() // a is tried, and makes room for two
		if dropped := r.post("b", "c", "d"); !slices.Equal(dropped, []string{"b"}) {
			t.Errorf("want the oldest that waits dropped, have %q", dropped)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(r.tries); n < 50 || n > 150 {
			t.Errorf("want about a try a minute, have %d", n)
		}
		for i := range r.tries[1:] {
			if p := r.tries[i+1].Sub(r.tries[i]); p < time.Second/2 || p > 90*time.Second {
				t.Errorf("want pauses between half the first and one and a half of the longest, have %v", p)
			}
		}
		r.fails(nil)
		time.Sleep(2 * time.Minute)
		r.check(&r.took, "a", "c", "d")
		if w := r.warnings; len(w) < 30 || len(w) > 62 || w[0] != "away 0" || !strings.HasPrefix(w[len(w)-1], "over ") {
			t.Errorf("want it reported once a minute at most, and that it is over, have %q", w)
		}
		r.close(0, 0, false)
	})
}

func TestTheReceiversPauseIsKeptWithinABound(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{3 * time.Minute: 3 * time.Minute, 24 * time.Hour: 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			r := receive(t, outbox.Options[string]{Items: 1})
			r.fails(outbox.RetryAfter(errors.New("later"), asked))
			r.Start()
			r.post("a")
			r.fails(nil)
			time.Sleep(want - time.Nanosecond)
			r.check(&r.took)
			time.Sleep(time.Nanosecond)
			r.check(&r.took, "a")
			r.close(0, 0, false)
		})
	}
}

func TestWhatIsRefusedIsNotTriedAgainAndHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9})
		r.be(func(_ context.Context, batch []string) error {
			if batch[0] == "bad" {
				return fmt.Errorf("post: %w", outbox.Final(errors.New("no")))
			}
			return nil
		})
		r.Start()
		r.post("bad", "good")
		r.check(&r.outcomes, "bad refused", "good delivered")
		r.check(&r.warnings, "post: no 0", "over 1")
		r.checkStats(outbox.Stats{Delivered: 1, Refused: 1})
		r.close(0, 0, false)
	})
}

func TestAPanicCostsItsBatchOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9})
		r.be(func(_ context.Context, batch []string) error {
			if batch[0] == "bad" {
				panic("out of order")
			}
			return nil
		})
		r.Start()
		r.post("bad", "good")
		r.check(&r.outcomes, "bad refused", "good delivered")
		r.check(&r.warnings, "panic: test: out of order 0", "over 1")
		r.close(0, 0, false)
	})
}

func TestCloseDeliversWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9})
		r.be(func(ctx context.Context, _ []string) error { time.Sleep(time.Second); return nil })
		r.Start()
		r.post("a", "b", "c")
		began := time.Now()
		r.close(5*time.Second, 0, false)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("want a second for each, it took %v", took)
		}
		r.check(&r.took, "a", "b", "c")
		if dropped := r.post("late"); !slices.Equal(dropped, []string{"late"}) {
			t.Errorf("want it returned, have %q", dropped)
		}
		r.checkStats(outbox.Stats{Delivered: 3, Dropped: 1})
		r.close(0, 0, false)
	})
}

func TestCloseTriesEachOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9})
		r.fails(errors.New("away"))
		r.Start()
		r.post("a", "b", "c")
		synctest.Wait()
		before := len(r.tries)
		r.close(time.Second, 3, false)
		if n := len(r.tries) - before; n != 3 {
			t.Errorf("want each tried once more, have %d tries", n)
		}
		r.check(&r.outcomes, "a lost", "b lost", "c lost")
		r.checkStats(outbox.Stats{Dropped: 3})
	})
}

func TestCloseEndsInTimeThoughDeliverHangs(t *testing.T) {
	for name, obeys := range map[string]bool{"it obeys its context": true, "it ignores it": false} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			r := receive(t, outbox.Options[string]{Items: 9})
			r.be(func(ctx context.Context, _ []string) error {
				select {
				case <-ctx.Done():
					if obeys {
						return ctx.Err()
					}
					<-release
				case <-release:
				}
				return errors.New("too late")
			})
			r.Start()
			r.post("a", "b", "c")
			synctest.Wait()
			began := time.Now()
			r.close(time.Second, 3, true)
			want := time.Second
			if !obeys {
				want += 100 * time.Millisecond
			}
			if took := time.Since(began); took != want {
				t.Errorf("%s: want the end after %v, it took %v", name, want, took)
			}
			close(release)
			<-r.Done()
			r.checkStats(outbox.Stats{Dropped: 3})
		})
	}
}

func TestWhatIsNeverStartedIsGivenUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9})
		r.post("a", "b")
		r.close(time.Hour, 2, false)
		r.Start() // too late
		r.check(&r.outcomes, "a lost", "b lost")
		if len(r.tries) > 0 {
			t.Error("want it not tried")
		}
	})
}

func TestPostDoesNotWaitForDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receive(t, outbox.Options[string]{Items: 9, Timeout: time.Second})
		r.be(func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() })
		r.Start()
		began := time.Now()
		for i := range 100 {
			r.post(fmt.Sprint(i))
			synctest.Wait()
		}
		if took := time.Since(began); took > 0 { // virtual: it moves when all wait
			t.Errorf("it took %v", took)
		}
		r.close(0, 10, true)
	})
}

// line is a connection in memory, which the test makes and ends.
type line struct {
	mu          sync.Mutex
	up          bool
	made, ended int
	gone        chan struct{}
}

func (l *line) connect(context.Context) (outbox.Link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	if !l.up {
		return outbox.Link{}, errors.New("nobody there")
	}
	l.gone = make(chan struct{})
	return outbox.Link{Gone: l.gone, Close: l.close, Proven: true}, nil
}

func (l *line) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
	return errors.New("hung up")
}

// counts returns how often it was made and ended.
func (l *line) counts() (made, ended int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made, l.ended
}

func (l *line) comesUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = true
}

func (l *line) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.gone)
}

func TestALinkIsKeptAlsoWhileNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		r := receive(t, outbox.Options[string]{Items: 9, Connect: l.connect, Holds: time.Second})
		r.Start()
		time.Sleep(10 * time.Second)
		r.check(&r.warnings, "nobody there 0")
		l.comesUp()
		r.post("a")
		time.Sleep(2 * time.Minute)
		r.check(&r.took, "a")
		made, _ := l.counts()
		r.check(&r.warnings, fmt.Sprintf("over %d", made-1))
		l.hangUp()
		r.check(&r.warnings, fmt.Sprintf("hung up %d", made-2)) // all but the first and the last
		time.Sleep(10 * time.Second)
		r.check(&r.warnings, "over 1")
		r.close(0, 0, false)
		if again, ended := l.counts(); again != made+1 || ended != 2 {
			t.Errorf("want it made again, and both ended, have %d and %d", again-made, ended)
		}
	})
}

// A peer that takes a connection and closes it is no success: the pauses grow.
func TestALinkThatDoesNotHoldDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{up: true}
		r := receive(t, outbox.Options[string]{Items: 9, Holds: time.Second, Connect: func(ctx context.Context) (outbox.Link, error) {
			link, err := l.connect(ctx)
			l.hangUp()
			return link, err
		}})
		r.post("a")
		r.Start()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if made, _ := l.counts(); made > 40 {
			t.Errorf("want growing pauses, it was made %d times", made)
		}
		r.close(time.Second, 1, false)
		for _, w := range r.warnings {
			if strings.HasPrefix(w, "over") {
				t.Errorf("want no success reported, have %q", r.warnings)
			}
		}
	})
}

// A receiver that is away gets one more chance, not one for each item.
func TestCloseConnectsOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		r := receive(t, outbox.Options[string]{Items: 9, Connect: l.connect})
		r.Start()
		r.post("a", "b", "c")
		time.Sleep(time.Minute)
		synctest.Wait()
		before, _ := l.counts()
		r.close(time.Hour, 3, false)
		if made, _ := l.counts(); made != before+1 {
			t.Errorf("want one more, have %d", made-before)
		}
		r.check(&r.outcomes, "a lost", "b lost", "c lost")
	})
}
