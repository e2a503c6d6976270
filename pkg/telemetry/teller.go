package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/dependency"
)

const (
	// tellPause is between two lines about the same exporter: a collector may be away for days.
	tellPause = time.Minute
	// maxTold bounds what a foreign server can bring into the log.
	maxTold = 300
)

// teller logs what goes wrong with an exporter, once in tellPause.
type teller struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]*told // by exporter, of which there are five
}

type told struct {
	at   time.Time
	more int // not told since
}

func newTeller(log *slog.Logger) *teller { return &teller{log: log, last: map[string]*told{}} }

func (t *teller) say(exporter string, err error) {
	if err == nil {
		return
	}
	now := time.Now()
	t.mu.Lock()
	l := t.last[exporter]
	if l == nil {
		l = &told{}
		t.last[exporter] = l
	}
	if !l.at.IsZero() && now.Sub(l.at) < tellPause {
		l.more++
		t.mu.Unlock()
		return
	}
	more := l.more
	l.at, l.more = now, 0
	t.mu.Unlock()
	t.log.Warn("telemetry can't be sent", "exporter", exporter, "error", clip(strings.Join(strings.Fields(dependency.Scrub(err.Error())), " "), maxTold), "more", more)
}

// clip returns at most n bytes of text.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// Println is for promhttp.
func (t *teller) Println(v ...any) { t.say("prometheus", fmt.Errorf("%s", fmt.Sprint(v...))) }

// loss counts what an exporter gave up.
type loss struct {
	exporter string
	dropped  atomic.Uint64 // spans, data points or lines
	failed   atomic.Uint64 // exports
}

// losses are all of them. They are added while the Telemetry is made, and only read afterwards.
type losses []*loss

func (l *losses) of(exporter string) *loss {
	n := &loss{exporter: exporter}
	*l = append(*l, n)
	return n
}
