// Package dependency is what an app knows of those it depends on: a database, a partner's interface, a mail server. Each
// has a name, a policy that every call to it obeys, and a health that /healthz shows.
//
// A call is one or more tries. Each try passes these gates; who is not let through gets an error at once or after a
// bounded wait, and the call after a pause another try, if that does no harm:
//
//	        ┌───────────────── pause: exponential, full jitter ◄────────────────┐
//	        ▼                                                                   │ failed, and safe to repeat
//	call ─► breaker ─► place ─► rate ─► try ───────────────────────────────────►┤
//	        │          │        │       └ Policy.Attempt                        └► answer, or a dependency's error
//	        │          │        └ so many a second, on average
//	        │          └ so many at once
//	        └ open: refused without a wait
//
// All of it together takes no longer than Policy.Total, and every wait ends with the caller's context. What is given
// up is a fault of kind dependency that carries the name: a warning, no noise, and exit code 69 if it ends the app.
//
// The package never starts a call, and no goroutine: what it knows of a dependency's health it learnt from the
// app's own calls. HTTP calls go through web.Client, which applies the same policy; others through Dependency.Do.
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

// MaxDependencies bounds a Registry. An app calls a handful; whoever adds one for each request or customer, which
// would grow without end, is told so.
const MaxDependencies = 64

// maxName bounds a name, which stands in each metric and log line of its dependency.
const maxName = 64

// Observer hears what happens, to count and to measure it. Its methods must not block, and are called from any
// goroutine.
type Observer interface {
	// Try is told of each try that has ended and of each refusal. For a refusal, took is zero and err is ErrOpen,
	// ErrBusy or ErrRate; err is nil when the dependency did its part, and context.Canceled when the caller gave up.
	Try(ctx context.Context, name string, took time.Duration, err error)
	// Breaker is told of each change of a breaker's state, in order.
	Breaker(name string, state Breaker)
}

// Options are a Registry's.
type Options struct {
	Log      *slog.Logger // hears when a breaker opens and closes; nil: silent
	Observer Observer     // nil: nobody
	// Fault is asked before each try, with "client." and the dependency's name: its error takes the answer's place, and the
	// dependency is not called. With ErrLost in the error's tree it is, and what it answers is thrown away. It is for fault
	// injection (pkg/chaos); nil: none.
	Fault func(ctx context.Context, point string) error
}

// Registry knows all dependencies of an app. Its methods may be called from any goroutine.
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

// Add registers the dependency called name, of 1 to 64 lower-case letters, digits, '.', '_' and '-'. The errors are
// mistakes in the program: a bad name, one that is taken, a policy with negative values, more than MaxDependencies.
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

// Err tells which of the dependencies that are Required are down, nil if none is: the readiness. It ends with the
// Cooldown, since somebody has to call to find out whether a dependency is back. Liveness must not ask it: a restart
// mends no dependency.
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
