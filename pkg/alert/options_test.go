package alert

import (
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
)

// A wrong setting is told by its name and what to write, and never by its value.
func TestAWrongSettingIsToldByItsNameAlone(t *testing.T) {
	const secret = "s3cret"
	for _, c := range []struct {
		setting string
		o       Options
	}{
		{"SENTRY_DSN", Options{DSN: secret}},
		{"SENTRY_DSN", Options{DSN: "https://" + secret + "@host/project"}},
		{"SENTRY_DSN", Options{DSN: "https://" + secret + "@host"}},
		{"SENTRY_DSN", Options{DSN: "ftp://" + secret + "@host/42"}},
		{"SENTRY_DSN", Options{DSN: "https://" + secret + "@host:x/42"}},
		{"SENTRY_DSN", Options{DSN: "https://host/" + secret}},
		{"SENTRY_DSN", Options{DSN: "https://" + secret + "\x00@host/42"}},
		{"SENTRY_ENVIRONMENT", Options{Environment: secret + "/x"}},
		{"SENTRY_IGNORE", Options{Ignore: []string{secret + " x"}}},
		{"PAGERDUTY_ROUTING_KEY", Options{PagerDuty: PagerDuty{RoutingKey: "https://" + secret}}},
		{"PAGERDUTY_URL", Options{PagerDuty: PagerDuty{RoutingKey: "k", URL: secret}}},
		{"PAGERDUTY_URL", Options{PagerDuty: PagerDuty{RoutingKey: "k", URL: "https://u:" + secret + "@host"}}},
		{"WEBHOOK_URL", Options{Webhook: secret}},
		{"WEBHOOK_URL", Options{Webhook: "https://:80/" + secret}},
		{"WEBHOOK_URL", Options{Webhook: "https://host:99999/" + secret}},
		{"TELEGRAM_TOKEN", Options{Telegram: Telegram{Token: secret, ChatID: "1"}}},
		{"TELEGRAM_TOKEN", Options{Telegram: Telegram{Token: "1:" + secret + "\n", ChatID: "1"}}},
		{"TELEGRAM_TOKEN", Options{Telegram: Telegram{ChatID: "1"}}},
		{"TELEGRAM_CHAT_ID", Options{Telegram: Telegram{Token: "1:" + secret}}},
		{"TELEGRAM_CHAT_ID", Options{Telegram: Telegram{Token: "1:" + secret, ChatID: "me"}}},
		{"TELEGRAM_URL", Options{Telegram: Telegram{Token: "1:a", ChatID: "1", URL: "https://host/?" + secret}}},
		{"CRONITOR_API_KEY", Options{Cronitor: Cronitor{APIKey: "a/" + secret, MonitorKey: "m"}}},
		{"CRONITOR_API_KEY", Options{Cronitor: Cronitor{MonitorKey: secret}}},
		{"CRONITOR_MONITOR_KEY", Options{Cronitor: Cronitor{APIKey: secret}}},
		{"CRONITOR_MONITOR_KEY", Options{Cronitor: Cronitor{APIKey: "a", MonitorKey: secret + "?x"}}},
		{"CRONITOR_URL", Options{Cronitor: Cronitor{APIKey: "a", MonitorKey: "m", URL: "//" + secret}}},
	} {
		a, err := New(c.o)
		if err == nil || a != nil {
			t.Errorf("%s: %+v: want it refused", c.setting, c.o)
			continue
		}
		if text := err.Error(); fault.Of(err) != fault.KindConfig || fault.Hint(err) == "" || !strings.Contains(text, "alert: "+c.setting+": ") || strings.Contains(text+fault.Hint(err), secret) || strings.Contains(text, "\n") {
			t.Errorf("%s: want one line that names the setting, and what to do, have %q (%s)", c.setting, text, fault.Hint(err))
		}
	}
	_, err := New(Options{DSN: secret, Webhook: secret})
	if text := err.Error(); !strings.Contains(text, "SENTRY_DSN") || !strings.Contains(text, "WEBHOOK_URL") {
		t.Errorf("want all that is wrong told at once, have %s", text)
	}
}

func TestGoodSettingsAreTaken(t *testing.T) {
	for _, o := range []Options{
		{},
		{DSN: "https://public@o1.ingest.example/42"}, {DSN: "http://public:secret@127.0.0.1:9000/path/42", Environment: "staging", Ignore: []string{"web", "handler-1"}},
		{PagerDuty: PagerDuty{RoutingKey: "R0UTING"}}, {PagerDuty: PagerDuty{RoutingKey: "R0UTING", URL: "https://events.eu.pagerduty.com/v2/enqueue"}},
		{Webhook: "https://user:pw@hooks.example/a/b?token=c"},
		{Telegram: Telegram{Token: "1:a-B_9", ChatID: "-100123"}}, {Telegram: Telegram{Token: "1:a", ChatID: "7", URL: "http://127.0.0.1:1/prefix/"}},
		{Cronitor: Cronitor{APIKey: "a", MonitorKey: "m"}},
	} {
		a, err := New(o)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		abandon(t, a)
	}
}

// Whatever is set, no error has it in its text.
func FuzzNoErrorShowsASetting(f *testing.F) {
	for _, s := range []string{"https://key@host/42", "4711:AAbb", "%zz", "https://host:port/x", "a\nb", "https://[::1"} {
		f.Add(s)
	}
	all := func(s string) []Options {
		return []Options{{DSN: s}, {Environment: s}, {Ignore: []string{s}}, {PagerDuty: PagerDuty{RoutingKey: s, URL: s}}, {Webhook: s},
			{Telegram: Telegram{Token: s, ChatID: s, URL: s}}, {Telegram: Telegram{Token: "1:a", ChatID: s}}, {Telegram: Telegram{Token: "1:a", ChatID: "1", URL: s}},
			{Cronitor: Cronitor{APIKey: s, MonitorKey: s, URL: s}}, {Cronitor: Cronitor{APIKey: "a", MonitorKey: s}}, {Cronitor: Cronitor{APIKey: "a", MonitorKey: "m", URL: s}}}
	}
	said := func(t *testing.T, o Options) string {
		a, err := New(o)
		if err == nil {
			abandon(t, a)
			return ""
		}
		return err.Error() + fault.Hint(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) < 4 {
			return
		}
		advice := ""
		for _, other := range []string{"\x00/", "http://\x7f@?/"} { // what is said whatever the value is
			for _, o := range append(all(other), Options{DSN: "http://k@h/x"}) {
				advice += said(t, o)
			}
		}
		for _, o := range all(s) {
			if text := said(t, o); strings.Contains(text, s) && !strings.Contains(advice, s) {
				t.Errorf("%q stands in %q", s, text)
			}
		}
	})
}
