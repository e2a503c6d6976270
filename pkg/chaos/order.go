package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
)

const (
	// DefaultFor is long enough to see what happens, and short enough for an order that was forgotten.
	DefaultFor = time.Minute
	// MaxFor is longer than anybody watches a drill; for more, give the order again.
	MaxFor = time.Hour
	// maxOrders bounds how many are active: more than one or two are already hard to follow.
	maxOrders = 16
	// maxPast is how many orders that are over are still listed: those of one drill.
	maxPast = 32
	// maxReason is the length of a sentence; each error that the order makes contains the reason.
	maxReason = 200
)

// Order is a request for faults: which, where, how often, for how long and why.
type Order struct {
	Scope       string        `json:"scope"` // a point's name; * stands for any characters
	Kind        Kind          `json:"kind"`
	Probability float64       `json:"probability"`      // that a passage is struck: above 0, at most 1
	Delay       time.Duration `json:"delay,omitzero"`   // of Latency, in nanoseconds
	Jitter      time.Duration `json:"jitter,omitzero"`  // of Latency: a random time from 0 to this is added
	For         time.Duration `json:"for"`              // how long it is active, at most MaxFor; 0: DefaultFor
	Seed        uint64        `json:"seed"`             // the same seed strikes the same passages; 0: a new one
	Reason      string        `json:"reason"`           // required
	Force       bool          `json:"forced,omitempty"` // accept it although it does harm
	By          string        `json:"by,omitempty"`     // who gave it
}

// State is whether an order is active, or how it ended.
type State string

// The states.
const (
	Active   State = "active"
	Done     State = "done"    // a Kill: it strikes once
	Expired  State = "expired" // its time is over
	Stopped  State = "stopped"
	Shutdown State = "shutdown" // the process ends
)

// Status is an order with its state and counts.
type Status struct {
	ID int `json:"id"`
	Order
	Points  []string  `json:"points"` // those that it strikes
	State   State     `json:"state"`
	Began   time.Time `json:"began"`
	Until   time.Time `json:"until"`  // when it expires, or when it ended
	Passed  uint64    `json:"passed"` // how often a call passed one of its points
	Strikes uint64    `json:"strikes"`
}

// ErrClosing is returned by Start once Close was called.
var ErrClosing = fault.New(fault.KindStopped, "chaos: shutting down")

// order is an active order.
type order struct {
	Order
	id     int
	names  []string // the points
	where  map[string]bool
	began  time.Time
	over   chan struct{}
	expire *time.Timer

	mu      sync.Mutex
	rand    *rand.Rand
	passed  uint64
	strikes uint64
}

// draw decides whether one passage is struck, and for Latency how long it takes. The seed fixes the sequence of decisions.
func (o *order) draw() (delay time.Duration, struck bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passed++
	if o.rand.Float64() >= o.Probability {
		return 0, false
	}
	o.strikes++
	delay = o.Delay
	if o.Jitter > 0 {
		delay += time.Duration(o.rand.Int64N(int64(o.Jitter) + 1))
	}
	return delay, true
}

func (o *order) status(s State, until time.Time) Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Status{ID: o.id, Order: o.Order, Points: o.names, State: s, Began: o.began, Until: until,
		Passed: o.passed, Strikes: o.strikes}
}

// Start activates an order and returns it with its id and all defaults. It doesn't block. A wrong order, and one that
// would do harm and isn't forced, is an error of fault.KindUsage with a hint; see Point for what counts as harm. A
// refusal is logged, too.
func (c *Chaos) Start(o Order) (Status, error) {
	o, err := o.filled()
	var where []Point
	if err == nil {
		where, err = c.choose(o)
	}
	if unhealthy := c.o.Healthy(); err == nil && unhealthy != nil && !o.Force {
		err = refusal(forceHint, "the app is not well: %w", unhealthy)
	}
	var s Status
	if err == nil {
		s, err = c.begin(o, where)
	}
	if err != nil {
		c.o.Log.Warn("chaos refused", "scope", o.Scope, "kind", string(o.Kind), "by", o.By, "reason", o.Reason, "error", err)
		return Status{}, err
	}
	c.o.Log.Warn("chaos started", "order", s.ID, "scope", s.Scope, "kind", string(s.Kind),
		"points", strings.Join(s.Points, " "), "probability", s.Probability,
		"delay", s.Delay.String(), "jitter", s.Jitter.String(), "for", s.For.String(), "seed", s.Seed,
		"forced", s.Force, "by", s.By, "reason", s.Reason)
	if o.Kind == Kill {
		return c.kill(s.ID), nil
	}
	return s, nil
}

// begin makes the order active.
func (c *Chaos) begin(given Order, where []Point) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.closed:
		return Status{}, ErrClosing
	case len(c.orders) >= maxOrders:
		return Status{}, refusal("stop some", "there are %d orders already", len(c.orders))
	}
	if err := c.harm(given, where, now); err != nil && !given.Force {
		return Status{}, err
	}
	c.count++
	o := &order{Order: given, id: c.count, where: map[string]bool{}, began: now, over: make(chan struct{}),
		rand: rand.New(rand.NewPCG(given.Seed, 0))}
	for _, p := range where {
		o.names, o.where[p.Name] = append(o.names, p.Name), true
	}
	o.expire = time.AfterFunc(o.For, func() { c.end(o.id, Expired, "", "") })
	c.orders = append(slices.Clone(c.orders), o)
	c.publish()
	return o.status(Active, now.Add(o.For)), nil
}

// publish makes the active orders visible to the points. The lock is held.
func (c *Chaos) publish() {
	c.active.Store(nil)
	if len(c.orders) > 0 {
		orders := c.orders
		c.active.Store(&orders)
	}
}

