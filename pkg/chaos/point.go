package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// MaxShare is the share of calls that may fail at a vital point: one in ten still gets through, and shows that the app
	// is alive.
	MaxShare = 0.9
	// maxPoints bounds the declared points: an app has a few dozen. A program that declares one for each request gets an
	// error.
	maxPoints = 1024
	// forceHint is the hint of a refusal because of harm.
	forceHint = "if that is meant, say --force"
)

// Point is a place in the code where orders strike, and what counts as harm there. An order that does harm is refused
// unless it is forced.
type Point struct {
	Name  string `json:"name"`
	Kinds []Kind `json:"kinds"` // those that it accepts

	// Vital: all work passes here. Harm is any stall, and if all orders together let more than nine in ten calls fail.
	Vital bool `json:"vital,omitempty"`
	// Fatal: an Error, Panic or Kill here ends the process; that is harm.
	Fatal bool `json:"fatal,omitempty"`
	// Patience: a call that is held here for so long ends the process, or fails at least; that is harm. 0: no limit.
	Patience time.Duration `json:"patience,omitzero"`
}

// Declare adds a point. It is called when the app starts; a second point of the same name replaces the first. An error
// is a mistake in the program: a name that is empty or has a *, no kind, more than a thousand points.
func (c *Chaos) Declare(p Point) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.Name == "" || strings.Contains(p.Name, "*"):
		return fmt.Errorf("chaos: declare %q: not a name for a point", p.Name)
	case len(p.Kinds) == 0:
		return fmt.Errorf("chaos: declare %s: it takes no kind", p.Name)
	case len(c.declared) >= maxPoints:
		return fmt.Errorf("chaos: declare %s: there are %d already; is one declared for each request?", p.Name, len(c.declared))
	}
	c.declared[p.Name] = p
	return nil
}

// Points returns all points that there are now, sorted by name.
func (c *Chaos) Points() []Point {
	list := c.o.Points()
	c.mu.Lock()
	for _, p := range c.declared {
		list = append(list, p)
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b Point) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(list, func(a, b Point) bool { return a.Name == b.Name })
}

// choose returns the points that the order strikes: those of its scope that take its kind.
func (c *Chaos) choose(o Order) ([]Point, error) {
	var where []Point
	var others []string
	for _, p := range c.Points() {
		switch {
		case !match(o.Scope, p.Name):
		case slices.Contains(p.Kinds, o.Kind):
			where = append(where, p)
		default:
			others = append(others, fmt.Sprintf("%s takes %s", p.Name, joined(p.Kinds)))
		}
	}
	switch {
	case len(where) > 0:
		return where, nil
	case len(others) > 0:
		const most = 3 // enough to see what is meant
		return nil, refusal("app ctl chaos points shows which takes what", "%q can't be done there: %s",
			o.Kind, strings.Join(others[:min(most, len(others))], "; "))
	}
	return nil, refusal("app ctl chaos points shows all", "no point is called %q", o.Scope)
}

func joined(kinds []Kind) string {
	texts := make([]string, len(kinds))
	for i, k := range kinds {
		texts[i] = string(k)
	}
	return strings.Join(texts, " ")
}

// harm returns an error that says which harm an order would do, nil if none. The lock is held.
func (c *Chaos) harm(o Order, where []Point, now time.Time) error {
	var list []error
	for _, p := range where {
		if err := c.harmAt(o, p, now); err != nil {
			list = append(list, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	if len(list) == 0 {
		return nil
	}
	const most = 3
	if more := len(list) - most; more > 0 {
		list = append(list[:most], fmt.Errorf("%d more", more))
	}
	return refusal(forceHint, "refused: %s", strings.ReplaceAll(errors.Join(list...).Error(), "\n", "; "))
}

func (c *Chaos) harmAt(o Order, p Point, now time.Time) error {
	held := c.held(o, p.Name, now)
	switch {
	case p.Fatal && (o.Kind == Error || o.Kind == Panic || o.Kind == Kill):
		return errors.New("this would end the process")
	case p.Patience > 0 && holds(o.Kind) && held >= p.Patience:
		return fmt.Errorf("it would be held for %v, and %v is too long there", held.Round(time.Millisecond), p.Patience)
	case p.Vital && o.Kind == Stall:
		return errors.New("whatever comes there would hang, and all that is behind it")
	case p.Vital && fails(o.Kind):
		if share := 1 - c.spared(p.Name)*(1-o.Probability); share > MaxShare {
			return fmt.Errorf("all work passes there, and %.0f %% of it would fail; at most %.0f %% may", 100*share, 100*MaxShare)
		}
	}
	return nil
}

func fails(k Kind) bool { return k == Error || k == Drop || k == Panic }

// spared returns the share of calls at a point that no active order lets fail.
func (c *Chaos) spared(name string) float64 {
	share := 1.0
	for _, o := range c.orders {
		if o.where[name] && (fails(o.Kind) || o.Kind == Stall) {
			share *= 1 - o.Probability
		}
	}
	return share
}

func holds(k Kind) bool { return k == Latency || k == Stall }

// held returns how long all orders and the new one together could hold a call at a point: the sum of the delays, and the
// time from the first stall's begin to the last one's end.
func (c *Chaos) held(given Order, name string, now time.Time) (d time.Duration) {
	var from, until time.Time // of the stalls
	add := func(o Order, began time.Time) {
		switch end := began.Add(o.For); {
		case o.Kind == Latency:
			d += o.Delay + o.Jitter
		case o.Kind != Stall:
		case from.IsZero():
			from, until = began, end
		case end.After(until):
			until = end
		}
	}
	for _, o := range c.orders { // oldest first
		if o.where[name] {
			add(o.Order, o.began)
		}
	}
	add(given, now)
	return d + until.Sub(from)
}

// match returns whether a name fits a pattern, in which * stands for any characters, or none. A / is an ordinary one.
func match(pattern, name string) bool {
	head, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, head)
	if !ok {
		return false
	}
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part) // the first place leaves the most for the rest of the pattern
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], next
	}
}
