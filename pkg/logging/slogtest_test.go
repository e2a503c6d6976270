package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/slogtest"
	"time"
)

// Each handler that a record passes, and all of them together as a user has them.
func TestHandlersKeepTheContractOfSlog(t *testing.T) {
	var cut atomic.Uint64
	id := identity{app: "app", rest: fields("device", "pi")}
	for name, c := range map[string]struct {
		handler func(t *testing.T, w io.Writer) slog.Handler
		parse   func(t *testing.T, line string) map[string]any
	}{
		"json output":    {func(_ *testing.T, w io.Writer) slog.Handler { return newJSON(w, id, &cut) }, parseJSON},
		"console output": {func(_ *testing.T, w io.Writer) slog.Handler { return newConsole(w, id, false, &cut) }, parseConsole},
		"coloured":       {func(_ *testing.T, w io.Writer) slog.Handler { return newConsole(w, id, true, &cut) }, parseConsole},
		"json":           {whole("json"), parseJSON},
		"console":        {whole("console"), parseConsole},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slogtest.Run(t, func(t *testing.T) slog.Handler {
				out.Reset()
				return c.handler(t, &out)
			}, func(t *testing.T) map[string]any { return c.parse(t, out.String()) })
		})
	}
}

func whole(format string) func(*testing.T, io.Writer) slog.Handler {
	return func(t *testing.T, w io.Writer) slog.Handler {
		l, err := New(Options{App: "app", Format: format, Syslog: "off", Sample: 1000, Out: w})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close(context.Background()) })
		return l.Logger().Handler()
	}
}

func TestSyslogHandlerKeepsTheContractOfSlog(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var l *Log
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		l, err = New(Options{App: "app", Syslog: "tcp://" + listener.Addr().String(), Out: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		return l.Logger().Handler()
	}, func(t *testing.T) map[string]any {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		size, frame, _ := strings.Cut(string(b), " ")
		if n, err := strconv.Atoi(size); err != nil || n != len(frame) {
			t.Fatalf("not one frame: %q", b)
		}
		_, message, _ := strings.Cut(frame, " - @cee: ")
		m := parseJSON(t, message)
		if strings.HasPrefix(frame, "<14>1 - ") != (m["time"] == nil) {
			t.Errorf("header and message differ about the time: %q", frame)
		}
		return m
	})
}

func parseJSON(t *testing.T, line string) map[string]any {
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return m
}

// parseConsole reads "2006-01-02 15:04:05.000 app main [INFO] message key=value group.key=value".
func parseConsole(t *testing.T, line string) map[string]any {
	for _, code := range []string{"0", "2", "91", "92", "93"} {
		line = strings.ReplaceAll(line, "\x1b["+code+"m", "")
	}
	m := map[string]any{}
	words := strings.Fields(line)
	if _, err := time.Parse(time.DateOnly, words[0]); err == nil {
		m[slog.TimeKey] = words[0] + words[1]
		words = words[2:]
	}
	if words[0] != "app" || words[1] != "main" || !strings.HasPrefix(words[2], "[") {
		t.Fatalf("have %q", line)
	}
	m[slog.LevelKey], m[slog.MessageKey] = strings.Trim(words[2], "[]"), words[3]
	for _, word := range words[4:] {
		path, value, _ := strings.Cut(word, "=")
		at, keys := m, strings.Split(path, ".")
		for _, k := range keys[:len(keys)-1] {
			if at[k] == nil {
				at[k] = map[string]any{}
			}
			at = at[k].(map[string]any)
		}
		at[keys[len(keys)-1]] = value
	}
	return m
}
