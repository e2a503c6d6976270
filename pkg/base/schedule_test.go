package base

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/schedule"
)

func TestRetentionRemovesWhatIsOldAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "dumps", "old.txt"), filepath.Join(dir, "dumps", "young.txt")
	for path, age := range map[string]time.Duration{old: KeepFor + time.Hour, young: KeepFor - time.Hour} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	code, _, said := call(t, func(rt *Runtime) error {
		list := rt.jobs.List()
		if len(list) != 1 || list[0].Name != "retention" || list[0].Spec != "@daily" {
			t.Errorf("want every app to have the job, once a day, have %+v", list)
		}
		var log bytes.Buffer
		if err := rt.retain(rt.Context(), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "files=1") {
			t.Errorf("want it told, have %s", &log)
		}
		return nil
	}, []string{"DATA_DIR=" + dir})
	if code != 0 {
		t.Fatalf("have %d, %s", code, said)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("want the old dump gone")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("want the young dump kept")
	}
}

// A job's end comes before the hooks: what it uses is still there.
func TestHooksComeAfterTheJobs(t *testing.T) {
	var job, hook time.Time
	code, _, said := call(t, func(rt *Runtime) error {
		rt.OnStop("hook", time.Second, func(context.Context) error { hook = time.Now(); return nil })
		began := make(chan struct{})
		rt.Schedule(schedule.Job{Name: "slow", Spec: "@every 1s", Do: func(ctx context.Context, _ *slog.Logger) error {
			close(began)
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond)
			job = time.Now()
			return ctx.Err()
		}})
		<-began
		return nil
	}, nil)
	if code != 0 || job.IsZero() || hook.Before(job) {
		t.Errorf("want exit 0 and the hook after the job, have %d, %v, %v, %s", code, job, hook, said)
	}
}

// report does a job once, which pings url.
func report(rt *Runtime, url string) {
	rt.Schedule(schedule.Job{Name: "report", Spec: "@every 1s", Ping: config.NewSecret(url), Do: func(context.Context, *slog.Logger) error { return nil }})
	for pings := (*schedule.Pings)(nil); pings == nil || pings.Sent == 0; pings = rt.jobs.List()[1].Pings {
		time.Sleep(time.Millisecond) // its first run begins within a second
	}
}

func TestAJobThatDoesNothingEndsTheProcess(t *testing.T) {
	code, out, _ := call(t, func(rt *Runtime) error {
		rt.Schedule(schedule.Job{Name: "report", Spec: "@daily"})
		return rt.Wait()
	}, nil)
	if code != 1 || !strings.Contains(out, "there is nothing to do") {
		t.Errorf("have %d\n%s", code, out)
	}
}
