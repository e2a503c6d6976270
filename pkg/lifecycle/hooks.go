package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
)

// hook is one thing to do at shutdown.
type hook struct {
	name    string
	budget  time.Duration
	fn      func(context.Context) error
	started time.Time // zero: not yet
	ended   bool
}

// OnStop registers fn to be called while shutting down, after the body has returned, and after every hook that is
// registered later. Its context ends with the budget. If a hook takes longer, that is logged and the next hook starts;
// the process still waits for it, until the end is forced.
func (l *Life) OnStop(name string, budget time.Duration, fn func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = append(l.hooks, &hook{name: name, budget: budget, fn: fn})
}

// runHooks calls the hooks, last first, and returns when all have returned.
func (l *Life) runHooks() {
	var late []<-chan struct{}
	for {
		h := l.nextHook()
		if h == nil {
			break
		}
		done := make(chan struct{})
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), h.budget)
		go func() {
			defer cancel() // runs after close(done): until then only the budget can end the context
			defer close(done)
			err := errGoexit
			defer func() { l.endHook(h, err) }()
			stack.Labelled(ctx, hookLabel(h.name), func(ctx context.Context) {
				err = fault.Recover("hook "+h.name, func() error { return h.fn(ctx) })
			})
		}()
		select {
		case <-done:
		case <-ctx.Done():
			select {
			case <-done: // it ended together with its context
			default:
				late = append(late, done)
				l.Flaw(fmt.Errorf("hook %s: it took longer than its budget of %v", h.name, h.budget))
				go l.opts.Log.Warn("a shutdown hook takes longer than its budget", "hook", h.name, "budget", h.budget.String())
			}
		}
	}
	for _, done := range late {
		<-done
	}
}

var errGoexit = errors.New("the goroutine was ended by runtime.Goexit")

func hookLabel(name string) string { return "hook-" + name }

// nextHook returns the last hook that has not started, and marks it as started; nil if there is none. A hook may
// register hooks.
func (l *Life) nextHook() *hook {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.hooks) - 1; i >= 0; i-- {
		if h := l.hooks[i]; h.started.IsZero() {
			h.started = time.Now()
			return h
		}
	}
	return nil
}

func (l *Life) endHook(h *hook, err error) {
	l.mu.Lock()
	h.ended = true
	took := time.Since(h.started)
	l.mu.Unlock()
	if err != nil {
		l.Flaw(fmt.Errorf("hook %s: %w", h.name, err))
		level, attrs := slog.LevelWarn, []any{"hook", h.name, "error", err, "took", took.String()}
		if trace := fault.Stack(err); len(trace) > 0 {
			attrs = append(attrs, "stack", string(trace))
		}
		if errors.Is(err, errGoexit) || fault.Of(err) == fault.KindPanic {
			level = slog.LevelError
		}
		l.opts.Log.Log(context.Background(), level, "a shutdown hook failed", attrs...)
		return
	}
	l.opts.Log.Debug("shutdown hook done", "hook", h.name, "took", took.String())
}

// pendingHooks returns the dump's items about the hooks that have not ended.
func (l *Life) pendingHooks() (list []Item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.Closing() {
		return nil
	}
	for i := len(l.hooks) - 1; i >= 0; i-- {
		switch h := l.hooks[i]; {
		case h.ended:
		case h.started.IsZero():
			list = append(list, item("shutdown hook waits for its turn", "hook", h.name))
		default:
			list = append(list, item("shutdown hook blocks", "hook", h.name,
				"running", fmt.Sprint(time.Since(h.started).Round(time.Millisecond)), "budget", h.budget.String()))
		}
	}
	return list
}

// Together is functions that run at once. The zero value has none.
type Together struct {
	mu   sync.Mutex
	list []func(context.Context)
}

// Add adds fn, and returns whether it is the first one.
func (t *Together) Add(fn func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, fn)
	return len(t.list) == 1
}

// Run calls all of them at once, and returns when the last one has returned. A panic is an error.
func (t *Together) Run(ctx context.Context) error {
	t.mu.Lock()
	list := t.list
	t.mu.Unlock()
	errs := make(chan error, len(list))
	for _, fn := range list {
		go func() { errs <- fault.Recover("flush", func() error { fn(ctx); return nil }) }()
	}
	var all []error
	for range list {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
