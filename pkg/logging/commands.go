package logging

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"

	"example.com/base-app/pkg/fault"
)

// LevelAnswer is what the command loglevel takes and answers.
type LevelAnswer struct {
	Level string `json:"level"`
}

// LevelName returns the level as settings and commands write it: debug, info, warn, error.
func (l *Log) LevelName() string { return strings.ToLower(l.Level().String()) }

// Commands registers what the control socket answers about the level.
func (l *Log) Commands(register func(pattern string, answer func(*http.Request) (any, error))) {
	register("GET /loglevel", func(*http.Request) (any, error) { return LevelAnswer{l.LevelName()}, nil })
	register("POST /loglevel", func(r *http.Request) (any, error) {
		var want LevelAnswer
		if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
			return nil, fault.Usage(`the body is no {"level":"debug"}: %w`, err)
		}
		level, err := ParseLevel(want.Level)
		if err != nil {
			return nil, fault.Usage("%w", err)
		}
		l.SetLevel(level)
		l.Logger().Log(context.Background(), max(level, slog.LevelInfo), "log level is now "+want.Level)
		return LevelAnswer{l.LevelName()}, nil
	})
}
