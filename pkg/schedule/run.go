package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/worker"
)

// run is one run of a job.
type run struct {
	*job
	id     string
	began  time.Time
	ctx    context.Context // the job's own
	late   error           // the cause of ctx when the timeout is over
	log    *slog.Logger
	lines  *tail // what it logged; nil without pings
	traced func(Outcome, error)
}

// Label is the name under which a job's goroutines stand in stacks, and its lines in the log.
func Label(job string) string { return "job-" + job }

var errGoexit = errors.New("its goroutine was ended by runtime.Goexit")

// perform does one run, from the delay to the end, and waits for a job that hangs, however long.
func (s *Scheduler) perform(ctx context.Context, j *job, delay time.Duration) {
	if !sleep(ctx, delay) {
		s.enter(j, Waiting)
		return
	}
	r, cancel := s.begin(ctx, j)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { ended <- err }()
		stack.Labelled(r.ctx, Label(j.Name), func(ctx context.Context) {
			err = fault.Recover(Label(j.Name), func() error { return j.Do(ctx, r.log) })
		})
	}()
	hangs := time.NewTimer(j.Timeout + patience)
	defer hangs.Stop()
	select {
	case err := <-ended:
		s.finish(ctx, r, err)
		return
	case <-hangs.C:
	}
	if ctx.Err() != nil { // once the shutdown has begun, only its own times act
		s.finish(ctx, r, <-ended)
		return
	}
	s.giveUp(ctx, r)
	<-ended
	s.enter(j, Waiting)
	r.log.WarnContext(r.ctx, "a job that hung has come back", "took", r.took())
}

// sleep waits for d, and returns false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (s *Scheduler) begin(ctx context.Context, j *job) (*run, context.CancelFunc) {
	r := &run{job: j, id: uuid.NewString(), began: time.Now(), late: fmt.Errorf("its timeout of %v is over", j.Timeout)}
	name := Label(j.Name)
	ctx = worker.NewContext(ctx, worker.New(name))
	ctx = logging.With(ctx, slog.String("job", j.Name), slog.String("run_id", r.id))
	ctx, r.traced = s.o.Trace(ctx, j.Name, r.id)
	ctx, cancel := context.WithTimeoutCause(ctx, j.Timeout, r.late)
	r.ctx = ctx
	r.log = s.o.Log.With("worker", name, "job", j.Name, "run_id", r.id)
	if j.pings != nil {
		r.lines = &tail{}
		r.log = slog.New(slog.NewMultiHandler(r.log.Handler(), r.lines.handler()))
	}
	s.mu.Lock()
	j.state, j.began = Running, r.began.Round(0).UTC()
	s.mu.Unlock()
	r.log.DebugContext(ctx, "job begins")
	j.pings.send(ping{ctx: ctx, kind: "/start", run: r.id})
	return r, cancel
}

// finish ends a run that has come back.
func (s *Scheduler) finish(ctx context.Context, r *run, err error) {
	o := Failed
	switch {
	case err == nil:
		o = Done
	case ctx.Err() != nil:
		o = Interrupted
	case context.Cause(r.ctx) == r.late:
		o, err = TimedOut, r.explain(r.afterTimeout(err))
	default:
		err = r.explain(err)
	}
	s.report(ctx, r, o, err) // before the next run can begin
	s.record(r, o, err, Waiting)
}

// giveUp reports a run that doesn't come back. Its goroutine goes on: Go can't end it.
func (s *Scheduler) giveUp(ctx context.Context, r *run) {
	where := "its stack could not be found"
	if mine := stack.Of(Label(r.Name), stack.All()); len(mine) > 0 {
		where = fmt.Sprintf("goroutine %d [%s]:\n%s", mine[0].ID, mine[0].State, mine[0].Text)
	}
	err := &fault.Error{Kind: fault.KindStuck, Op: "job", Subject: r.Name, Stack: []byte(where),
		Err: fmt.Errorf("it hangs: %w, and %v later it has not come back; its next runs are skipped until it has", r.late, patience)}
	s.record(r, TimedOut, err, Hung)
	s.report(ctx, r, TimedOut, err)
}

// afterTimeout returns what a job returned when its timeout was over, with that as the reason.
func (r *run) afterTimeout(err error) error {
	switch {
	case err == context.DeadlineExceeded:
		return r.late
	case errors.Is(err, r.late):
		return err
	}
	return fmt.Errorf("%w: %w", r.late, err)
}

// explain returns a job's error as people read it, and never with the kind of a stop that was asked for.
func (r *run) explain(err error) error {
	switch fault.Of(err) {
	case fault.KindUnhandled, fault.KindStopped:
		return &fault.Error{Kind: fault.KindUnhandled, Op: "job", Subject: r.Name, Err: err}
	}
	return err
}

// report logs how a run ended, guards against its error, ends its trace and pings its check.
func (s *Scheduler) report(ctx context.Context, r *run, o Outcome, err error) {
	guard := fault.Guard{Log: r.log, Closing: func() bool { return ctx.Err() != nil }, Report: s.o.Report}
	if r.Fatal {
		guard.End = s.o.Fail
	}
	switch o {
	case Done:
		r.log.InfoContext(r.ctx, "job done", "took", r.took())
	case Interrupted:
		r.log.InfoContext(r.ctx, "job interrupted by the shutdown", "took", r.took(), "error", err)
	default:
		guard.Handle(r.ctx, Label(r.Name), err)
	}
	r.traced(o, err)
	r.pings.send(ping{ctx: r.ctx, kind: kindOf(o, err), run: r.id, log: r.lines})
}

func (s *Scheduler) record(r *run, o Outcome, err error, next State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := r.job
	j.state, j.ended, j.outcome, j.failure = next, wall(), o, ""
	j.runs[o]++
	switch {
	case o == Done:
		j.success = j.ended
	case err != nil:
		j.failure = errorText(err)
	}
}

// errorText is an error in one line and without secrets: it leaves the process.
func errorText(err error) string { return text.OneLine(dependency.Scrub(err.Error())) }

func (s *Scheduler) enter(j *job, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.state = state
}

func (r *run) took() string { return time.Since(r.began).Round(time.Microsecond).String() }
