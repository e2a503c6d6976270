package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/worker"
)

func TestJobsRunAtTheirTimesInUTC(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("elsewhere", 5*60*60+30*60)
	defer func() { time.Local = local }()
	for spec, want := range map[string][]string{
		"30 2 * * 1-5":   {"03T02:30", "04T02:30", "05T02:30"}, // the 1st is a Saturday
		"0 12 1 jan *":   {"01T12:00"},
		"*/20 0-1 2 * *": {"02T00:00", "02T00:20", "02T00:40", "02T01:00", "02T01:20", "02T01:40"},
		"@daily":         {"02T00:00", "03T00:00", "04T00:00", "05T00:00"},
		"@every 36h":     {"02T12:00", "04T00:00", "05T12:00"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var have []string
			r := start(t, schedule.Options{}, schedule.Job{Name: "x", Spec: spec, Do: func(context.Context, *slog.Logger) error {
				have = append(have, time.Now().UTC().Format("02T15:04"))
				return nil
			}})
			r.after(5*24*time.Hour - time.Minute)
			r.end()
			if !slices.Equal(have, want) {
				t.Errorf("%s: want %v, have %v", spec, want, have)
			}
			if s := r.status("x"); s.Runs[schedule.Done] != uint64(len(want)) || s.LastSuccess != s.Ended || s.State != schedule.Waiting {
				t.Errorf("%s: have %+v", spec, s)
			}
		})
	}
}

func TestAJobNeverRunsTwiceAtOnceAndWhatIsSkippedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, most := 0, 0
		r := start(t, schedule.Options{}, schedule.Job{Name: "long", Spec: "@hourly", Timeout: 4 * time.Hour, Do: func(ctx context.Context, _ *slog.Logger) error {
			at++
			most = max(most, at)
			time.Sleep(150 * time.Minute)
			at--
			return nil
		}})
		r.after(7*time.Hour - time.Minute) // begins at 1 and 4, skips 2, 3, 5, 6
		r.wantRuns("long", map[schedule.Outcome]uint64{schedule.Done: 2, schedule.Skipped: 4})
		if most != 1 || r.log.Count(`level=WARN msg="job skipped, its last run has not ended" job=long state=running`) != 4 {
			t.Errorf("want one at a time and each skipped run told, have %d\n%s", most, r.log)
		}
	})
}

func TestAJobThatFailsIsToldAndRunsAgain(t *testing.T) {
	for what, c := range map[string]struct {
		do      func() error
		kind    fault.Kind
		says    string
		level   string
		reports int
	}{
		"an error":          {func() error { return errors.New("boom") }, fault.KindUnhandled, "job: x: boom", "ERROR", 2},
		"a panic":           {func() error { panic("boom") }, fault.KindPanic, "panic: job-x: boom", "ERROR", 2},
		"Goexit":            {func() error { runtime.Goexit(); return nil }, fault.KindUnhandled, "job: x: its goroutine was ended by runtime.Goexit", "ERROR", 2},
		"a dependency":      {func() error { return fault.Dependency("db", errors.New("gone")) }, fault.KindDependency, "dependency: db: gone", "WARN", 0},
		"that it was ended": {func() error { return fault.New(fault.KindStopped, "the end") }, fault.KindUnhandled, "job: x: the end", "ERROR", 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, schedule.Options{}, schedule.Job{Name: "x", Spec: "@hourly", Do: func(context.Context, *slog.Logger) error { return c.do() }})
			r.after(2*time.Hour + time.Minute)
			r.wantRuns("x", map[schedule.Outcome]uint64{schedule.Failed: 2})
			if s := r.status("x"); s.Error != c.says || s.Outcome != schedule.Failed || !s.LastSuccess.IsZero() {
				t.Errorf("%s: want %q, have %+v", what, c.says, s)
			}
			if len(r.reports) != c.reports || len(r.fails) != 0 || r.log.Count("level="+c.level+" msg=failed worker=job-x job=x") != 2 {
				t.Errorf("%s: want it told at %s and reported %d times, have %d and\n%s", what, c.level, c.reports, len(r.reports), r.log)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			r := start(t, schedule.Options{}, schedule.Job{Name: "x", Spec: "@hourly", Fatal: true, Do: func(context.Context, *slog.Logger) error { return c.do() }})
			r.after(time.Hour + time.Minute)
			if len(r.fails) != 1 {
				t.Fatalf("%s: want the process ended, have\n%s", what, r.log)
			}
			if err := <-r.fails; fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: want it ended by %v, %s, have %v, %v", what, c.kind, c.says, fault.Of(err), err)
			}
		})
	}
}