// kill ends the context of each of the order's workers once, and then the order.
func (c *Chaos) kill(id int) Status {
	c.mu.Lock()
	if i := c.find(id); i >= 0 {
		o := c.orders[i]
		for _, name := range o.names {
			victim := c.workers[strings.TrimPrefix(name, WorkerPoint(""))]
			if victim == nil {
				continue // it is being restarted
			}
			if _, struck := o.draw(); struck {
				c.o.Observe(name, Kill)
				victim.kill(&death{o.id, o.Reason})
			}
		}
	}
	c.mu.Unlock()
	s, _ := c.end(id, Done, "", "")
	return s
}

func (c *Chaos) find(id int) int {
	return slices.IndexFunc(c.orders, func(o *order) bool { return o.id == id })
}

// Stop ends the active order id, or all if id is 0, and returns them. Calls that they hold go on at once. An id that is
// not active is an error of fault.KindUsage.
func (c *Chaos) Stop(id int, by, reason string) ([]Status, error) {
	c.mu.Lock()
	var ids []int
	for _, o := range c.orders {
		if id == 0 || o.id == id {
			ids = append(ids, o.id)
		}
	}
	c.mu.Unlock()
	if id != 0 && len(ids) == 0 {
		return nil, refusal("app ctl chaos list shows them", "no order %d is active", id)
	}
	list := []Status{}
	for _, id := range ids {
		if s, ok := c.end(id, Stopped, by, reason); ok {
			list = append(list, s)
		}
	}
	return list, nil
}

// Close ends all orders; later ones are refused. It frees the calls that are held before it does anything that can
// block. A second call waits for the first.
func (c *Chaos) Close() {
	c.closing.Do(func() {
		c.mu.Lock()
		c.closed = true
		orders := c.orders
		ended := make([]Status, 0, len(orders))
		for _, o := range orders {
			ended = append(ended, c.drop(o, Shutdown))
		}
		c.mu.Unlock()
		for _, s := range ended {
			c.logEnd(s, "", "")
		}
	})
}

// end ends an active order and logs that. ok is false if the order was over already.
func (c *Chaos) end(id int, state State, by, reason string) (s Status, ok bool) {
	c.mu.Lock()
	i := c.find(id)
	if i < 0 {
		c.mu.Unlock()
		return Status{}, false
	}
	s = c.drop(c.orders[i], state)
	c.mu.Unlock()
	c.logEnd(s, by, reason)
	return s, true
}

// drop moves an order from the active ones to the past ones. The lock is held.
func (c *Chaos) drop(o *order, state State) Status {
	o.expire.Stop()
	c.orders = slices.DeleteFunc(slices.Clone(c.orders), func(other *order) bool { return other == o })
	c.publish()
	close(o.over)
	s := o.status(state, time.Now())
	c.past = append(c.past, s)
	c.past = c.past[max(0, len(c.past)-maxPast):]
	return s
}

// logEnd logs the end of an order; by and why are of whoever stopped it, empty if nobody did.
func (c *Chaos) logEnd(s Status, by, why string) {
	attrs := []any{"order", s.ID, "scope", s.Scope, "kind", string(s.Kind), "state", string(s.State),
		"after", s.Until.Sub(s.Began).Round(time.Millisecond).String(),
		"passed", s.Passed, "strikes", s.Strikes, "ordered_by", s.By, "reason", s.Reason}
	if by != "" {
		attrs = append(attrs, "by", by)
	}
	if why != "" {
		attrs = append(attrs, "why", why)
	}
	c.o.Log.WarnContext(context.Background(), "chaos is over", attrs...)
}

// List returns the last orders that are over, and then the active ones, both oldest first.
func (c *Chaos) List() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(slices.Clone(c.past), c.activeLocked()...)
}

// Active returns the orders that are active, oldest first.
func (c *Chaos) Active() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.activeLocked()
}

func (c *Chaos) activeLocked() []Status {
	list := make([]Status, 0, len(c.orders))
	for _, o := range c.orders {
		list = append(list, o.status(Active, o.began.Add(o.For)))
	}
	return list
}

// filled returns the order with its defaults. The error says what is wrong with it.
func (o Order) filled() (Order, error) {
	o.Reason = strings.TrimSpace(o.Reason)
	if o.For == 0 {
		o.For = DefaultFor
	}
	for o.Seed == 0 {
		o.Seed = uint64(rand.Uint32()) // short enough to be typed, and exact in any JSON
	}
	var err error
	switch {
	case o.Reason == "":
		err = errors.New("the reason is missing: say why, it stands in the log")
	case len(o.Reason) > maxReason:
		err = fmt.Errorf("the reason has %d bytes, at most %d", len(o.Reason), maxReason)
	case !(o.Probability > 0 && o.Probability <= 1):
		err = fmt.Errorf("the probability is %v, and over 0 to 1", o.Probability)
	case o.For < 0 || o.For > MaxFor:
		err = fmt.Errorf("it would last %v, and at most %v", o.For, MaxFor)
	case o.Kind == Latency && o.Delay <= 0 && o.Jitter <= 0:
		err = errors.New("latency needs a delay")
	case o.Kind != Latency && (o.Delay != 0 || o.Jitter != 0):
		err = fmt.Errorf("%s has no delay: only latency has", o.Kind)
	case o.Delay < 0 || o.Jitter < 0 || o.Delay > MaxFor || o.Jitter > MaxFor:
		err = fmt.Errorf("the delay and its jitter are 0 to %v each", MaxFor)
	}
	if err != nil {
		return o, refusal("app ctl chaos start --help", "%w", err)
	}
	return o, nil
}

func refusal(hint, format string, args ...any) error {
	return &fault.Error{Kind: fault.KindUsage, Op: "chaos", Hint: hint, Err: fmt.Errorf(format, args...)}
}
