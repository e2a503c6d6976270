package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
)

// ownPrefix begins the types of the template's own events, which no app's handler sees.
const ownPrefix = "base."

// route is a handler and how it is called.
type route struct {
	handle   Handler
	timeout  time.Duration
	parallel int
	tries    int
	pauses   pauses
	own      bool  // whether it has workers of its own
	pool     *pool // the workers that call it
}

// pool is a group of workers that handle events.
type pool struct {
	name    string
	size    int
	timeout time.Duration
	next    chan event.Event
}

// table knows the handler of each type. It doesn't change once Run has begun.
type table struct {
	defaults route
	types    map[string]*route
	other    *route // for types without a handler of their own; nil: there is none
}

func (t *table) route(h Handler, opts []Option) (*route, error) {
	r := t.defaults
	if r.handle = h; h == nil {
		return nil, errNilHandler
	}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("an option is nil")
		}
		if err := o(&r); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

func (t *table) add(eventType string, h Handler, opts ...Option) error {
	r, err := t.route(h, opts)
	if err != nil {
		return fmt.Errorf("the type %q: %w", eventType, err)
	}
	if t.types[eventType] != nil {
		return fmt.Errorf("the type %q has a handler already", eventType)
	}
	t.types[eventType] = r
	return nil
}

func (t *table) addOther(h Handler, opts ...Option) error {
	r, err := t.route(h, opts)
	if err != nil {
		return fmt.Errorf("HandleAll: %w", err)
	}
	if t.other != nil {
		return fmt.Errorf("HandleAll was called twice")
	}
	t.other = r
	return nil
}

// find returns the route of a type, nil if nobody handles it.
func (t *table) find(eventType string) *route {
	if r := t.types[eventType]; r != nil {
		return r
	}
	if strings.HasPrefix(eventType, ownPrefix) {
		return nil
	}
	return t.other
}

// accepts returns whether somebody outside of this package may publish events of a type.
func (t *table) accepts(eventType string) bool {
	return t.find(eventType) != nil && !strings.HasPrefix(eventType, ownPrefix)
}

// maxNamed bounds how many types an error names.
const maxNamed = 20

// unknown is the error of a type that nobody handles.
func (t *table) unknown(eventType string) error {
	names := make([]string, 0, len(t.types))
	for _, name := range t.names() {
		names = append(names, fmt.Sprintf("%q", name))
	}
	known := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if len(names) > maxNamed {
		known += ", …"
	}
	return fault.Permanent(fmt.Errorf("no handler takes events of the type %q; those of %s are taken", eventType, known))
}

// names returns the types that the app has handlers for, sorted.
func (t *table) names() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(t.types)), func(name string) bool { return strings.HasPrefix(name, ownPrefix) })
}

func (t *table) empty() bool { return t.other == nil && len(t.names()) == 0 }

// all returns the routes in the order of their types, the rest last.
func (t *table) all() []*route {
	var list []*route
	for _, name := range slices.Sorted(maps.Keys(t.types)) {
		list = append(list, t.types[name])
	}
	if t.other != nil {
		list = append(list, t.other)
	}
	return list
}

// wrap puts the middleware around the app's handlers.
func (t *table) wrap(middleware []func(Handler) Handler) error {
	for name, r := range t.types {
		if strings.HasPrefix(name, ownPrefix) {
			continue
		}
		if err := r.wrap(middleware); err != nil {
			return err
		}
	}
	if t.other != nil {
		return t.other.wrap(middleware)
	}
	return nil
}

func (r *route) wrap(middleware []func(Handler) Handler) error {
	for i, m := range slices.Backward(middleware) {
		if r.handle = m(r.handle); r.handle == nil {
			return fmt.Errorf("middleware %d returns nil instead of a handler", i+1)
		}
	}
	return nil
}

// mostTries is how often an event is tried at most, whatever its type.
func (t *table) mostTries() int {
	most := t.defaults.tries
	for _, r := range t.all() {
		most = max(most, r.tries)
	}
	return most
}

// pools groups the handlers: one pool for all that share WORKERS, and one for each that has workers of its own.
func (t *table) pools() []*pool {
	shared := &pool{name: "handler", size: t.defaults.parallel, timeout: t.defaults.timeout}
	list := []*pool{shared}
	for name, r := range t.types {
		r.pool = shared
		if r.own {
			r.pool = &pool{name: "handler-" + workerName(name), size: r.parallel, timeout: r.timeout}
			list = append(list, r.pool)
		}
	}
	if r := t.other; r != nil {
		r.pool = shared
		if r.own {
			r.pool = &pool{name: "handler-other", size: r.parallel, timeout: r.timeout}
			list = append(list, r.pool)
		}
	}
	// With one pool an event waits in the socket, where it is seen. With more, those of one must not wait for another's: each
	// has room for all that are on their way.
	room := 0
	if len(list) > 1 {
		room = inFlight(list)
	}
	for _, p := range list {
		p.next = make(chan event.Event, room)
	}
	return list
}

// inFlight is how many events are on their way at most.
func inFlight(list []*pool) (n int) {
	for _, p := range list {
		n += perWorker * p.size
	}
	return n
}

// checkPools returns an error if the workers of two handlers would have the same names.
func (t *table) checkPools() error {
	types := map[string]string{}
	for name, r := range t.types {
		if !r.own {
			continue
		}
		worker := workerName(name)
		if other, taken := types[worker]; taken {
			first, second := min(name, other), max(name, other)
			return fmt.Errorf("the types %q and %q would have workers of the same name, handler-%s-1: rename one of them", first, second, worker)
		}
		types[worker] = name
	}
	if name, taken := types["other"]; taken && t.other != nil && t.other.own {
		return fmt.Errorf("the type %q and HandleAll would have workers of the same name, handler-other-1: rename it", name)
	}
	return nil
}

// workerName makes a type a part of a worker's name, which has no spaces and is not empty.
func workerName(eventType string) string {
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r == '"' {
			return '_'
		}
		return r
	}, eventType)
	if name == "" {
		return "untyped"
	}
	return name
}