func TestATimeoutIsToldByTheContext(t *testing.T) {
	for what, c := range map[string]struct {
		err  func(context.Context) error
		says string
	}{
		"the bare reason": {func(ctx context.Context) error { return ctx.Err() }, "job: x: its timeout of 10m0s is over"},
		"its cause":       {func(ctx context.Context) error { return fmt.Errorf("read: %w", context.Cause(ctx)) }, "job: x: read: its timeout of 10m0s is over"},
		"another":         {func(context.Context) error { return errors.New("half done") }, "job: x: its timeout of 10m0s is over: half done"},
		"none":            {func(context.Context) error { return nil }, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, schedule.Options{}, schedule.Job{Name: "x", Spec: "@hourly", Timeout: 10 * time.Minute, Do: func(ctx context.Context, _ *slog.Logger) error {
				<-ctx.Done()
				return c.err(ctx)
			}})
			r.after(time.Hour + 11*time.Minute)
			want := schedule.TimedOut
			if c.says == "" {
				want = schedule.Done // it made it all the same
			}
			if s := r.status("x"); s.Outcome != want || s.Error != c.says || s.State != schedule.Waiting || s.Ended.Sub(s.Began) != 10*time.Minute {
				t.Errorf("%s: want %s and %q after 10 minutes, have %+v", what, want, c.says, s)
			}
		})
	}
}

// hangHere is what a stack shows of a job that hangs.
func hangHere(release <-chan struct{}) { <-release }

func TestAJobThatHangsIsToldOnceAndItsRunsAreSkippedUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := start(t, schedule.Options{}, schedule.Job{Name: "deaf", Spec: "@hourly", Timeout: time.Minute, Do: func(context.Context, *slog.Logger) error {
			hangHere(release)
			return errors.New("too late")
		}}, schedule.Job{Name: "other", Spec: "@hourly", Do: quick})
		r.after(time.Hour + time.Minute + 999*time.Millisecond)
		if s := r.status("deaf"); s.State != schedule.Running || len(r.reports) > 0 {
			t.Errorf("want a second's patience after the timeout, have %+v", s)
		}
		r.after(3 * time.Hour)
		r.wantRuns("deaf", map[schedule.Outcome]uint64{schedule.TimedOut: 1, schedule.Skipped: 3})
		r.wantRuns("other", map[schedule.Outcome]uint64{schedule.Done: 4})
		if s := r.status("deaf"); s.State != schedule.Hung || !strings.Contains(s.Error, "job: deaf: it hangs: its timeout of 1m0s is over") {
			t.Errorf("have %+v", s)
		}
		if len(r.reports) != 1 || len(r.fails) != 0 || r.log.Count("level=ERROR") != 1 || r.log.Count("level=WARN") != 0 || r.log.Count("schedule_test.hangHere") == 0 {
			t.Errorf("want it told once, with its stack, and no end of the process, have %d reports, %d ends and\n%s", len(r.reports), len(r.fails), r.log)
		}
		if err := <-r.reports; fault.Of(err) != fault.KindStuck {
			t.Errorf("want it stuck, have %v", fault.Of(err))
		}
		close(release)
		synctest.Wait()
		if s := r.status("deaf"); s.State != schedule.Waiting || r.log.Count(`level=WARN msg="a job that hung has come back"`) != 1 {
			t.Errorf("want it back, have %+v\n%s", s, r.log)
		}
		r.after(time.Hour)
		r.wantRuns("deaf", map[schedule.Outcome]uint64{schedule.TimedOut: 1, schedule.Skipped: 3, schedule.Failed: 1})
	})
}

func TestAFatalJobThatHangsEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		r := start(t, schedule.Options{}, schedule.Job{Name: "deaf", Spec: "@hourly", Timeout: time.Minute, Fatal: true, Do: func(context.Context, *slog.Logger) error {
			hangHere(release)
			return nil
		}})
		r.after(time.Hour + time.Minute + time.Second)
		if len(r.fails) != 1 {
			t.Fatalf("want the process ended, have\n%s", r.log)
		}
		if err := <-r.fails; fault.Of(err) != fault.KindStuck || !strings.Contains(string(fault.Stack(err)), "hangHere") {
			t.Errorf("want it stuck with its stack, have %v", err)
		}
	})
}

func TestTheShutdownEndsRunsAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		begun := 0
		r := start(t, schedule.Options{}, schedule.Job{Name: "slow", Spec: "@hourly", Timeout: time.Second, Do: func(ctx context.Context, _ *slog.Logger) error {
			<-ctx.Done()
			time.Sleep(10 * time.Second) // beyond its patience: once the shutdown has begun, that is the shutdown's matter
			last = time.Now()
			return ctx.Err()
		}}, schedule.Job{Name: "late", Spec: "@hourly", Jitter: 30 * time.Minute, Do: func(context.Context, *slog.Logger) error { begun++; return nil }})
		r.after(time.Hour)
		if s := r.status("late"); s.State != schedule.Delayed {
			t.Errorf("want its jitter not over, have %+v", s)
		}
		asked := time.Now()
		r.end()
		if took := last.Sub(asked); took != 10*time.Second || begun != 0 {
			t.Errorf("want the end when the run has ended, and none begun, have %v and %d", took, begun)
		}
		r.wantRuns("slow", map[schedule.Outcome]uint64{schedule.Interrupted: 1})
		r.wantRuns("late", map[schedule.Outcome]uint64{})
		if len(r.reports) > 0 || r.log.Count("level=ERROR")+r.log.Count("level=WARN") > 0 || r.log.Count(`level=INFO msg="job interrupted by the shutdown" worker=job-slow`) != 1 {
			t.Errorf("want no noise, have\n%s", r.log)
		}
		r.after(24 * time.Hour)
		r.wantRuns("slow", map[schedule.Outcome]uint64{schedule.Interrupted: 1})
	})
}

// The worker says what it waits for: the shutdown's dump shows that.
func TestTheWorkerIsParkedAndSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule.New(schedule.Options{Log: slog.New(slog.DiscardHandler)})
		release := make(chan struct{})
		if err := s.Add(schedule.Job{Name: "deaf", Spec: "@hourly", Do: func(context.Context, *slog.Logger) error { <-release; return nil }}); err != nil {
			t.Fatal(err)
		}
		w := worker.New("schedule")
		ctx, cancel := context.WithCancel(worker.NewContext(t.Context(), w))
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if place, parked := w.Parked(); !parked || place != "the next job's time" {
			t.Errorf("have %q, %t", place, parked)
		}
		cancel()
		synctest.Wait()
		if place, parked := w.Parked(); !parked || place != "the end of deaf" {
			t.Errorf("have %q, %t", place, parked)
		}
		close(release)
		<-ended
	})
}

