package export

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/internal/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A collector may say anything: it is one short line, once a minute.
func TestWhatGoesWrongIsToldOnceAMinuteInOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &testlog.Log{}
		otlp, statsd := NewWarnings(log.Logger(slog.LevelInfo), "otlp"), NewWarnings(log.Logger(slog.LevelInfo), "statsd")
		for range 150 {
			otlp.Failed(t.Context(), errors.New("bad\nthings \xff"+strings.Repeat("é", 1000)))
			statsd.Failed(t.Context(), errors.New("other"))
			time.Sleep(time.Second)
		}
		if text := log.String(); strings.Count(text, "exporter=otlp") != 3 || strings.Count(text, "exporter=statsd") != 3 || !strings.Contains(text, "more=59") {
			t.Errorf("have\n%s", text)
		}
		for line := range strings.Lines(log.String()) {
			if len(line) > 2*maxLogged {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	})
}
