package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/zmq"
)

const (
	maxMessage = 1 << 10 // a beat and an order are a line
	maxReason  = 200     // bytes of it that are kept
	// noReason stands for the reason of a kill that came without: the original's button has none, so none is required.
	noReason = "no reason given"
)

// order is a command from outside. The supervising goroutine answers it.
type order struct {
	what, reason string
	reply        chan answer // has room for one
}

// answer is what an order led to.
type answer struct {
	Text   string  `json:"text,omitempty"`
	Status *status `json:"status,omitempty"`
	err    error
}

// status is how the program is.
type status struct {
	State      string         `json:"state"` // running, stopping, being killed, pausing
	PID        int            `json:"pid,omitempty"`
	Command    string         `json:"command"`
	Uptime     float64        `json:"uptime_s"`
	Phase      string         `json:"phase,omitempty"`
	Beats      uint64         `json:"beats"`
	Missed     int            `json:"missed"`
	Lag        float64        `json:"lag_s"`
	Restarts   int            `json:"restarts"`
	Reasons    map[reason]int `json:"reasons"`
	LastReason string         `json:"last_reason,omitempty"`
	Dropped    uint64         `json:"dropped_lines"`
	Monitor    int            `json:"monitor_pid"`
}

// receiveBeats gives each heartbeat that comes to the watch, until ctx ends.
func (m *monitor) receiveBeats(ctx context.Context, s *zmq.Socket) {
	for {
		msg, err := s.Recv(ctx)
		if err != nil {
			return
		}
		b, err := heartbeat.Parse(msg)
		if err != nil {
			continue // no beat
		}
		m.mu.Lock()
		if pid := m.watch.PID(); b.PID != 0 && b.PID != pid {
			if group, err := syscall.Getpgid(b.PID); err == nil && group == pid {
				b.PID = pid // the program under a shell's wrapper is of its group
			}
		}
		before := m.watch.Deadline()
		counts := m.watch.Beat(time.Now(), b)
		sooner := m.watch.Deadline().Before(before)
		m.mu.Unlock()
		if sooner { // most beats need not wake the supervising goroutine: it sees them at its next deadline
			select {
			case m.sooner <- struct{}{}:
			default:
			}
		}
		if counts {
			m.print.beat(m.set.verbose, b)
		}
	}
}

// obey passes on the original's orders until ctx ends; each of them is to kill. At most one waits: more that come
// while the program is being killed mean the same.
func (m *monitor) obey(ctx context.Context, s *zmq.Socket) {
	for {
		msg, err := s.Recv(ctx)
		if err != nil {
			return
		}
		if t := m.set.token; t != nil {
			if len(msg) < len(t) || subtle.ConstantTimeCompare(msg[:len(t)], t) != 1 {
				continue
			}
			msg = msg[len(t):]
		}
		select {
		case m.panics <- clean(string(msg)):
		default:
		}
	}
}

// clean makes a reason one printable line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), maxReason)])
	return strings.TrimSpace(s)
}

// register serves the orders that are answered on the control socket.
func (m *monitor) register(s *control.Server) {
	for pattern, what := range map[string]string{"GET /status": "status", "POST /kill": "kill", "POST /stop": "stop", "POST /dump": "dump"} {
		s.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var in struct{ Reason string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
				control.WriteError(w, r, http.StatusBadRequest, err)
				return
			}
			o := order{what: what, reason: clean(in.Reason), reply: make(chan answer, 1)}
			if what == "kill" && o.reason == "" {
				o.reason = noReason
			}
			select {
			case m.orders <- o:
			case <-r.Context().Done():
				return
			}
			select {
			case a := <-o.reply:
				if a.err != nil {
					control.WriteError(w, r, http.StatusConflict, a.err)
					return
				}
				web.WriteJSON(w, r, http.StatusOK, a)
			case <-r.Context().Done():
			case <-m.over:
				control.WriteError(w, r, http.StatusServiceUnavailable, errors.New("the monitor is ending"))
			}
		}))
	}
}

// give sends an order to a running monitor and prints its answer.
func give(what string, f *flags, out io.Writer) error {
	o := map[string]*orderFlags{"kill": &f.Kill, "stop": &f.Stop, "dump": &f.Dump, "status": &f.Status}[what]
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(o.Timeout))
	defer cancel()
	path := besides(f.CommandAddr, f.DataDir, ".ctl")
	client := control.NewClient(path)
	var a answer
	var err error
	if what == "status" {
		err = client.Get(ctx, "/status", &a)
	} else {
		err = client.Post(ctx, "/"+what, map[string]string{"reason": o.Reason}, &a)
	}
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Kind == fault.KindDependency {
		return &fault.Error{Kind: fault.KindDependency, Op: what, Subject: path, Err: e.Err,
			Hint: "no monitor answers there: give its --command-addr, and call from its folder if that is relative"}
	}
	switch {
	case err != nil:
		return err
	case f.JSON:
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if a.Status != nil {
			return e.Encode(a.Status)
		}
		return e.Encode(a)
	case a.Status != nil:
		return a.Status.print(out)
	}
	_, err = fmt.Fprintln(out, a.Text)
	return err
}

func (s *status) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, v any) { fmt.Fprintf(w, "%s\t%v\n", name, v) }
	row("state", s.State)
	row("command", s.Command)
	if s.PID != 0 {
		row("pid", s.PID)
		row("uptime", time.Duration(s.Uptime*float64(time.Second)).Round(time.Millisecond))
		row("heartbeats", fmt.Sprintf("%d, %d missed in a row, phase %q", s.Beats, s.Missed, s.Phase))
	}
	row("restarts", fmt.Sprintf("%d: dying %d, never dying %d, aberrant %d", s.Restarts,
		s.Reasons[dying], s.Reasons[neverDying], s.Reasons[aberrant]))
	if s.LastReason != "" {
		row("last reason", s.LastReason)
	}
	return w.Flush()
}
