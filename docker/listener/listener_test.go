package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is an event as supervisord 4.2.5 sends it.
func told(name, payload string) string {
	return fmt.Sprintf("ver:3.0 server:supervisor serial:21 pool:listener poolserial:10 eventname:%s len:%d\n%s", name, len(payload), payload)
}

func exited(program string, expected int) string {
	return told("PROCESS_STATE_EXITED", fmt.Sprintf("processname:%s groupname:%s from_state:RUNNING expected:%d pid:77", program, program, expected))
}

// answered is what the listener says around each event.
const answered = "READY\nRESULT 2\nOK"

func TestWhatEndsTheContainer(t *testing.T) {
	fatal := told("PROCESS_STATE_FATAL", "processname:cron groupname:cron from_state:BACKOFF")
	for _, c := range []struct {
		name   string
		events []string
		ends   int
	}{
		{"nothing", nil, 0},
		{"FATAL of any program", []string{fatal}, 1},
		{"two unexpected exits", []string{exited("app", 0), exited("app", 0)}, 0},
		{"the third", []string{exited("app", 0), exited("app", 0), exited("app", 0)}, 1},
		{"three of different programs", []string{exited("app", 0), exited("cron", 0), exited("app", 0)}, 0},
		{"expected ones", []string{exited("app", 1), exited("app", 1), exited("app", 1), exited("app", 1)}, 0},
		{"stopped by an operator", []string{told("PROCESS_STATE_STOPPED", "processname:app groupname:app from_state:STOPPING pid:7")}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out, log bytes.Buffer
				ends := 0
				code := run(strings.NewReader(strings.Join(c.events, "")), &out, &log, func() error { ends++; return nil })
				if code != 0 || ends != c.ends {
					t.Errorf("want %d ends, have %d, code %d:\n%s", c.ends, ends, code, &log)
				}
				if want := strings.Repeat(answered, len(c.events)) + "READY\n"; out.String() != want {
					t.Errorf("want each event answered, have %q", &out)
				}
			})
		})
	}
}

// Supervisord hands on what the listener logs, and writes of its own why it gave up, only after the answer.
func TestTheReasonIsToldBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, log bytes.Buffer
		began := time.Now()
		fatal := told("PROCESS_STATE_FATAL", "processname:cron groupname:cron from_state:BACKOFF")
		run(strings.NewReader(fatal), &out, &log, func() error {
			if !strings.Contains(log.String(), `"program":"cron"`) || out.String() != answered {
				t.Errorf("want the reason logged and the event answered, have %q and %q", &log, &out)
			}
			if took := time.Since(began); took != lastWords {
				t.Errorf("want the end %v after the answer, have %v", lastWords, took)
			}
			return errors.New("no such process")
		})
		if !strings.Contains(log.String(), "no such process") {
			t.Errorf("want a failure to end it logged, have %s", &log)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(told("PROCESS_STATE_EXITED", "processname:app groupname:app from_state:RUNNING expected:0 pid:77"))
	f.Add("eventname:X len:0\n")
	f.Add("eventname:X len:-1\n")
	f.Fuzz(func(t *testing.T, in string) {
		from := bufio.NewReaderSize(strings.NewReader(in), maxEvent)
		for {
			e, err := read(from)
			if err != nil {
				return
			}
			if e.name == "" {
				t.Fatalf("an event without a name from %q", in)
			}
		}
	})
}

func TestExitsThatAreFarApartAreTolerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := judge{exits: map[string][]time.Time{}}
		e := event{"PROCESS_STATE_EXITED", map[string]string{"processname": "app", "groupname": "app", "expected": "0"}}
		for range 100 {
			if why := j.decide(e, time.Now()); why != "" {
				t.Fatal(why)
			}
			time.Sleep(window/2 + time.Second)
		}
	})
}

func TestAnotherProtocolIsAnError(t *testing.T) {
	for _, in := range []string{"hello\n", "eventname:X len:-1\n", "eventname:X len:999999999\n", "eventname:X len:5\nab"} {
		var log bytes.Buffer
		code := run(strings.NewReader(in), &bytes.Buffer{}, &log, func() error { return errors.New("not to be called") })
		if code != 1 {
			t.Errorf("%q: want code 1, have %d: %s", in, code, &log)
		}
	}
}
