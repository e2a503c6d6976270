// Package schedule runs the app's jobs at their times: every night, each ten minutes.
//
//	            its time             the jitter is over                  returned
//	waiting ──────────────► delayed ────────────────────► running ──────────────────────► waiting
//	   ▲                                                     │
//	   └──────────── came back at last ────────── hung ◄─────┘ a second after its timeout
//
// A job never runs twice at once: when its time comes while it is delayed, running or hung, that run is skipped and
// counted. Times are UTC, so that no change of clocks leaves a run out or does it twice. Runs that were missed while the
// process was down are not made up for. After a pause of the whole machine one run is.
//
// A run has a timeout: the deadline of its context. It has the guard, so that an error or a panic is logged and reported
// and, unless the job is Fatal, nothing else happens. It can ping a check at healthchecks.io with how it went, without ever
// waiting for that.
//
// One worker, Run, starts each run in a goroutine of its own. The nanny does not watch these: a job may take as long as its
// timeout allows, and a job that hangs beyond it loses its next runs, while the process goes on. A hang is logged once at ERROR,
// with the job's name and stack. At the shutdown the contexts of all runs end, and Run returns when the runs have. So the
// shutdown waits for them, and its dump names them, since the goroutines of a job carry its name.
//
// The parser of specs, and the search for the next time, are robfig/cron's. Its runner is not used: it gives jobs no
// context that ends with a timeout or the shutdown, and doesn't notice that the clock was set.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/worker"
)

const (
	// DefaultTimeout is for jobs that have none of their own: longer than any sound job, and short enough that a daily
	// one that hangs is logged long before its next run.
	DefaultTimeout = time.Hour
	// patience is how long a job may take to come back when its timeout is over: as long as an event's handler may.
	patience = time.Second
	// MaxJobs bounds a Scheduler. An app has a handful; one for each customer is a mistake.
	MaxJobs = 64
	// maxName bounds a name, which stands in each metric and log line of its job.
	maxName = 64
	// lookEvery is how often the clock on the wall is read: timers don't notice that it was set, or that the machine slept.
	lookEvery = time.Minute
)

// Job is something that the app does at given times.
type Job struct {
	Name string // 1 to 64 lower-case letters, digits, '.', '_' and '-'; stands in logs and metrics
	// Spec says when, in UTC: minute, hour, day of the month, month, weekday ("30 2 * * 1-5" is 02:30 from Monday to
	// Friday), or @hourly, @daily, @weekly, @monthly, @yearly, or an interval of a second at least ("@every 10m"), which
	// counts from the start of the process.
	Spec string
	// Do does it. It returns soon after ctx has ended, by the timeout or the shutdown. What it logs through log also
	// stands in the ping; ctx names the run in the lines of all that is called with it.
	Do func(ctx context.Context, log *slog.Logger) error

	// Timeout is how long a run may take; 0: DefaultTimeout. Too short breaks off sound runs, too long hides a hang.
	Timeout time.Duration
	// Jitter delays each run by anything from 0 to it, and at most by half of the time to the next one, so that a fleet
	// doesn't act in step. 0: none.
	Jitter time.Duration
	// Fatal ends the process when a run fails, panics or hangs, with that as the cause.
	Fatal bool
	// Ping is the address of a check at healthchecks.io, or of what speaks its protocol; empty: none. It gets /start,
	// success, and /fail or the exit status, with the run's id and what it logged. It is a secret.
	Ping config.Secret
}

// Options are a Scheduler's. The zero value works: it logs, and reports to nobody.
type Options struct {
	Log    *slog.Logger                        // nil: slog.Default()
	Report func(context.Context, *fault.Error) // called with each error of a run whose kind is reported; must not block. Nil: not called
	Fail   func(error)                         // called with the error of a run of a Fatal job; must not block. Nil: not called
	// Trace is called with each run that begins, and returns the job's context; what it returns beside it is called once, with
	// how the run ended. Nil: not called.
	Trace func(ctx context.Context, job, run string) (context.Context, func(Outcome, error))
	// Client makes the client of the pings, once, when the first job with a Ping is added; its policy should be
	// PingPolicy. Nil: such a job is an error.
	Client func() (*web.Client, error)
}

// Scheduler does jobs. Its methods may be called from any goroutine.
type Scheduler struct {
	o       Options
	added   chan struct{} // a job was added, perhaps for a time before all others
	running sync.WaitGroup

	mu     sync.Mutex
	jobs   []*job
	seen   time.Time   // the last look at the clock
	client *web.Client // nil until a job has a Ping
}

// job is a Job with its history, which is the Scheduler's lock's.
type job struct {
	Job
	when  cron.Schedule
	pings *pinger // nil: none

	state   State
	next    time.Time
	began   time.Time
	ended   time.Time
	outcome Outcome
	failure string
	success time.Time
	runs    map[Outcome]uint64
}

