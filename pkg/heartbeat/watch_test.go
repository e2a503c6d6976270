package heartbeat_test

import (
	"testing"
	"time"

	"example.com/base-app/pkg/heartbeat"
)

const sec = time.Second

// step is something that happens at a time after the start: a beat, or a tick with its verdict.
type step struct {
	at   time.Duration
	beat *heartbeat.Beat
	want any // bool for a beat: does it count; Verdict for a tick
}

func beat(at time.Duration, pid int, phase heartbeat.Phase, counts bool) step {
	return step{at, &heartbeat.Beat{PID: pid, Phase: phase}, counts}
}

func tick(at time.Duration, want heartbeat.Verdict) step { return step{at, nil, want} }

func TestWatch(t *testing.T) {
	const pid, other = 7, 8
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"silent from the start: the original's 2T + (N-1)T", []step{
			tick(2*sec-1, heartbeat.Fine), tick(2*sec, heartbeat.Missed), tick(3*sec-1, heartbeat.Fine), tick(3*sec, heartbeat.Hung)}},
		{"silent after a beat: N*T", []step{
			beat(5*sec, 0, "", true), tick(6*sec, heartbeat.Missed), tick(7*sec-1, heartbeat.Fine), tick(7*sec, heartbeat.Hung)}},
		{"a beat forgets what was missed", []step{
			beat(3*sec, 0, "", true), tick(4*sec, heartbeat.Missed), beat(4*sec+1, 0, "", true), tick(5*sec+1, heartbeat.Missed), tick(6*sec+1, heartbeat.Hung)}},
		{"an early beat of nobody does not shorten the start", []step{
			beat(1*ms, 0, "", true), tick(1*sec+1*ms, heartbeat.Fine), tick(2*sec, heartbeat.Missed)}},
		{"a later one does, as for the original", []step{
			beat(1*sec, 0, "", true), beat(1*sec+1*ms, 0, "", true), tick(2*sec, heartbeat.Fine), tick(2*sec+1*ms, heartbeat.Missed), tick(3*sec+1*ms, heartbeat.Hung)}},
		{"one that says starting does not", []step{
			beat(1*ms, pid, heartbeat.Starting, true), tick(1*sec+1*ms, heartbeat.Fine), tick(2*sec, heartbeat.Missed)}},
		{"a start that goes on and on is found when its time is over", []step{
			beat(1*sec, pid, heartbeat.Starting, true), beat(1900*ms, pid, heartbeat.Starting, true), tick(2*sec, heartbeat.Missed),
			beat(2500*ms, pid, heartbeat.Starting, true), tick(3*sec, heartbeat.Hung)}},
		{"one that opens its data has the time for the start after it", []step{
			beat(1900*ms, pid, heartbeat.Opening, true), tick(2*sec, heartbeat.Fine), beat(3800*ms, pid, heartbeat.Opening, true),
			beat(4*sec, pid, heartbeat.Starting, true), tick(5800*ms-1, heartbeat.Fine), tick(5800*ms, heartbeat.Missed), tick(6800*ms, heartbeat.Hung)}},
		{"one that says running does", []step{
			beat(1*ms, pid, heartbeat.Running, true), tick(1*sec+1*ms, heartbeat.Missed), tick(2*sec+1*ms, heartbeat.Hung)}},
		{"another program's beats don't count", []step{
			beat(1*sec, other, heartbeat.Running, false), tick(2*sec, heartbeat.Missed), beat(2500*ms, other, heartbeat.Running, false), tick(3*sec, heartbeat.Hung)}},
		{"once the program has told its pid, nobody's beats don't count", []step{
			beat(1*sec, pid, heartbeat.Running, true), beat(1500*ms, 0, "", false), tick(2*sec, heartbeat.Missed), tick(3*sec, heartbeat.Hung)}},
		{"a tick that comes late is not the program's fault, and then it is", []step{
			beat(2*sec, 0, "", true), tick(3600*sec, heartbeat.Late), tick(3601*sec-1, heartbeat.Fine), tick(3601*sec, heartbeat.Missed), tick(3602*sec, heartbeat.Hung)}},
		{"after a pause of both the beat comes in time", []step{
			beat(2*sec, 0, "", true), tick(100*sec, heartbeat.Late), beat(100*sec+500*ms, 0, "", true), tick(101*sec, heartbeat.Fine)}},
		{"a little late is in time", []step{
			beat(2*sec, 0, "", true), tick(3*sec+250*ms, heartbeat.Missed)}},
		{"a host that is always late finds the hang all the same", []step{
			beat(2*sec, 0, "", true), tick(4*sec, heartbeat.Late), tick(6*sec, heartbeat.Late), tick(8*sec, heartbeat.Late), tick(10*sec, heartbeat.Missed), tick(12*sec, heartbeat.Hung)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := heartbeat.Watch{Timeout: sec, Misses: 2, Startup: 2 * sec}
			begin := time.Now()
			w.Start(begin, pid)
			for i, s := range c.steps {
				var have any
				if s.beat != nil {
					have = w.Beat(begin.Add(s.at), *s.beat)
				} else {
					have = w.Tick(begin.Add(s.at))
				}
				if have != s.want {
					t.Errorf("step %d at %v: want %v, have %v", i, s.at, s.want, have)
				}
			}
		})
	}
}

func TestAStartForgetsTheProgramBefore(t *testing.T) {
	w := heartbeat.Watch{Timeout: sec, Misses: 1, Startup: 5 * sec}
	begin := time.Now()
	w.Start(begin, 7)
	w.Beat(begin, heartbeat.Beat{PID: 7, Phase: heartbeat.Running})
	w.Tick(begin.Add(10 * sec))
	w.Start(begin.Add(20*sec), 8)
	if have := w.Status(); have != (heartbeat.Status{}) {
		t.Errorf("want nothing, have %+v", have)
	}
	if have, want := w.Deadline(), begin.Add(25*sec); !have.Equal(want) {
		t.Errorf("want %v, have %v", want, have)
	}
	if w.Beat(begin.Add(21*sec), heartbeat.Beat{PID: 7, Phase: heartbeat.Running}) {
		t.Error("a beat of the program before counts")
	}
	if !w.Beat(begin.Add(21*sec), heartbeat.Beat{}) {
		t.Error("the original's beat does not count for the new program")
	}
}

func TestTheLagIsTold(t *testing.T) {
	w := heartbeat.Watch{Timeout: sec, Misses: 2, Startup: sec}
	begin := time.Now()
	w.Start(begin, 7)
	w.Tick(begin.Add(11 * sec))
	if have, want := w.Status().Lag, 10*sec; have != want {
		t.Errorf("want %v, have %v", want, have)
	}
}
