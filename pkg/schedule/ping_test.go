package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/schedule"
)

// check is the address of a check, with something in each of its parts that must not be seen.
var check = config.NewSecret("https://hc-ping.example/check/?token=s3cret-query")

// pinged returns a job that does do each hour and pings the check.
func pinged(do func(context.Context, *slog.Logger) error) schedule.Job {
	return schedule.Job{Name: "report", Spec: "@hourly", Timeout: 10 * time.Minute, Ping: check, Do: do}
}

func TestTheCheckHearsOfEachRun(t *testing.T) {
	killed := exec.CommandContext(t.Context(), "sh", "-c", "exit 7").Run()
	for what, c := range map[string]struct {
		do          func(context.Context, *slog.Logger) error
		kinds, body string
	}{
		"done":     {func(_ context.Context, log *slog.Logger) error { log.Info("sent", "reports", 3); return nil }, "/start ", `level=INFO msg=sent reports=3`},
		"failed":   {func(context.Context, *slog.Logger) error { return errors.New("boom") }, "/start /fail", `level=ERROR msg=failed subject=job-report kind=unhandled error="job: report: boom"`},
		"an exit":  {func(context.Context, *slog.Logger) error { return fmt.Errorf("report: %w", killed) }, "/start /7", "exit status 7"},
		"a panic":  {func(context.Context, *slog.Logger) error { panic("boom") }, "/start /fail", "panic: job-report: boom"},
		"too long": {func(ctx context.Context, _ *slog.Logger) error { <-ctx.Done(); return ctx.Err() }, "/start /fail", "its timeout of 10m0s is over"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{}
			r := start(t, schedule.Options{Client: s.client}, pinged(c.do))
			r.after(time.Hour + 30*time.Minute)
			all := s.all()
			if have := s.kinds(); have != c.kinds {
				t.Fatalf("%s: want %q, have %q", what, c.kinds, have)
			}
			begin, end := all[0], all[1]
			if _, err := uuid.Parse(begin.rid); err != nil || begin.rid != end.rid || begin.body != "" || begin.key == end.key || begin.method != http.MethodPost {
				t.Errorf("%s: want the same run's id in both, and no body at first, have %+v", what, all)
			}
			if !strings.Contains(end.body, c.body) {
				t.Errorf("%s: want %s in\n%s", what, c.body, end.body)
			}
			if p := r.status("report").Pings; p.Sent != 2 || p.Failed != 0 || p.Dropped != 0 {
				t.Errorf("%s: have %+v", what, p)
			}
		})
	}
}

func TestTheCheckHearsOfAHangAndOfTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, release := &service{}, make(chan struct{})
		r := start(t, schedule.Options{Client: s.client}, pinged(func(context.Context, *slog.Logger) error { <-release; return nil }))
		r.after(time.Hour + 11*time.Minute)
		if have := s.kinds(); have != "/start /fail" || !strings.Contains(s.all()[1].body, "it hangs") {
			t.Errorf("have %q", have)
		}
		close(release)
		r.after(time.Minute)
		if have := s.kinds(); have != "/start /fail" {
			t.Errorf("want nothing more when it is back, have %q", have)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		r := start(t, schedule.Options{Client: s.client}, pinged(func(ctx context.Context, _ *slog.Logger) error { <-ctx.Done(); return ctx.Err() }))
		r.after(time.Hour + time.Minute)
		r.end()
		if have := s.kinds(); have != "/start /log" || !strings.Contains(s.all()[1].body, "job interrupted by the shutdown") {
			t.Errorf("want neither success nor failure, have %q", have)
		}
	})
}

func TestAPingIsTriedAgainAndNeverHoldsUpTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(_ *http.Request, n int) (int, string, error) {
			switch n {
			case 1:
				return 0, "", errors.New("connection reset")
			case 2, 3:
				return http.StatusServiceUnavailable, "", nil
			}
			return http.StatusOK, "OK", nil
		}}
		r := start(t, schedule.Options{Client: s.client}, pinged(func(context.Context, *slog.Logger) error { time.Sleep(time.Second); return nil }))
		r.after(time.Hour + 10*time.Minute)
		if have := s.kinds(); have != "/start /start /start /start " {
			t.Errorf("want it tried until it arrives, and then the next, have %q", have)
		}
		if have := r.status("report"); have.Ended.Sub(have.Began) != time.Second || have.Pings.Sent != 2 || have.Pings.Failed != 0 {
			t.Errorf("want the run undisturbed, have %+v, %+v", have, have.Pings)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(r *http.Request, _ int) (int, string, error) {
			<-r.Context().Done()
			return 0, "", r.Context().Err()
		}} // a black hole
		j := pinged(func(context.Context, *slog.Logger) error { return nil })
		j.Spec = "@every 10s"
		r := start(t, schedule.Options{Client: s.client}, j)
		r.after(10*time.Minute + time.Second)
		have := r.status("report")
		if have.Runs[schedule.Done] != 60 || len(have.Runs) != 1 {
			t.Errorf("want all runs, have %v", have.Runs)
		}
		// One is under way, and six may wait.
		if p := have.Pings; p.Sent != 0 || p.Failed < 5 || p.Dropped < 5 || p.Failed+p.Dropped > 120 || p.Failed+p.Dropped < 120-1-6 {
			t.Errorf("want some given up, others dropped and all counted, have %+v", p)
		}
		if n := r.log.Count(`msg="the ping of a job did not arrive"`); n < 5 || n > 10 {
			t.Errorf("want it told once a minute at most, have %d", n)
		}
	})
}

func TestAPanicInAPingIsAFailureOfThePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(_ *http.Request, n int) (int, string, error) {
			if n == 1 {
				panic("in the client")
			}
			return http.StatusOK, "OK", nil
		}}
		r := start(t, schedule.Options{Client: s.client}, pinged(quick))
		r.after(time.Hour + time.Minute)
		if p := r.status("report").Pings; p.Sent != 1 || p.Failed != 1 {
			t.Errorf("want the other one sent, have %+v", p)
		}
		if r.log.Count("panic: ping of job report: in the client") != 1 {
			t.Errorf("want it told, have\n%s", r.log)
		}
	})
}

func TestAnAnswerThatSaysNoIsAFailureOfThePing(t *testing.T) {
	for what, c := range map[string]struct {
		status int
		text   string
		says   string
	}{
		"a check that is gone":  {200, "OK (not found)", "the check answers: not found"},
		"too many":              {200, "OK (rate limited)", "the check answers: rate limited"},
		"a slug that is gone":   {404, "not found", "answered 404 Not Found"},
		"somebody else's page":  {403, "<html>", "answered 403 Forbidden"},
		"what we don't know of": {200, "Thank you", ""},
		"nothing":               {204, "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: func(*http.Request, int) (int, string, error) { return c.status, c.text, nil }}
			r := start(t, schedule.Options{Client: s.client}, pinged(quick))
			r.after(time.Hour + time.Minute)
			p, want := r.status("report").Pings, schedule.Pings{Failed: 2}
			if c.says == "" {
				want = schedule.Pings{Sent: 2}
			}
			if *p != want || len(s.all()) != 2 || c.says != "" && r.log.Count(c.says) != 1 {
				t.Errorf("%s: want %+v and %q once, have %+v\n%s", what, want, c.says, p, r.log)
			}
		})
	}
}

// Whatever goes wrong, neither the address of the check nor a job's secrets stand in a log, an error or a body.
func TestNoSecretIsShown(t *testing.T) {
	for _, answer := range []func(*http.Request, int) (int, string, error){
		nil,
		func(r *http.Request, _ int) (int, string, error) { return 0, "", fmt.Errorf("dial %s: refused", r.URL) },
		func(*http.Request, int) (int, string, error) { return 404, "https://hc-ping.example/check", nil },
		func(*http.Request, int) (int, string, error) { return 500, "", nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: answer}
			r := start(t, schedule.Options{Client: s.client}, schedule.Job{Name: "report", Spec: "@hourly", Ping: config.NewSecret("https://u:s3cret-user@hc-ping.example/s3cret-path?x=s3cret-query"),
				Do: func(_ context.Context, log *slog.Logger) error {
					log.Info("calling", "url", "https://api.example/s3cret-path", "body", []byte(`{"password":"s3cret with a space"}`), "key", config.NewSecret("s3cret"))
					log.Info("login", "password", "s3cret")
					log.Info(`parse "https://api.example/a s3cret": invalid`)
					return errors.New(`Get "https://api.example/?key=s3cret": EOF`)
				}})
			r.after(time.Hour + 10*time.Minute)
			seen := fmt.Sprintf("%+v", r.List())
			for line := range strings.Lines(r.log.String()) {
				if strings.Contains(line, "the ping of a job") || strings.Contains(line, "hc-ping") {
					seen += line
				}
			}
			for _, p := range s.all() {
				seen += p.body
			}
			if strings.Contains(seen, "s3cret") {
				t.Errorf("have\n%s", seen)
			}
			if answer == nil && strings.Count(seen, "[redacted]") < 3 {
				t.Errorf("want what was said, without the secrets, have\n%s", seen)
			}
		})
	}
}

func TestABodyHoldsTheLastLinesWithinItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		r := start(t, schedule.Options{Client: s.client}, pinged(func(_ context.Context, log *slog.Logger) error {
			for i := range 1000 {
				log.Info("line", "n", i, "text", strings.Repeat("ä", i%3000))
			}
			log.Info("long", "text", strings.Repeat("x", 100_000))
			return nil
		}))
		r.after(time.Hour + time.Minute)
		body := s.all()[1].body
		if len(body) > 10_000 || len(body) < 4000 || !strings.HasPrefix(body, "…\n") || !strings.Contains(body, "n=999 ") || strings.Contains(body, "n=1 ") || !strings.HasSuffix(body, "took=0s\n") {
			t.Errorf("want the last lines in 10 kB, have %d bytes\n%.300s", len(body), body)
		}
	})
}

func TestTheEndWaitsForPingsWithinItsBudget(t *testing.T) {
	for what, c := range map[string]struct {
		takes  time.Duration
		budget time.Duration
		lost   string
	}{
		"a slow service": {time.Second, 5 * time.Second, ""},
		"a black hole":   {time.Hour, 2 * time.Second, "schedule: 2 pings could not be sent"},
		"no time at all": {time.Second, 0, "schedule: 2 pings could not be sent"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: func(r *http.Request, _ int) (int, string, error) {
				select {
				case <-time.After(c.takes):
					return http.StatusOK, "OK", nil
				case <-r.Context().Done():
					return 0, "", r.Context().Err()
				}
			}}
			r := start(t, schedule.Options{Client: s.client}, pinged(quick))
			r.after(time.Hour)
			r.stop()
			<-r.ended
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), c.budget)
			defer cancel()
			said := ""
			if err := r.Close(ctx); err != nil {
				said = err.Error()
			}
			if took := time.Since(began); said != c.lost || took > c.budget {
				t.Errorf("%s: want %q within %v, have %q after %v", what, c.lost, c.budget, said, took)
			}
			if c.lost != "" {
				if p := r.status("report").Pings; p.Failed+p.Dropped != 2 {
					t.Errorf("%s: want both counted, have %+v", what, p)
				}
			}
		})
	}
}
