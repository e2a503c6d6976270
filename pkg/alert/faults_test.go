package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/base-app/internal/faultserver"
	"example.com/base-app/pkg/fault"
)

// The secrets of everything.
var hidden = []string{"publicK3y", "R0UTINGk3y", "hooks3cret", "AAt0ken", "AP1key"}

// everything is all services, all at one address.
func everything(addr string) Options {
	return Options{DSN: "http://publicK3y@" + addr + "/42", PagerDuty: PagerDuty{"R0UTINGk3y", "http://" + addr}, Webhook: "http://" + addr + "/hooks3cret?hooks3cret",
		Telegram: Telegram{"4711:AAt0ken", "7", "http://" + addr}, Cronitor: Cronitor{"AP1key", "m", "http://" + addr}}
}

// sendAll sends n things to each service.
func sendAll(a *Alerts, n int) {
	for i := range n {
		a.Report(context.Background(), &fault.Error{Kind: fault.KindUnhandled, Subject: key27(i), Err: errors.New("boom")})
		a.Send(Alert{Key: fmt.Sprint(i), State: Open, Severity: Critical, Summary: "it is wrong"})
		a.Ping(Ping{State: "ok", Message: "well"})
	}
}

// key27 is a number in letters: digits don't make a fingerprint.
func key27(n int) string {
	s := ""
	for ; n > 0; n /= 26 {
		s += string(rune('a' + n%26))
	}
	return "w" + s
}

// Whatever is at the other end, the start, the work and the end of the app are not held up, memory stays bounded, what
// is lost is counted and told, and no secret is told along.
func TestNobodyIsHeldUpByWhoDoesNotListen(t *testing.T) {
	const (
		each   = 200 // more than any queue holds, fewer than the keys
		budget = 300 * time.Millisecond
		slack  = 8 * time.Second // a machine that is busy
		memory = 64 << 20
	)
	for _, f := range faultserver.Servers() {
		t.Run(f.Name, func(t *testing.T) {
			addr := f.Start(t)
			before, began := heap(), time.Now()
			a, log := open(t, everything(addr))
			sendAll(a, each)
			if took := time.Since(began); took > slack {
				t.Errorf("want the start and the telling at once, they took %v", took)
			}
			if grown := heap() - before; grown > memory {
				t.Errorf("want at most %d MiB held, have %d", memory>>20, grown>>20)
			}
			if f.Final {
				await(t, "all to be refused", func() bool { return stat(a, webhookName).Dropped+stat(a, webhookName).Sent == each })
			}
			began = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			_ = a.Close(ctx)
			if took := time.Since(began); took > budget+slack {
				t.Errorf("want the end within %v, it took %v", budget, took)
			}
			abandon(t, a)
			for _, s := range a.Stats() {
				total := s.Sent + s.Dropped
				want, sent := uint64(each), uint64(0)
				if f.Name == faultserver.Nonsense && (s.Service == webhookName || s.Service == cronitorName) {
					sent = s.Sent // any answer is a good one there
				}
				if total != want || s.Sent != sent {
					t.Errorf("%s: want %d dropped and counted, have %+v", s.Service, want, s)
				}
			}
			if lines := strings.Count(log.String(), "\n"); lines > len(a.senders) || lines == 0 {
				t.Errorf("want a line for each service at most, have %d:\n%s", lines, log)
			}
			for _, secret := range hidden {
				if strings.Contains(log.String(), secret) {
					t.Errorf("want no secret told, have %s in\n%s", secret, log)
				}
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Not even the error that is redacted later has the URL.
func TestNoErrorOfACallHasTheURL(t *testing.T) {
	with := surroundings(io.Discard)
	client, err := dial(with.Client, "x", policy())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faultserver.Servers() {
		if f.Name == "slow drip" || f.Name == "black hole" { // they take all the time that there is
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.Start(t)+"/hooks3cret", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = call(client, req); err != nil && strings.Contains(err.Error(), "hooks3cret") {
			t.Errorf("%s: want no URL, have %v", f.Name, err)
		}
	}
	client.CloseIdleConnections()
}

// When Telegram wants to be left alone for a while, it is: the one that waits is sent afterwards.
func TestTelegramsPauseIsKept(t *testing.T) {
	const pause = 3 * time.Second // longer than the sender waits by itself
	var first, again time.Time
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case !strings.HasSuffix(r.URL.Path, "/sendMessage"):
			<-r.Context().Done()
		case first.IsZero():
			first = time.Now()
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 3","parameters":{"retry_after":3}}`)
		default:
			again = time.Now()
			_, _ = io.WriteString(w, `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":7,"type":"group"},"text":"x"}}`)
		}
	}))
	defer s.Close()
	a, _ := open(t, Options{Telegram: Telegram{testToken, "7", s.URL}})
	a.Send(Alert{Key: "a", Summary: "x"})
	await(t, "the message to be sent", func() bool { return stat(a, telegramName).Sent == 1 })
	abandon(t, a)
	if waited := again.Sub(first); waited < pause {
		t.Errorf("want at least %v between the tries, have %v", pause, waited)
	}
}
