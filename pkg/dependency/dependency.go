package dependency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"example.com/base-app/pkg/fault"
)

// Why a try is refused before it reaches the dependency.
var (
	ErrOpen = errors.New("its breaker is open, since too many calls failed")
	ErrBusy = errors.New("too many calls at once, and no place became free in time")
	ErrRate = errors.New("too many calls a second, and the rate allows no more in time")
)

// ErrLost is an injected failure (Options.Fault) whose try reached the dependency: the dependency may have done what it
// was asked for, and only its answer is lost. It is a timeout, since a lost answer looks like one.
var ErrLost error = &timeout{"its answer was lost"}

// State is how well a dependency works, judged by the app's own calls.
type State string

// The states.
const (
	Unknown  State = "unknown"  // not called yet
	Up       State = "up"       // the last try succeeded
	Degraded State = "degraded" // the last try failed
	Down     State = "down"     // so many tries failed that the breaker opened, and it has not closed yet
)

// Breaker is the state of a breaker.
type Breaker string

// The states of a breaker.
const (
	Closed   Breaker = "closed"    // tries pass
	Open     Breaker = "open"      // tries are refused
	HalfOpen Breaker = "half-open" // one try passes, to see whether the dependency is back
)

var breakers = [...]Breaker{gobreaker.StateClosed: Closed, gobreaker.StateHalfOpen: HalfOpen, gobreaker.StateOpen: Open}

