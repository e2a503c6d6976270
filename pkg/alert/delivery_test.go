package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/web"
)

// Whoever asks hears what became of beginnings and ends: only an answer of the service makes one taken.
func TestWhatBecameOfAnAlertIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChat(2, 2)
		var mu sync.Mutex
		var heard []string
		d.outcome = func(_ string, it item, f Fate) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprint(it.key, []string{"", " open", " over"}[it.state], []string{" lost", " taken", " refused"}[f]))
		}
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(heard, want) {
				t.Errorf("want %q, have %q", want, heard)
			}
			heard = nil
		}
		away := func() error { return errors.New("away") }
		d.open()
		d.be(away)
		d.post("a", Open, "")
		check() // it is tried
		d.post("b", Open, "")
		d.post("c", Open, "")
		d.post("d", Open, "")
		check("b open lost")
		d.be(func() error { return nil })
		time.Sleep(time.Minute)
		check("a open taken", "c open taken", "d open taken")
		d.post("b", Open, "") // again: it is news, since it was lost
		check("b open taken")
		d.be(func() error { return outbox.Final(errors.New("no")) })
		d.post("b", Over, "")
		check("b over refused")
		d.be(func() error { return nil })
		for range 2 {
			d.post("e", Open, "")
			synctest.Wait()
			d.post("e", Over, "")
			synctest.Wait()
		}
		check("e open taken", "e over taken", "e over taken") // the last one of which was told before
		d.be(away)
		d.post("f", Open, "")
		_ = d.Close(t.Context())
		check("f open lost")
	})
}

// What Sentry could not be sent before the end is a file, whether it refuses to talk or hangs.
func TestWhatSentryCouldNotBeSentIsAFile(t *testing.T) {
	for name, hangs := range map[string]bool{"away": false, "hangs": true} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the one who asks has ended
			if hangs {
				<-r.Context().Done()
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		t.Cleanup(s.Close)
		dir := t.TempDir()
		a, _ := open(t, Options{DSN: strings.Replace(s.URL, "://", "://public@", 1) + "/42", Dir: dir})
		for i := range 3 {
			a.Report(t.Context(), &fault.Error{Kind: fault.KindUnhandled, Subject: string(rune('a' + i)), Err: errors.New("boom")})
		}
		a.Feedback(web.Feedback{ReportID: reportID, Comment: "I only clicked"})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		_ = a.Close(ctx)
		cancel()
		abandon(t, a)
		list, _ := filepath.Glob(filepath.Join(dir, "errors", "*.json"))
		all := ""
		for _, f := range list {
			text, _ := os.ReadFile(f)
			all += string(text)
		}
		if len(list) != 4 || strings.Count(all, "boom") < 3 || !strings.Contains(all, "I only clicked") {
			t.Errorf("%s: want three events and what a person wrote, have %d files:\n%s", name, len(list), all)
		}
		if st := stat(a, sentryName); st.Dropped != 4 {
			t.Errorf("%s: want them counted, have %+v", name, st)
		}
	}
}

// What waits is no larger than what is sent, however long the texts are.
func TestWhatWaitsIsBounded(t *testing.T) {
	const memory = 48 << 20
	huge := func(i int) string { return key27(i) + strings.Repeat("x", 8<<20) }
	before := heap()
	a, err := New(identified(Options{DSN: "http://public@127.0.0.1:1/42", PagerDuty: PagerDuty{"R", "http://127.0.0.1:1"}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abandon(t, a) })
	for i := range eventQueue / 4 {
		a.Report(t.Context(), &fault.Error{Kind: fault.KindUnhandled, Subject: key27(i), Err: errors.New(huge(i))})
		for _, attr := range []slog.Attr{slog.String("stack", huge(i)), slog.String("cause", huge(i)), slog.String("subject", huge(i))} {
			r := slog.NewRecord(time.Now(), slog.LevelError, huge(i), 0)
			r.AddAttrs(attr)
			a.Record(t.Context(), r)
		}
		a.Send(Alert{Key: huge(i), State: Open, Severity: Critical, Summary: huge(i), Details: map[string]string{"error": huge(i), huge(i): ""}})
	}
	if grown := heap() - before; grown > memory {
		t.Errorf("want at most %d MiB held, have %d", memory>>20, grown>>20)
	}
	if n := a.errors.box.Stats().Waiting; n == 0 || a.pager.box.Stats().Waiting == 0 {
		t.Errorf("want it waiting, have %d", n)
	}
}

// A text that is clipped before its secrets are looked for ends before a word that would be half there.
func TestACutLeavesNoHalfSecret(t *testing.T) {
	text := strings.Repeat("word ", 10) + "postgres://user:s3cret@db/x and more"
	for n := range len(text) {
		have := cut(text, n)
		if len(have) > n+len("…") || n > 55 && n < 78 && strings.Contains(have, "postgres") {
			t.Errorf("at %d: have %q", n, have)
		}
	}
	if cut(text, len(text)) != text {
		t.Error("want what fits left alone")
	}
	if have := cut(strings.Repeat("x", 1000), 500); len(have) != 500+len("…") {
		t.Errorf("want a text without words cut, too, have %d", len(have))
	}
}

// The password in an old DSN is a secret like its key.
func TestThePasswordOfADSNIsASecret(t *testing.T) {
	o := Options{DSN: "https://publicK3y:oldS3cret@sentry.example/42", Webhook: "https://user:hookPassw0rd@hooks.example/"}
	for _, secret := range []string{"publicK3y", "oldS3cret", "hookPassw0rd"} {
		if have := redactor(o.secrets())("it said " + secret + " to us"); strings.Contains(have, secret) {
			t.Errorf("want it hidden, have %s", have)
		}
	}
}