func TestJitterDelaysWithinItsBounds(t *testing.T) {
	for spec, c := range map[string]struct{ jitter, most time.Duration }{
		"@hourly":     {10 * time.Minute, 10 * time.Minute},
		"0 */2 * * *": {24 * time.Hour, time.Hour}, // at most half of the time to the next run: none is skipped
	} {
		synctest.Test(t, func(t *testing.T) {
			delays := map[time.Duration]bool{}
			r := start(t, schedule.Options{}, schedule.Job{Name: "x", Spec: spec, Jitter: c.jitter, Do: func(context.Context, *slog.Logger) error {
				now := time.Now()
				delay := now.Sub(now.Truncate(time.Hour))
				if now.UTC().Hour()%2 == 1 && c.most == time.Hour {
					delay += time.Hour
				}
				if delay > c.most {
					t.Errorf("%s: delayed by %v, want at most %v", spec, delay, c.most)
				}
				delays[delay] = true
				return nil
			}})
			r.after(10*24*time.Hour + 30*time.Minute)
			if s := r.status("x"); s.Runs[schedule.Skipped] != 0 || len(delays) < 100 {
				t.Errorf("%s: want none skipped and all different, have %d delays, %v", spec, len(delays), s.Runs)
			}
		})
	}
}

func TestAJobCanBeAddedWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, schedule.Options{}, schedule.Job{Name: "daily", Spec: "@daily", Do: quick})
		r.after(30 * time.Second) // the next look would be in half a minute
		if err := r.Add(schedule.Job{Name: "soon", Spec: "@every 2s", Do: quick}); err != nil {
			t.Fatal(err)
		}
		r.after(5 * time.Second)
		r.wantRuns("soon", map[schedule.Outcome]uint64{schedule.Done: 2})
	})
}

func TestARunIsTracedAndNamedInItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var told []string
		trace := func(ctx context.Context, job, run string) (context.Context, func(schedule.Outcome, error)) {
			return context.WithValue(ctx, key{}, run), func(o schedule.Outcome, err error) { told = append(told, fmt.Sprint(job, " ", o, " ", err)) }
		}
		var ids []string
		r := start(t, schedule.Options{Trace: trace}, schedule.Job{Name: "x", Spec: "@hourly", Timeout: time.Minute, Do: func(ctx context.Context, log *slog.Logger) error {
			ids = append(ids, ctx.Value(key{}).(string))
			log.Info("hello")
			if have := worker.FromContext(ctx).Name(); have != "job-x" {
				t.Errorf("want the job's own worker, have %s", have)
			}
			if len(ids) == 2 {
				time.Sleep(time.Hour / 2) // it hangs, and comes back: that is one run
			}
			return nil
		}})
		r.after(2*time.Hour + 45*time.Minute)
		want := []string{"x done <nil>", "x timeout job: x: it hangs: its timeout of 1m0s is over, and 1s later it has not come back; its next runs are skipped until it has"}
		if !slices.Equal(told, want) {
			t.Errorf("want %q, have %q", want, told)
		}
		if len(ids) != 2 || ids[0] == ids[1] || r.log.Count("msg=hello worker=job-x job=x run_id="+ids[0]) != 1 {
			t.Errorf("want an id for each run, and in its lines, have %q\n%s", ids, r.log)
		}
	})
}

