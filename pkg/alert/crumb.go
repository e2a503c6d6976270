package alert

import (
	"log/slog"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"

	"example.com/base-app/pkg/text"
)

const (
	// keptCrumbs is how many of the last log records an event shows: what led to an error is rarely further away.
	keptCrumbs = 50
	// What is kept of a record: with these bounds 50 of them are 100 KiB at most.
	crumbAttrs, crumbText = 8, 200
)

// crumb is a log record that came before an event. It never changes.
type crumb struct {
	at      time.Time
	level   slog.Level
	message string
	attrs   []slog.Attr
}

// crumbs are the last records of the process, each with its worker and request.
type crumbs struct {
	mu   sync.Mutex
	ring [keptCrumbs]*crumb
	next int
}

// add keeps a record. Nil crumbs keep nothing.
func (c *crumbs) add(r slog.Record) {
	if c == nil {
		return
	}
	n := &crumb{at: r.Time, level: r.Level, message: text.Ellipsis(r.Message, crumbText),
		attrs: make([]slog.Attr, 0, min(r.NumAttrs(), crumbAttrs))}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = text.Ellipsis(a.Key, maxKeyName)
		switch a.Value.Kind() {
		case slog.KindAny, slog.KindGroup: // may be changed by its owner
			a.Value = slog.StringValue(text.Ellipsis(valueText(a.Value), crumbText))
		case slog.KindString:
			a.Value = slog.StringValue(text.Ellipsis(a.Value.String(), crumbText))
		}
		n.attrs = append(n.attrs, a)
		return len(n.attrs) < crumbAttrs
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring[c.next%keptCrumbs] = n
	c.next++
}

// list returns them, the oldest first.
func (c *crumbs) list() []*crumb {
	if c == nil {
		return nil
	}
	list := make([]*crumb, 0, keptCrumbs)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := max(0, c.next-keptCrumbs); i < c.next; i++ {
		list = append(list, c.ring[i%keptCrumbs])
	}
	return list
}

func (c *crumb) render(redact func(string) string) *sentry.Breadcrumb {
	b := &sentry.Breadcrumb{Type: "default", Message: redact(c.message), Level: levelOf(c.level),
		Timestamp: c.at.UTC(), Data: map[string]any{}}
	for _, a := range c.attrs {
		if a.Key == "worker" {
			b.Category = text.Ellipsis(a.Value.String(), maxTag)
			continue
		}
		b.Data[text.Ellipsis(a.Key, maxKeyName)] = hide(redact, a.Key, a.Value.String())
	}
	return b
}

func levelOf(l slog.Level) sentry.Level {
	switch {
	case l >= slog.LevelError:
		return sentry.LevelError
	case l >= slog.LevelWarn:
		return sentry.LevelWarning
	case l >= slog.LevelInfo:
		return sentry.LevelInfo
	}
	return sentry.LevelDebug
}
