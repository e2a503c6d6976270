//go:build long

package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/base-app/internal/faultserver"
)

// outbound switches on all that calls out, all to one address.
func outbound(addr string) []string {
	url := "http://" + addr
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + url, "OTEL_METRIC_EXPORT_INTERVAL=200", "OTEL_BSP_SCHEDULE_DELAY=200",
		"INFLUX_URL=" + url, "INFLUX_TOKEN=t", "INFLUX_BUCKET=b", "STATSD_ADDR=" + addr, "METRICS_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=tcp://" + addr,
		"SENTRY_DSN=http://public@" + addr + "/42", "PAGERDUTY_ROUTING_KEY=R0UTING", "PAGERDUTY_URL=" + url, "WEBHOOK_URL=" + url + "/hook",
		"TELEGRAM_TOKEN=4711:AAbb", "TELEGRAM_CHAT_ID=7", "TELEGRAM_URL=" + url, "CRONITOR_API_KEY=key", "CRONITOR_MONITOR_KEY=shop", "CRONITOR_URL=" + url}
}

// With all that calls out broken at once, each way in which it can be, the app starts, works and ends as it does without any:
// docs/operations.md promises it.
func TestNothingOutboundHoldsUpTheApp(t *testing.T) {
	const (
		startTime = 2 * time.Second // more than without
		endTime   = 8 * time.Second
		ratio     = 3
		memory    = 192 << 10 // KiB more than without; the race detector alone takes the most of it
	)
	alone := newRecorder(t, t.TempDir())
	alone.path = program(t, "broken")
	base := launchOutbound(alone)
	for _, f := range faultserver.Servers() {
		t.Run(f.Name, func(t *testing.T) {
			r := newRecorder(t, t.TempDir(), outbound(f.Start(t))...)
			r.path = alone.path
			if took := launchOutbound(r); took > base+startTime {
				t.Errorf("want a start as quick as %v, have %v", base, took)
			}
			best := [2]time.Duration{time.Hour, time.Hour}
			for range 3 { // in turns, and the best counts: the machine is not ours alone
				best[0], best[1] = min(best[0], medianPost(t, alone)), min(best[1], medianPost(t, r))
			}
			if best[1] > ratio*best[0] {
				t.Errorf("want an event accepted as quickly as alone, %v, have %v", best[0], best[1])
			}
			t.Logf("accepted within %v, %v alone", best[1], best[0])
			if more := residentOf(t, r.cmd.Process.Pid) - residentOf(t, alone.cmd.Process.Pid); more > memory {
				t.Errorf("want at most %d KiB more than alone, have %d", memory, more)
			}
			began := time.Now()
			r.stop()
			if took := time.Since(began); took > endTime {
				t.Errorf("want the end within %v, have %v:\n%s", endTime, took, r.log())
			}
			for _, secret := range []string{"R0UTING", "AAbb", "public@"} {
				if strings.Contains(r.log(), secret) {
					t.Errorf("want no secret in the log, have %s in\n%s", secret, r.log())
				}
			}
		})
	}
	alone.stop()
}

// launchOutbound starts it and returns how long that took.
func launchOutbound(r *recorder) time.Duration {
	r.t.Helper()
	began := time.Now()
	r.start()
	r.ready()
	return time.Since(began)
}

// medianPost posts events, one of ten for a handler that panics, and returns how long an answer took.
func medianPost(t *testing.T, r *recorder) time.Duration {
	t.Helper()
	const n = 50
	client := http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var took []time.Duration
	for i := range n {
		body := "{}"
		if i%10 == 0 {
			body = `{"do":"handler panics"}`
		}
		began := time.Now()
		answer, err := client.Post("http://"+r.addr+"/events", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[n/2]
}