// New returns a Scheduler without jobs.
func New(o Options) *Scheduler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Trace == nil {
		o.Trace = func(ctx context.Context, _, _ string) (context.Context, func(Outcome, error)) {
			return ctx, func(Outcome, error) {}
		}
	}
	return &Scheduler{o: o, added: make(chan struct{}, 1)}
}

// Add adds a job, at any time. An error of fault.KindConfig means that Spec or Ping, which may come from settings, is
// wrong; the others are mistakes in the program: a bad name or one that is taken, no Do, negative times, too many jobs.
func (s *Scheduler) Add(j Job) error {
	if err := s.add(j); err != nil {
		return fmt.Errorf("job %q: %w", j.Name, err)
	}
	select {
	case s.added <- struct{}{}:
	default: // Run will look anyway
	}
	return nil
}

func (s *Scheduler) add(j Job) error {
	if err := check(j); err != nil {
		return err
	}
	when, err := parseSpec(j.Spec)
	if err != nil {
		return err
	}
	if j.Timeout == 0 {
		j.Timeout = DefaultTimeout
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.jobs {
		if other.Name == j.Name {
			return errors.New("the name is taken: give each job one of its own")
		}
	}
	if len(s.jobs) >= MaxJobs {
		return fmt.Errorf("there are %d already; is one made for each request?", len(s.jobs))
	}
	fresh := &job{Job: j, when: when, state: Waiting, next: when.Next(wall()), runs: map[Outcome]uint64{}}
	if fresh.pings, err = s.pinger(j); err != nil {
		return err
	}
	s.jobs = append(s.jobs, fresh)
	return nil
}

func check(j Job) error {
	good := func(r rune) bool {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	switch {
	case j.Name == "" || len(j.Name) > maxName || strings.ContainsFunc(j.Name, func(r rune) bool { return !good(r) }):
		return fmt.Errorf("a name has 1 to %d lower-case letters, digits, '.', '_' and '-'", maxName)
	case j.Do == nil:
		return errors.New("there is nothing to do")
	case j.Timeout < 0 || j.Jitter < 0:
		return errors.New("a time is negative")
	}
	return nil
}

// wall is the time on the wall, without the monotonic clock's, which stands still while the machine sleeps.
func wall() time.Time { return time.Now().Round(0).UTC() }

var nextTime = "the next job's time"

// Run does the jobs until ctx ends, and returns when all runs have ended. It is a worker, called once.
func (s *Scheduler) Run(ctx context.Context) error {
	self := worker.FromContext(ctx)
	for {
		s.startDue(ctx)
		timer := time.NewTimer(s.untilNext())
		self.Park(&nextTime)
		select {
		case <-timer.C:
		case <-s.added:
		case <-ctx.Done():
		}
		self.Unpark()
		timer.Stop()
		if ctx.Err() != nil {
			s.awaitRuns(self)
			return nil
		}
	}
}

// awaitRuns waits for the runs to end; the shutdown's forced end is the deadline.
func (s *Scheduler) awaitRuns(self *worker.Worker) {
	var names []string
	for _, j := range s.List() {
		if j.State != Waiting {
			names = append(names, j.Name)
		}
	}
	place := "the end of " + strings.Join(names, ", ")
	self.Park(&place)
	defer self.Unpark()
	s.running.Wait()
}

// startDue starts the runs whose time has come.
func (s *Scheduler) startDue(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	due, skipped := s.due(wall())
	for _, j := range skipped {
		level := slog.LevelWarn
		if j.State == Hung {
			level = slog.LevelDebug // the hang was logged
		}
		s.o.Log.Log(ctx, level, "job skipped, its last run has not ended", "job", j.Name, "state", string(j.State), "since", j.Began)
	}
	for _, d := range due {
		s.running.Go(func() { s.perform(ctx, d.job, d.delay) })
	}
}

// due is a run whose time has come.
type due struct {
	*job
	delay time.Duration
}

func (s *Scheduler) due(now time.Time) (list []due, skipped []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A machine that started with a clock that is years ahead must not wait for years. A clock that is set back by less
	// than a look makes nothing run twice.
	back := s.seen.Sub(now) > lookEvery
	s.seen = now
	for _, j := range s.jobs {
		if back {
			j.next = j.when.Next(now)
		}
		if now.Before(j.next) {
			continue
		}
		j.next = j.when.Next(now)
		if j.state != Waiting {
			j.runs[Skipped]++
			skipped = append(skipped, j.status())
			continue
		}
		j.state, j.began = Delayed, now
		list = append(list, due{j, upTo(min(j.Jitter, j.next.Sub(now)/2))})
	}
	return list, skipped
}

// upTo returns anything from 0 to most.
func upTo(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most + 1)
}

// untilNext is how long to wait before the next look.
func (s *Scheduler) untilNext() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, wait := wall(), lookEvery
	for _, j := range s.jobs {
		wait = min(wait, j.next.Sub(now))
	}
	return wait
}
