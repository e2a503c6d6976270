package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	// tolerated is how many unexpected exits of one program within window are left to supervisord's restarts. After one
	// more, restarts don't help, and a new container may.
	tolerated = 2
	window    = 10 * time.Minute
	// lastWords is the time between our answer and the kill. In it supervisord logs that it gave the program up, and passes
	// on the reason that we logged: both within milliseconds, later on a busy machine.
	lastWords = 500 * time.Millisecond
	// maxEvent is the largest event in bytes; a process event has some 80.
	maxEvent = 64 << 10
)

// run speaks the listener's protocol until in ends, and returns the exit code. When the container has to end, it calls end,
// lastWords after its answer to the event that is the reason; other events wait meanwhile.
func run(in io.Reader, out, err io.Writer, end func() error) int {
	log := slog.New(slog.NewJSONHandler(err, nil)).With("app", "listener")
	j := judge{exits: map[string][]time.Time{}}
	from := bufio.NewReaderSize(in, maxEvent)
	for {
		fmt.Fprint(out, "READY\n")
		e, problem := read(from)
		if errors.Is(problem, io.EOF) {
			return 0
		}
		if problem != nil {
			log.Error("supervisord speaks a protocol that is not understood", "error", problem)
			return 1
		}
		why := j.decide(e, time.Now())
		if why != "" {
			log.Error("ending the container: "+why, "program", e.fields["processname"])
		}
		fmt.Fprint(out, "RESULT 2\nOK")
		if why == "" {
			continue
		}
		<-time.After(lastWords)
		if problem := end(); problem != nil {
			log.Error("supervisord could not be killed", "error", problem)
		}
	}
}

// event is a message of supervisord: its name, and the tokens of its payload.
type event struct {
	name   string
	fields map[string]string
}

func read(from *bufio.Reader) (event, error) {
	head, err := from.ReadSlice('\n')
	if err != nil {
		return event{}, fmt.Errorf("read the header: %w", err)
	}
	header := tokens(string(head))
	size, err := strconv.Atoi(header["len"])
	if err != nil || size < 0 || size > maxEvent || header["eventname"] == "" {
		return event{}, fmt.Errorf("read the header: %q has no name, or no length up to %d", head, maxEvent)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(from, payload); err != nil {
		return event{}, fmt.Errorf("read the payload: %w", err)
	}
	return event{name: header["eventname"], fields: tokens(string(payload))}, nil
}

// tokens splits "processname:app groupname:app expected:0".
func tokens(line string) map[string]string {
	fields := map[string]string{}
	for _, token := range strings.Fields(line) {
		name, value, _ := strings.Cut(token, ":")
		fields[name] = value
	}
	return fields
}

// judge decides when the container has to end. It remembers the unexpected exits of each program.
type judge struct{ exits map[string][]time.Time }

// decide returns the reason why the container has to end after the event, empty if it need not.
func (j judge) decide(e event, now time.Time) string {
	program := e.fields["groupname"] + ":" + e.fields["processname"]
	switch {
	case e.name == "PROCESS_STATE_FATAL":
		return "a program can't be started"
	case e.name != "PROCESS_STATE_EXITED" || e.fields["expected"] != "0":
		return ""
	}
	recent := append(j.exits[program], now)
	for now.Sub(recent[0]) > window {
		recent = recent[1:]
	}
	j.exits[program] = recent
	if len(recent) > tolerated {
		return fmt.Sprintf("a program ended unexpectedly %d times within %v", len(recent), window)
	}
	return ""
}
