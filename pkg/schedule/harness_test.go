package schedule_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/internal/testlog"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/schedule"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/web"
)

func TestMain(m *testing.M) {
	stack.ShowLabels()
	goleak.VerifyTestMain(m)
}

// rig is a Scheduler in virtual time, and what everybody hears of it. Its time begins at midnight UTC, of 2000-01-01.
type rig struct {
	*schedule.Scheduler
	t       *testing.T
	log     *testlog.Log
	reports chan error
	fails   chan error
	stop    context.CancelFunc
	ended   chan struct{} // Run has returned
}

// start runs the jobs until the test ends.
func start(t *testing.T, o schedule.Options, jobs ...schedule.Job) *rig {
	t.Helper()
	r := &rig{t: t, log: &testlog.Log{}, reports: make(chan error, 100), fails: make(chan error, 100), ended: make(chan struct{})}
	o.Log = r.log.Logger(slog.LevelDebug)
	o.Report = func(_ context.Context, err *fault.Error) { r.reports <- err }
	o.Fail = func(err error) { r.fails <- err }
	r.Scheduler = schedule.New(o)
	for _, j := range jobs {
		if err := r.Add(j); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.ended)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { r.end() })
	return r
}

// end stops the Scheduler as a shutdown does.
func (r *rig) end() {
	r.stop()
	<-r.ended
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = r.Close(ctx)
}

// after lets so much time pass, and all that happens in it.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) status(name string) schedule.Status {
	r.t.Helper()
	for _, s := range r.List() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no job %s is in the list", name)
	return schedule.Status{}
}

// wantRuns compares the counts of a job's runs.
func (r *rig) wantRuns(name string, want map[schedule.Outcome]uint64) {
	r.t.Helper()
	if have := r.status(name).Runs; fmt.Sprint(have) != fmt.Sprint(want) {
		r.t.Errorf("%s: want %v, have %v", name, want, have)
	}
}

func quick(context.Context, *slog.Logger) error { return nil }

// service is a healthchecks.io without a network, so that it lives in virtual time.
type service struct {
	mu     sync.Mutex
	pings  []request
	answer func(*http.Request, int) (int, string, error) // the second is which request it is; nil: OK
}

type request struct {
	at                           time.Time
	method, path, rid, key, body string
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.pings = append(s.pings, request{time.Now(), r.Method, r.URL.Path, r.URL.Query().Get("rid"), r.Header.Get("Idempotency-Key"), string(body)})
	n, answer := len(s.pings), s.answer
	s.mu.Unlock()
	status, text := http.StatusOK, "OK"
	if answer != nil {
		if status, text, err = answer(r, n); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Request: r}, nil
}

func (s *service) all() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.pings...)
}

// kinds are the ends of the paths behind the check's.
func (s *service) kinds() string {
	var list []string
	for _, p := range s.all() {
		list = append(list, strings.TrimPrefix(p.path, "/check"))
	}
	return strings.Join(list, " ")
}

// client is the one that an app would have, with the service behind it.
func (s *service) client() (*web.Client, error) {
	d, err := dependency.New(dependency.Options{}).Add("job-pings", schedule.PingPolicy())
	if err != nil {
		return nil, err
	}
	return web.NewClient(d, web.ClientOptions{Wrap: func(http.RoundTripper) http.RoundTripper { return s }}), nil
}
