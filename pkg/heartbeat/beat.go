// Package heartbeat is how a program shows the monitor that it is alive and makes progress, and how the monitor judges it.
//
//	app: Client ──PUSH── ipc://heartbeat ──PULL── monitor: Parse, Watch
//
// A Beat is one message. In the original any message, even an empty one, means that the program is alive. Ours is one line
// that also has the process id, a count and the phase:
//
//	beat pid=4711 n=42 phase=running
//
// The Client beats from a goroutine of its own, only while the app is healthy, and never blocks the app. The Watch decides
// when the silence is too long; it reads no clock and does no I/O.
//
// Nothing is authenticated: every process that may write to the socket can beat. Its file has the mode 0600.
package heartbeat

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Phase is how far a program is in its life.
type Phase string

// The phases.
const (
	Starting Phase = "starting"
	Opening  Phase = "opening" // still starting: it opens its data, which has a time of its own
	Running  Phase = "running"
	Draining Phase = "draining" // shutting down: its progress is not judged any more
)

// Beat is one sign of life. The zero value is a beat of the original, which has no sender.
type Beat struct {
	PID   int    // of the program that beats, 0 if it doesn't say
	N     uint64 // counts the program's beats from 1
	Phase Phase
}

var (
	prefix       = []byte("beat ")
	errMalformed = errors.New("malformed beat")
)

// maxBeat is more than the longest line that Append makes.
const maxBeat = 96

// Append adds the beat as a line without its newline; nothing if PID is 0.
func (b Beat) Append(dst []byte) []byte {
	if b.PID == 0 {
		return dst
	}
	dst = append(dst, "beat pid="...)
	dst = strconv.AppendInt(dst, int64(b.PID), 10)
	dst = append(dst, " n="...)
	dst = strconv.AppendUint(dst, b.N, 10)
	dst = append(dst, " phase="...)
	return append(dst, b.Phase...)
}

// String returns the line.
func (b Beat) String() string { return string(b.Append(nil)) }

// Parse reads a message from the heartbeat address. In the original any message is a beat, so a message that does not begin
// with "beat " is the zero Beat. A message that does, but is not a line of Append, is an error and no beat.
func Parse(msg []byte) (Beat, error) {
	rest, ours := bytes.CutPrefix(msg, prefix)
	if !ours {
		return Beat{}, nil
	}
	if len(msg) > maxBeat {
		return Beat{}, fmt.Errorf("heartbeat: parse: %w: %d bytes", errMalformed, len(msg))
	}
	fields := bytes.Split(rest, []byte(" "))
	if len(fields) != 3 {
		return Beat{}, fmt.Errorf("heartbeat: parse: %w: %q", errMalformed, msg)
	}
	pid, e1 := number(fields[0], "pid=", 31)
	n, e2 := number(fields[1], "n=", 64)
	phase, isPhase := bytes.CutPrefix(fields[2], []byte("phase="))
	b := Beat{PID: int(pid), N: n, Phase: Phase(phase)}
	known := b.Phase == Starting || b.Phase == Opening || b.Phase == Running || b.Phase == Draining
	if e1 != nil || e2 != nil || pid == 0 || !isPhase || !known {
		return Beat{}, fmt.Errorf("heartbeat: parse: %w: %q", errMalformed, msg)
	}
	return b, nil
}

func number(field []byte, name string, bits int) (uint64, error) {
	digits, ok := bytes.CutPrefix(field, []byte(name))
	if !ok {
		return 0, errMalformed
	}
	return strconv.ParseUint(string(digits), 10, bits)
}
