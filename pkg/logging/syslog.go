package logging

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// facility is user-level messages (RFC 5424, table 1), what syslog(3) uses for programs that choose none.
const facility = 1

// Limits of the header's fields, RFC 5424 section 6.
const (
	maxHostName = 255
	maxAppName  = 48
	maxMsgID    = 32
)

// syslogOutput writes each record as one RFC 5424 message:
//
//	<14>1 2026-01-02T15:04:05.000006Z device app 4711 worker - @cee: {"time":…,"level":"INFO","msg":…}
//
// The severity is from the level (debug 7, info 6, warn 4, error 3). The worker is the MSGID, so that it can be
// filtered for without any parsing ($msgid in rsyslog). The message is the record as JSON behind the cookie that
// rsyslog's mmjsonparse looks for: after action(type="mmjsonparse") each field is a property ($!request_id). Header
// and JSON together hold at most maxLine bytes, well under rsyslog's 8 KiB.
//
// An rsyslog imuxsock input needs UseSpecialParser="off" (for /dev/log: SysSock.UseSpecialParser) to read the
// header; otherwise it takes the header for a part of the message.
type syslogOutput struct {
	to        *sender
	format    *format
	host, app string
	pid       string
}

func newSyslog(to *sender, id identity, device string, cut *atomic.Uint64) slog.Handler {
	return &syslogOutput{
		to:     to,
		format: jsonFormat(id, cut),
		host:   headerField(device, maxHostName),
		app:    headerField(id.app, maxAppName),
		pid:    strconv.Itoa(os.Getpid()),
	}
}

func (o *syslogOutput) Enabled(context.Context, slog.Level) bool { return true }

func (o *syslogOutput) Handle(ctx context.Context, r slog.Record) error {
	if o.to.full() {
		return nil // counted; spares the work
	}
	l := split(r)
	head := o.header(l)
	return o.format.write(ctx, l, maxLine-len(head), func(b []byte) error {
		message := make([]byte, 0, len(head)+len(b))
		message = append(message, head...)
		o.to.send(append(message, b[:len(b)-1]...)) // without its newline
		return nil
	})
}

func (o *syslogOutput) WithAttrs(attrs []slog.Attr) slog.Handler {
	return scoped{next: o}.WithAttrs(attrs)
}
func (o *syslogOutput) WithGroup(name string) slog.Handler { return scoped{next: o}.WithGroup(name) }

func (o *syslogOutput) header(l line) []byte {
	b := make([]byte, 0, 128)
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+severity(l.Level)), 10)
	b = append(b, ">1 "...)
	if l.Time.IsZero() {
		b = append(b, '-')
	} else {
		b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z") // six digits are the most allowed
	}
	for _, field := range []string{o.host, o.app, o.pid, headerField(l.worker, maxMsgID), "-", "@cee:"} {
		b = append(b, ' ')
		b = append(b, field...)
	}
	return append(b, ' ')
}

func severity(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	}
	return 7
}

// headerField returns s as a header field: printable ASCII without spaces, at most n bytes, "-" if there is nothing.
func headerField(s string, n int) string {
	if s == "" {
		return "-"
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}
