package schedule

import (
	"log/slog"
	"strings"
	"sync"

	"example.com/base-app/pkg/dependency"
)

// maxBody is how many bytes of a run's log its ping has: as much as healthchecks.io keeps in all its versions.
const maxBody = 10_000

// cutMark begins a body that lacks the first lines.
const cutMark = "…\n"

// tail keeps the last lines that are written to it.
type tail struct {
	mu    sync.Mutex
	lines []string
	size  int
	cut   bool // lines are missing
}

// handler writes the records of a run into the tail.
func (t *tail) handler() slog.Handler { return slog.NewTextHandler(t, nil) }

// Write takes one line, as slog's handlers write.
func (t *tail) Write(line []byte) (int, error) {
	text := string(line[:min(len(line), maxBody/2)]) // more than Scrub shows of a line, so that it sees where to cut
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, text)
	for t.size += len(text); t.size > maxBody; t.cut = true {
		t.size -= len(t.lines[0])
		t.lines = t.lines[1:]
	}
	return len(line), nil
}

// text returns the last lines, without secrets. It takes milliseconds, so that no job should wait for
// it. A nil tail has no text.
func (t *tail) text() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	lines, cut := t.lines[:len(t.lines):len(t.lines)], t.cut
	t.mu.Unlock()
	text, first := "", len(lines)
	for ; first > 0; first-- {
		// Within quotes the handler has escaped quotes, which would hide where a secret ends.
		line := dependency.Scrub(strings.ReplaceAll(strings.TrimSuffix(lines[first-1], "\n"), `\"`, `'`)) + "\n"
		if len(cutMark)+len(line)+len(text) > maxBody {
			break
		}
		text = line + text
	}
	if cut || first > 0 {
		text = cutMark + text
	}
	return text
}
