// Package dependency applies a policy to the calls of other services, and keeps their health: a database, a partner's
// interface, a mail server. Each dependency has a name, a policy that every call to it obeys, and a health that /healthz
// shows.
//
// A call is one or more tries. Each try passes these gates. A try that is refused at one gets an error, at once or after
// a bounded wait. A failed try is followed by a pause and another try, if that does no harm:
//
//	        ┌───────────────── pause: exponential, full jitter ◄────────────────┐
//	        ▼                                                                   │ failed, and safe to repeat
//	call ─► breaker ─► place ─► rate ─► try ───────────────────────────────────►┤
//	        │          │        │       └ Policy.Attempt                        └► answer, or a dependency's error
//	        │          │        └ so many a second, on average
//	        │          └ so many at once
//	        └ open: refused without a wait
//
// A call takes no longer than Policy.Total, and every wait ends with the caller's context. The error of a failed call is
// of kind dependency and carries the name: it is logged as a warning, is not reported, and gives exit code 69 if it ends
// the app.
//
// The package starts no call and no goroutine of its own: it judges a dependency's health by the app's calls. HTTP calls
// go through web.Client, which applies the same policy; others through Dependency.Do.
package dependency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
)

// MaxDependencies bounds a Registry. An app calls a handful. A program that adds one for each request or customer, which
// would grow without end, gets an error.
const MaxDependencies = 64

// maxName bounds a name, which is part of each metric and log line of its dependency.
const maxName = 64

// Observer is called for metrics. Its methods must not block, and are called from any goroutine.
type Observer interface {
	// Try is called for each try that has ended and for each refusal. For a refusal, took is zero and err is ErrOpen,
	// ErrBusy or ErrRate. Err is nil if the dependency did its part, and context.Canceled if the caller gave up.
	Try(ctx context.Context, name string, took time.Duration, err error)
	// Breaker is called for each change of a breaker's state, in order.
	Breaker(name string, state Breaker)
}

// Options configure a Registry. The zero value works.
type Options struct {
	Log      *slog.Logger // for lines when a breaker opens and closes; nil: silent
	Observer Observer     // nil: none
	// Fault injects faults (pkg/chaos); nil: none. It is called before each try, with "client." and the dependency's name.
	// If it returns an error, that takes the answer's place and the dependency is not called. But if the error wraps
	// ErrLost, the dependency is called and its answer is dropped.
	Fault func(ctx context.Context, point string) error
}

// Registry holds all dependencies of an app. Its methods may be called from any goroutine.
type Registry struct {
	o Options

	mu   sync.Mutex
	list []*Dependency
}

// New returns an empty Registry.
func New(o Options) *Registry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{o: o}
}

// Add registers the dependency called name, of 1 to 64 lower-case letters, digits, '.', '_' and '-'. An error is a
// mistake in the program: a bad name, a name that is in use, a policy with negative values, more than MaxDependencies.
func (r *Registry) Add(name string, p Policy) (*Dependency, error) {
	p, err := p.filled()
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		return nil, fmt.Errorf("dependency %q: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.list {
		if d.name == name {
			return nil, fmt.Errorf("dependency %q: the name is taken; one dependency is shared by all who call it", name)
		}
	}
	if len(r.list) >= MaxDependencies {
		return nil, fmt.Errorf("dependency %q: there are %d already; is a name made for each request?", name, len(r.list))
	}
	d := newDependency(name, p, r.o)
	r.list = append(r.list, d)
	return d, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("a name has 1 to %d characters, this one has %d", maxName, len(name))
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return errors.New("a name has only lower-case letters, digits, '.', '_' and '-'")
		}
	}
	return nil
}

// List returns the health of all dependencies, in the order in which they were added.
func (r *Registry) List() []Health {
	list := make([]Health, 0, MaxDependencies)
	for _, d := range r.all() {
		list = append(list, d.Health())
	}
	return list
}

// Err returns an error that names the Required dependencies that are down, nil if none is. It is for readiness. After
// the Cooldown a dependency no longer counts as down, since only a call can find out whether it is back. Liveness must
// not use Err: a restart mends no dependency.
func (r *Registry) Err() error {
	var list []error
	for _, d := range r.all() {
		if !d.policy.Required {
			continue
		}
		if h := d.Health(); h.Breaker == Open {
			list = append(list, fault.Dependency(h.Name, errors.New("down since "+h.Since.UTC().Format(time.RFC3339)+": "+h.LastError)))
		}
	}
	return errors.Join(list...)
}

func (r *Registry) all() []*Dependency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[:len(r.list):len(r.list)]
}
