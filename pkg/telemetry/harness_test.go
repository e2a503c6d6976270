package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/internal/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a step may take that should be immediate: the machine may be busy.
const patience = 10 * time.Second

// open returns a Telemetry with a log, which is closed when the test ends.
func open(t testing.TB, o Options) (*Telemetry, *testlog.Log) {
	t.Helper()
	log := &testlog.Log{}
	o.App, o.Device, o.Version, o.Commit, o.Go, o.Deployment = "shop", "box-1", "1.2.3", "abc", "go1", "blue"
	o.Log = log.Logger(slog.LevelInfo)
	tel, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(tel) })
	return tel, log
}

func closeNow(tel *Telemetry) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = tel.Close(now)
	if tel != nil {
		tel.ending.Wait()
	}
}

func flush(t *testing.T, tel *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tel.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// get makes a request, within a trace unless it is empty.
func get(t *testing.T, url, traceParent string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if traceParent != "" {
		r.Header.Set("Traceparent", traceParent)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}