// Health describes a dependency, for people and for /healthz. It holds no secret: LastError has no user, path or query of
// a URL, and nothing that looks like a credential.
type Health struct {
	Name        string    `json:"name"`
	State       State     `json:"state"`
	Since       time.Time `json:"since"` // when it entered that state
	Required    bool      `json:"required"`
	Breaker     Breaker   `json:"breaker"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Calls       uint64    `json:"calls"`    // all that were begun
	Tries       uint64    `json:"tries"`    // those that reached the dependency
	Failures    uint64    `json:"failures"` // tries that failed
	Refused     uint64    `json:"refused"`  // tries that did not reach the dependency
	InFlight    int       `json:"in_flight"`
}

// Dependency is one of those that an app depends on. It is made by Registry.Add; its methods may be called from any
// goroutine.
type Dependency struct {
	name     string
	policy   Policy
	log      *slog.Logger
	observer Observer
	fault    func(ctx context.Context, point string) error // nil: none

	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	places  chan struct{} // holds one value for each try in flight
	rate    *rate.Limiter // nil: no limit

	refusedOpen, refusedBusy, refusedRate error // made once: a refusal costs nothing
	late, over                            error // no answer within Attempt, not done within Total

	calls, tries, failures, refused atomic.Uint64

	mu      sync.Mutex
	state   State
	since   time.Time
	last    string
	lastAt  time.Time
	current Breaker  // the state after the breaker's last change
	changes []change // those that are not logged yet
	logging bool     // a goroutine logs them
	pending atomic.Bool
}

// change is a change of the breaker's state.
type change struct {
	from, to Breaker
	last     string        // error
	down     time.Duration // how long the dependency was down; only when the breaker closes
}

// maxChanges bounds the changes that are not logged yet, for when the log blocks. The oldest are dropped.
const maxChanges = 16

// The breaker's result of a try; nil is a success.
var (
	errFailure   = errors.New("failure")
	errNoVerdict = errors.New("no verdict")
)

func newDependency(name string, p Policy, o Options) *Dependency {
	d := &Dependency{name: name, policy: p, log: o.Log, observer: o.Observer, fault: o.Fault,
		places:      make(chan struct{}, p.Concurrent),
		refusedOpen: fault.Dependency(name, ErrOpen), refusedBusy: fault.Dependency(name, ErrBusy),
		refusedRate: fault.Dependency(name, ErrRate),
		late:        &timeout{fmt.Sprintf("no answer within %v", p.Attempt)},
		over:        &timeout{fmt.Sprintf("not done within %v", p.Total)},
		state:       Unknown, since: time.Now(), current: Closed}
	if p.Rate > 0 {
		d.rate = rate.NewLimiter(rate.Limit(p.Rate), p.Burst)
	}
	d.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: p.Cooldown,
		Interval: p.window(), BucketPeriod: p.window() / windowSlices,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			all := c.TotalSuccesses + c.TotalFailures
			return int(c.ConsecutiveFailures) >= p.Failures ||
				all >= enoughCalls && float64(c.TotalFailures) >= halfBroken*float64(all)
		},
		OnStateChange: d.changed,
		IsExcluded:    func(err error) bool { return err == errNoVerdict },
	})
	return d
}

// Name returns the name.
func (d *Dependency) Name() string { return d.name }

// Policy returns the policy with all defaults filled in.
func (d *Dependency) Policy() Policy { return d.policy }

// Health returns how well the dependency works. It does not block.
func (d *Dependency) Health() Health {
	d.isOpen() // an open breaker whose time is over shows as half-open
	d.mu.Lock()
	defer d.mu.Unlock()
	return Health{Name: d.name, State: d.state, Since: d.since, Required: d.policy.Required, Breaker: d.current,
		LastError: d.last, LastErrorAt: d.lastAt, InFlight: len(d.places),
		Calls: d.calls.Load(), Tries: d.tries.Load(), Failures: d.failures.Load(), Refused: d.refused.Load()}
}

func (d *Dependency) isOpen() bool {
	open := d.breaker.State() == gobreaker.StateOpen
	d.logChanges()
	return open
}

// enter lets one try in, or refuses it. Within the Wait of its policy it waits for a place and for the rate.
func (d *Dependency) enter(ctx context.Context) (verdict func(error), err error) {
	if d.isOpen() {
		return nil, d.refuse(ctx, ErrOpen)
	}
	began := time.Now()
	if err := d.acquirePlace(ctx); err != nil {
		return nil, err
	}
	if err := d.keepRate(ctx, d.policy.Wait-time.Since(began)); err != nil {
		<-d.places
		return nil, err
	}
	verdict, err = d.breaker.Allow()
	d.logChanges()
	if err != nil {
		<-d.places
		return nil, d.refuse(ctx, ErrOpen)
	}
	return verdict, nil
}

func (d *Dependency) acquirePlace(ctx context.Context) error {
	select {
	case d.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(d.policy.Wait)
	defer timer.Stop()
	select {
	case d.places <- struct{}{}:
		return nil
	case <-timer.C:
		return d.refuse(ctx, ErrBusy)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *Dependency) keepRate(ctx context.Context, patience time.Duration) error {
	if d.rate == nil {
		return nil
	}
	r := d.rate.Reserve()
	wait := r.Delay()
	if wait == 0 {
		return nil
	}
	if wait > patience {
		r.Cancel()
		return d.refuse(ctx, ErrRate)
	}
	if err := sleep(ctx, wait); err != nil {
		r.Cancel()
		return err
	}
	return nil
}

func (d *Dependency) refuse(ctx context.Context, why error) error {
	d.refused.Add(1)
	if d.observer != nil {
		d.observer.Try(ctx, d.name, 0, why)
	}
	switch why {
	case ErrOpen:
		return d.refusedOpen
	case ErrBusy:
		return d.refusedBusy
	}
	return d.refusedRate
}

// finished sets the state after a try, nil if it succeeded. While the breaker is open or half-open, only the breaker
// changes the state.
func (d *Dependency) finished(failure error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state := Up
	if failure != nil {
		state = Degraded
		d.last, d.lastAt = scrub(failure), time.Now()
	}
	if d.current == Closed {
		d.become(state)
	}
}

// become sets the state. The lock is held.
func (d *Dependency) become(s State) {
	if d.state != s {
		d.state, d.since = s, time.Now()
	}
}

// changed is called by the breaker, under the breaker's own lock: it must not log or call the observer.
func (d *Dependency) changed(_ string, _, to gobreaker.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := change{from: d.current, to: breakers[to], last: d.last, down: time.Since(d.since)}
	d.current = c.to
	if c.to == Closed {
		d.become(Up)
	} else {
		d.become(Down)
	}
	if len(d.changes) == maxChanges {
		d.changes = d.changes[1:]
	}
	d.changes = append(d.changes, c)
	d.pending.Store(true)
}

// logChanges logs the breaker's changes and passes them to the observer, in order. One goroutine at a time does so, and
// without a lock: if the log blocks, only that goroutine waits.
func (d *Dependency) logChanges() {
	if !d.pending.Load() {
		return
	}
	for {
		c, ok := d.nextChange()
		if !ok {
			return
		}
		d.logChange(c)
		d.mu.Lock()
		d.logging = false
		d.mu.Unlock()
	}
}

func (d *Dependency) nextChange() (c change, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.logging {
		return c, false
	}
	if len(d.changes) == 0 {
		d.pending.Store(false)
		return c, false
	}
	c, d.changes = d.changes[0], d.changes[1:]
	d.logging = true
	return c, true
}

func (d *Dependency) logChange(c change) {
	switch {
	case c.from == Closed:
		d.log.Warn("a dependency is down, its breaker opens", "dependency", d.name, "error", c.last)
	case c.to == Closed:
		d.log.Info("a dependency is back, its breaker closes", "dependency", d.name, "down", c.down.Round(time.Millisecond).String())
	default: // at debug: after each Cooldown the breaker lets a try pass, which would be too many lines
		d.log.Debug("breaker", "dependency", d.name, "state", c.to, "error", c.last)
	}
	if d.observer != nil {
		d.observer.Breaker(d.name, c.to)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