func TestWhatIsWrongWithAJobIsSaid(t *testing.T) {
	client := &service{}
	for what, c := range map[string]struct {
		job  schedule.Job
		kind fault.Kind
		says string
	}{
		"no name":          {schedule.Job{Spec: "@daily", Do: quick}, fault.KindUnhandled, `job "": a name has 1 to 64`},
		"a long name":      {schedule.Job{Name: strings.Repeat("x", 65), Spec: "@daily", Do: quick}, fault.KindUnhandled, "a name has 1 to 64"},
		"a bad name":       {schedule.Job{Name: "a job", Spec: "@daily", Do: quick}, fault.KindUnhandled, `job "a job": a name has`},
		"a taken name":     {schedule.Job{Name: "taken", Spec: "@daily", Do: quick}, fault.KindUnhandled, `job "taken": the name is taken`},
		"nothing to do":    {schedule.Job{Name: "x", Spec: "@daily"}, fault.KindUnhandled, "there is nothing to do"},
		"a bad timeout":    {schedule.Job{Name: "x", Spec: "@daily", Do: quick, Timeout: -1}, fault.KindUnhandled, "negative"},
		"a bad jitter":     {schedule.Job{Name: "x", Spec: "@daily", Do: quick, Jitter: -1}, fault.KindUnhandled, "negative"},
		"no spec":          {schedule.Job{Name: "x", Do: quick}, fault.KindConfig, `job "x": the spec ""`},
		"four fields":      {schedule.Job{Name: "x", Spec: "* * * *", Do: quick}, fault.KindConfig, `job "x": the spec "* * * *": expected exactly 5 fields`},
		"seconds":          {schedule.Job{Name: "x", Spec: "0 * * * * *", Do: quick}, fault.KindConfig, "expected exactly 5 fields"},
		"no such minute":   {schedule.Job{Name: "x", Spec: "60 * * * *", Do: quick}, fault.KindConfig, "above maximum"},
		"no such day":      {schedule.Job{Name: "x", Spec: "0 0 31 2 *", Do: quick}, fault.KindConfig, "there is no such time"},
		"an empty list":    {schedule.Job{Name: "x", Spec: ", * * * *", Do: quick}, fault.KindConfig, "there is no such time"},
		"a zone":           {schedule.Job{Name: "x", Spec: "TZ=Europe/Berlin 0 2 * * *", Do: quick}, fault.KindConfig, "times are UTC"},
		"half a zone":      {schedule.Job{Name: "x", Spec: "CRON_TZ=", Do: quick}, fault.KindConfig, "times are UTC"},
		"a short interval": {schedule.Job{Name: "x", Spec: "@every 1ms", Do: quick}, fault.KindConfig, "the shortest interval is 1s"},
		"a negative one":   {schedule.Job{Name: "x", Spec: "@every -10m", Do: quick}, fault.KindConfig, "the shortest interval is 1s"},
		"no interval":      {schedule.Job{Name: "x", Spec: "@every day", Do: quick}, fault.KindConfig, "day"},
		"a bad word":       {schedule.Job{Name: "x", Spec: "@reboot", Do: quick}, fault.KindConfig, "@reboot"},
		"no URL":           {schedule.Job{Name: "x", Spec: "@daily", Do: quick, Ping: config.NewSecret("hc-ping.com/s3cret")}, fault.KindConfig, "not an http:// or https:// URL"},
		"a broken URL":     {schedule.Job{Name: "x", Spec: "@daily", Do: quick, Ping: config.NewSecret("https://hc-ping.com/s3cret\x7f")}, fault.KindConfig, "not an http:// or https:// URL"},
	} {
		s := schedule.New(schedule.Options{Client: client.client})
		if err := s.Add(schedule.Job{Name: "taken", Spec: "@daily", Do: quick}); err != nil {
			t.Fatal(err)
		}
		err := s.Add(c.job)
		if err == nil || fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(fmt.Sprint(err, fault.Hint(err)), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: want %s, %q, have %s, %v", what, c.kind, c.says, fault.Of(err), err)
		}
		if (fault.Hint(err) == "") != (c.kind != fault.KindConfig) {
			t.Errorf("%s: want a hint for what a setting can say, have %q", what, fault.Hint(err))
		}
		if n := len(s.List()); n != 1 {
			t.Errorf("%s: want it left out, have %d jobs", what, n)
		}
	}
	s := schedule.New(schedule.Options{})
	for i := range schedule.MaxJobs {
		if err := s.Add(schedule.Job{Name: fmt.Sprint(i), Spec: "@daily", Do: quick}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(schedule.Job{Name: "x", Spec: "@daily", Do: quick}); err == nil || !strings.Contains(err.Error(), "64 already") {
		t.Errorf("want one too many refused, have %v", err)
	}
}
