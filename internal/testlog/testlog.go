// Package testlog is a log for tests: it keeps what is written to it, and may be read at the same time.
package testlog

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Log holds what was written to it. The zero Log is empty and ready.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

var _ io.Writer = (*Log)(nil)

// Write appends b.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count returns how often part is in it.
func (l *Log) Count(part string) int { return strings.Count(l.String(), part) }

// Logger returns a logger that writes to l, in slog's text form, from level on.
func (l *Log) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}
