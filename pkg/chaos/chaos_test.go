package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var all = []chaos.Kind{chaos.Latency, chaos.Error, chaos.Drop, chaos.Panic, chaos.Stall}

// loud is a log that a test reads.
type loud struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *loud) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *loud) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *loud) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// made returns a Chaos with the points "door", which takes everything, and "gate", which takes no drop.
func made(t testing.TB, o chaos.Options) *chaos.Chaos {
	t.Helper()
	c := chaos.New(o)
	t.Cleanup(c.Close)
	declare(t, c, chaos.Point{Name: "door", Kinds: all})
	declare(t, c, chaos.Point{Name: "gate", Kinds: []chaos.Kind{chaos.Latency, chaos.Error}})
	return c
}

func declare(t testing.TB, c *chaos.Chaos, p chaos.Point) {
	t.Helper()
	if err := c.Declare(p); err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, c *chaos.Chaos, o chaos.Order) chaos.Status {
	t.Helper()
	if o.Probability == 0 {
		o.Probability = 1
	}
	o.Reason = "test"
	s, err := c.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNothingHappensWithoutAnOrder(t *testing.T) {
	c := made(t, chaos.Options{})
	if err := errors.Join(c.Hit(t.Context(), "door"), c.Step(t.Context(), "door"), c.Hit(t.Context(), "unknown")); err != nil {
		t.Errorf("want no fault, have %v", err)
	}
}

func TestAnErrorAndADropAreToldByTheirTree(t *testing.T) {
	c := made(t, chaos.Options{})
	for kind, want := range map[chaos.Kind]error{chaos.Error: chaos.ErrInjected, chaos.Drop: chaos.ErrDropped} {
		s := start(t, c, chaos.Order{Scope: "door", Kind: kind})
		err := c.Hit(t.Context(), "door")
		if text := fmt.Sprintf("chaos: door: %v (order %d: test)", want, s.ID); !errors.Is(err, want) || fault.Of(err) != fault.KindDependency || err.Error() != text {
			t.Errorf("%s: want %q of a dependency, have %v of kind %s", kind, text, err, fault.Of(err))
		}
		if err := c.Hit(t.Context(), "gate"); err != nil {
			t.Errorf("%s: want other points spared, have %v", kind, err)
		}
		if _, err := c.Stop(s.ID, "me", ""); err != nil {
			t.Error(err)
		}
		if err := c.Hit(t.Context(), "door"); err != nil {
			t.Errorf("%s: want nothing once it was stopped, have %v", kind, err)
		}
	}
}

func TestAPanicPanics(t *testing.T) {
	c := made(t, chaos.Options{})
	start(t, c, chaos.Order{Scope: "door", Kind: chaos.Panic})
	err := fault.Recover("door", func() error { return c.Hit(t.Context(), "door") })
	if fault.Of(err) != fault.KindPanic || !strings.Contains(err.Error(), "an injected panic (order 1: test)") {
		t.Errorf("want a panic that says where it comes from, have %v", err)
	}
}

func TestLatencyIsTheDelayAndUpToItsJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := made(t, chaos.Options{})
		start(t, c, chaos.Order{Scope: "door", Kind: chaos.Latency, Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond, Seed: 1, For: time.Hour})
		const n = 1000
		least, most, sum := time.Hour, time.Duration(0), time.Duration(0)
		for range n {
			began := time.Now()
			if err := c.Hit(t.Context(), "door"); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			least, most, sum = min(least, took), max(most, took), sum+took
		}
		if mean := sum / n; least < 100*time.Millisecond || least > 105*time.Millisecond || most < 145*time.Millisecond || most > 150*time.Millisecond ||
			mean < 123*time.Millisecond || mean > 127*time.Millisecond {
			t.Errorf("want 100 to 150 ms, 125 on average, have %v to %v, %v on average", least, most, mean)
		}
	})
}

// With a seed the same passages are struck, and as many as the probability says.
func TestASeedStrikesTheSamePassagesAndTheProbabilityHolds(t *testing.T) {
	const n = 10000
	pattern := func(seed uint64, p float64) (string, int) {
		c := made(t, chaos.Options{})
		s := start(t, c, chaos.Order{Scope: "door", Kind: chaos.Error, Probability: p, Seed: seed})
		if seed == 0 && s.Seed == 0 {
			t.Error("want a seed to be chosen and told")
		}
		var b strings.Builder
		for range n {
			if c.Hit(t.Context(), "door") != nil {
				b.WriteByte('x')
			} else {
				b.WriteByte('.')
			}
		}
		text := b.String()
		struck := strings.Count(text, "x")
		if now := c.Active()[0]; now.Passed != n || now.Strikes != uint64(struck) {
			t.Errorf("want %d passed and %d struck, have %+v", n, struck, now)
		}
		return text, struck
	}
	for _, p := range []float64{0.01, 0.1, 0.5, 0.9, 1} {
		for seed := range uint64(5) {
			text, struck := pattern(seed, p)
			if again, _ := pattern(seed, p); seed > 0 && again != text {
				t.Errorf("seed %d: want the same passages struck again", seed)
			}
			// Six standard deviations of a binomial distribution: one run in a billion is further off.
			if far := 6 * math.Sqrt(n*p*(1-p)); math.Abs(float64(struck)-n*p) > far {
				t.Errorf("seed %d: want %.0f of %d struck, ± %.0f, have %d", seed, n*p, n, far, struck)
			}
		}
	}
	one, _ := pattern(1, 0.5)
	if other, _ := pattern(2, 0.5); one == other {
		t.Error("want another seed to strike others")
	}
}

func TestAnOrderExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log loud
		c := made(t, chaos.Options{Log: log.log()})
		if s := start(t, c, chaos.Order{Scope: "door", Kind: chaos.Error, By: "pid 7 uid 8"}); s.For != time.Minute || !s.Until.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("want a minute where nothing was said, have %+v", s)
		}
		time.Sleep(time.Minute - time.Millisecond)
		if c.Hit(t.Context(), "door") == nil {
			t.Error("want it active until its time is over")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if err := c.Hit(t.Context(), "door"); err != nil || len(c.Active()) != 0 {
			t.Errorf("want it over, have %v, %+v", err, c.Active())
		}
		if list := c.List(); len(list) != 1 || list[0].State != chaos.Expired || list[0].Strikes != 1 {
			t.Errorf("want it listed as expired with 1 strike, have %+v", list)
		}
		for _, want := range []string{
			`level=WARN msg="chaos started" order=1 scope=door kind=error points=door probability=1`, `by="pid 7 uid 8" reason=test`,
			`level=WARN msg="chaos is over" order=1 scope=door kind=error state=expired after=1m0s passed=1 strikes=1 ordered_by="pid 7 uid 8" reason=test`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("want in the log: %s, have\n%s", want, &log)
			}
		}
	})
}

// Whoever is held goes on at once when the wait has no reason any more.
func TestAHoldEndsWithWhateverEndsItsReason(t *testing.T) {
	errGone := errors.New("the caller is gone")
	for _, kind := range []chaos.Order{{Kind: chaos.Stall}, {Kind: chaos.Latency, Delay: 50 * time.Second}} {
		for name, c := range map[string]struct {
			end   func(*chaos.Chaos, context.CancelCauseFunc)
			want  error
			state chaos.State
		}{
			"the caller's context": {func(_ *chaos.Chaos, cancel context.CancelCauseFunc) { cancel(errGone) }, errGone, chaos.Active},
			"a stop":               {func(c *chaos.Chaos, _ context.CancelCauseFunc) { _, _ = c.Stop(0, "me", "enough") }, nil, chaos.Stopped},
			"the shutdown":         {func(c *chaos.Chaos, _ context.CancelCauseFunc) { c.Close() }, nil, chaos.Shutdown},
			"its time":             {func(*chaos.Chaos, context.CancelCauseFunc) { time.Sleep(30 * time.Second) }, nil, chaos.Expired},
		} {
			synctest.Test(t, func(t *testing.T) {
				chaotic := made(t, chaos.Options{})
				kind.Scope, kind.For = "door", 30*time.Second
				start(t, chaotic, kind)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				ended := make(chan error, 1)
				go func() { ended <- chaotic.Hit(ctx, "door") }()
				synctest.Wait()
				if len(ended) > 0 {
					t.Fatalf("%s: want it held, have %v", kind.Kind, <-ended)
				}
				c.end(chaotic, cancel)
				synctest.Wait()
				select {
				case err := <-ended:
					if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
						t.Errorf("%s, %s: want %v, have %v", kind.Kind, name, c.want, err)
					}
				default:
					t.Errorf("%s, %s: want it to end, it holds on", kind.Kind, name)
				}
				if have := chaotic.List()[0].State; have != c.state {
					t.Errorf("%s, %s: want the order %s, have %s", kind.Kind, name, c.state, have)
				}
			})
		}
	}
}

func TestOrdersAddUpOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := made(t, chaos.Options{})
		start(t, c, chaos.Order{Scope: "door", Kind: chaos.Latency, Delay: time.Second})
		start(t, c, chaos.Order{Scope: "d*r", Kind: chaos.Error})
		began := time.Now()
		if err := c.Hit(t.Context(), "door"); !errors.Is(err, chaos.ErrInjected) || time.Since(began) != time.Second {
			t.Errorf("want the error after the delay, have %v after %v", err, time.Since(began))
		}
	})
}

// A worker that is stalled hangs in its own step as real hangs do, whatever its context says, and nobody else does.
func TestAStalledWorkerHangsInItsOwnStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := made(t, chaos.Options{Points: func() []chaos.Point {
			return []chaos.Point{{Name: "worker:relay", Kinds: []chaos.Kind{chaos.Stall}}}
		}})
		start(t, c, chaos.Order{Scope: "worker:relay", Kind: chaos.Stall})
		ctx, cancel := context.WithCancel(worker.NewContext(t.Context(), worker.New("relay")))
		cancel()
		if err := c.Hit(ctx, "door"); err != nil {
			t.Errorf("want what is no step of the worker's loop spared, have %v", err)
		}
		if err := c.Step(worker.NewContext(t.Context(), worker.New("other")), "door"); err != nil {
			t.Errorf("want other workers spared, have %v", err)
		}
		began := time.Now()
		if err := c.Step(ctx, "door"); err != nil || time.Since(began) != time.Minute {
			t.Errorf("want it to hang until the order is over, have %v after %v", err, time.Since(began))
		}
	})
}

