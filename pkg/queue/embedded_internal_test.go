package queue

import (
	"log/slog"
	"testing"
)

func TestOnlyAFailedWriteDoomsTheQueue(t *testing.T) {
	for text, doomed := range map[string]bool{
		"store is closed":                         false, // by mend, or by the end
		"server is shutting down":                 false,
		"message too large":                       false,
		"write 1.blk: input/output error":         true,
		"Critical write error: sync 1.blk: EIO":   true,
		"something that nobody has ever heard of": true,
	} {
		have := false
		e := &embedded{log: slog.New(slog.DiscardHandler), doom: func(error) { have = true }}
		if e.broken(text); have != doomed {
			t.Errorf("%s: want doomed %v, have %v", text, doomed, have)
		}
	}
}
