package alert

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// tellPause is between two lines about the same service: it may be away for days.
	tellPause = time.Minute
	// maxTold bounds what a foreign server can bring into the log.
	maxTold = 300
)

// teller logs what goes wrong with one service, once in tellPause.
type teller struct {
	service string
	redact  func(string) string
	log     *slog.Logger // set when the sending begins

	mu   sync.Mutex
	at   time.Time // of the last line
	more int       // not told since
}

func (t *teller) say(err error) {
	more, now := t.mayTell(time.Now())
	if now {
		t.log.Warn("alerts can't be sent", "service", t.service, "error", clip(oneLine(t.redact(err.Error())), maxTold), "more", more)
	}
}

func (t *teller) mayTell(now time.Time) (more int, may bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.at.IsZero() && now.Sub(t.at) < tellPause {
		t.more++
		return 0, false
	}
	more, t.at, t.more = t.more, now, 0
	return more, true
}

// oneLine joins the lines of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// maxSecret is how long what must not be seen may be, for cut.
const maxSecret = 256

// cut is clip for texts whose secrets are looked for later: it ends before a word that it would split, since half a secret is
// not recognized.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	if end := strings.LastIndexAny(text[n-min(n, maxSecret):n], " \t\r\n"); end >= 0 {
		n += end - min(n, maxSecret)
	}
	return clip(text, n)
}

// clip returns at most n bytes of text.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