func TestAKillEndsAWorkerOnceAndIsItsError(t *testing.T) {
	var log loud
	c := made(t, chaos.Options{Log: log.log(), Points: func() []chaos.Point {
		return []chaos.Point{{Name: "worker:a", Kinds: []chaos.Kind{chaos.Kill}}, {Name: "worker:b", Kinds: []chaos.Kind{chaos.Kill}}}
	}})
	ready, ended := make(chan struct{}), make(chan error, 1)
	run := c.Worker("a", func(ctx context.Context) error {
		close(ready)
		<-ctx.Done()
		return nil // what a worker says that takes it for the shutdown
	})
	go func() { ended <- run(t.Context()) }()
	<-ready
	s := start(t, c, chaos.Order{Scope: "worker:*", Kind: chaos.Kill})
	if s.State != chaos.Done || s.Strikes != 1 || len(c.Active()) != 0 {
		t.Errorf("want it done with the one that runs, have %+v", s)
	}
	if err := <-ended; err == nil || err.Error() != "chaos: killed (order 1: test)" {
		t.Errorf("want the kill as the worker's end, have %v", err)
	}
	if !strings.Contains(log.String(), "state=done") {
		t.Errorf("want the end logged, have\n%s", &log)
	}

	errOwn := errors.New("own")
	if err := c.Worker("a", func(context.Context) error { return errOwn })(t.Context()); err != errOwn {
		t.Errorf("want a worker's own error as it is, have %v", err)
	}
	if s := start(t, c, chaos.Order{Scope: "worker:a", Kind: chaos.Kill}); s.Strikes != 0 {
		t.Errorf("want nobody left to kill, have %+v", s)
	}
}

func TestEachStrikeIsObserved(t *testing.T) {
	var seen []string
	c := made(t, chaos.Options{Observe: func(point string, kind chaos.Kind) { seen = append(seen, point+" "+string(kind)) }})
	start(t, c, chaos.Order{Scope: "*", Kind: chaos.Error})
	_, _ = c.Hit(t.Context(), "door"), c.Hit(t.Context(), "gate")
	if have := strings.Join(seen, ", "); have != "door error, gate error" {
		t.Errorf("want both strikes, have %s", have)
	}
}

func TestManyMayPassWhileOrdersComeAndGo(t *testing.T) {
	c := made(t, chaos.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				_ = c.Step(ctx, "door")
			}
		})
	}
	for i := range 200 {
		s := start(t, c, chaos.Order{Scope: "door", Kind: []chaos.Kind{chaos.Error, chaos.Stall}[i%2]})
		c.List()
		if _, err := c.Stop(s.ID, "me", ""); err != nil {
			t.Error(err)
		}
	}
	cancel()
	all.Wait()
	if n := len(c.List()); n > 50 {
		t.Errorf("want the past bounded, have %d orders", n)
	}
}

// BenchmarkHitOff is what a point costs while there is no order: inlined, and through the hooks that sockets and the queue call.
func BenchmarkHitOff(b *testing.B) {
	c, ctx := made(b, chaos.Options{}), b.Context()
	b.Run("inlined", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := c.Hit(ctx, "door"); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, hook := range map[string]func(context.Context, string) error{"Hit": c.Hit, "Step": c.Step} {
		b.Run("hook/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if err := hook(ctx, "door"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func Example() {
	c := chaos.New(chaos.Options{})
	defer c.Close()
	_ = c.Declare(chaos.Point{Name: "client.bank", Kinds: []chaos.Kind{chaos.Latency, chaos.Error}})

	pay := func(ctx context.Context) error { // what has a point
		if err := c.Hit(ctx, "client.bank"); err != nil {
			return err
		}
		return nil
	}
	fmt.Println(pay(context.Background()))

	s, err := c.Start(chaos.Order{Scope: "client.*", Kind: chaos.Error, Probability: 0.5, Seed: 1, For: 10 * time.Second, Reason: "what do customers see?"})
	fmt.Println(s.Points, err)
	for range 3 {
		fmt.Println(pay(context.Background()))
	}
	_, err = c.Start(chaos.Order{Scope: "client.bank", Kind: chaos.Drop, Probability: 1, Reason: "what is lost?"})
	fmt.Println(err)
	// Output:
	// <nil>
	// [client.bank] <nil>
	// chaos: client.bank: an injected error (order 1: what do customers see?)
	// <nil>
	// chaos: client.bank: an injected error (order 1: what do customers see?)
	// chaos: "drop" can't be done there: client.bank takes latency error
}
