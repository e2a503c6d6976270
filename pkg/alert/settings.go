package alert

import "example.com/base-app/pkg/config"

// Settings say whom to tell what goes wrong. Everything is off until it is set; errors are files then.
type Settings struct {
	Sentry struct {
		DSN         config.Secret `envconfig:"SENTRY_DSN" desc:"address of the Sentry project that errors go to, https://key@host/number; empty means that they are files in the folder errors in DATA_DIR"`
		Environment string        `envconfig:"SENTRY_ENVIRONMENT" desc:"which environment Sentry shows for them, staging for example; empty means Sentry's default"`
		Ignore      []string      `envconfig:"SENTRY_IGNORE" desc:"workers and components, separated by commas, whose errors are not reported; alerts_ignored_total counts them"`
	} `group:"SENTRY"`
	PagerDuty struct {
		RoutingKey config.Secret `envconfig:"PAGERDUTY_ROUTING_KEY" desc:"integration key of a service with Events API v2; empty means none"`
		URL        string        `envconfig:"PAGERDUTY_URL" default:"https://events.pagerduty.com" desc:"where PagerDuty takes events; https://events.eu.pagerduty.com in Europe"`
	} `group:"PAGERDUTY"`
	Webhook struct {
		URL config.Secret `envconfig:"WEBHOOK_URL" desc:"address that problems, and their ends, are POSTed to as JSON; empty means none"`
	} `group:"WEBHOOK"`
	Telegram struct {
		Token  config.Secret `envconfig:"TELEGRAM_TOKEN" desc:"of the bot that tells a chat what happens, from BotFather; empty means none"`
		ChatID string        `envconfig:"TELEGRAM_CHAT_ID" desc:"number of that chat, which alone may ask for /status"`
		URL    string        `envconfig:"TELEGRAM_URL" default:"https://api.telegram.org" desc:"where Telegram, or a server of your own, takes calls"`
	} `group:"TELEGRAM"`
	Cronitor struct {
		APIKey     config.Secret `envconfig:"CRONITOR_API_KEY" desc:"key that Cronitor is told with, each minute, how the workers are; empty means not at all"`
		MonitorKey string        `envconfig:"CRONITOR_MONITOR_KEY" desc:"key of the monitor there"`
		URL        string        `envconfig:"CRONITOR_URL" default:"https://cronitor.link" desc:"where Cronitor takes pings"`
	} `group:"CRONITOR"`
}

// Options returns what the settings switch on, for New. Who the app is, is for the caller to add.
func (s *Settings) Options() Options {
	return Options{DSN: s.Sentry.DSN.Reveal(), Environment: s.Sentry.Environment, Ignore: s.Sentry.Ignore,
		PagerDuty: PagerDuty{RoutingKey: s.PagerDuty.RoutingKey.Reveal(), URL: s.PagerDuty.URL}, Webhook: s.Webhook.URL.Reveal(),
		Telegram: Telegram{Token: s.Telegram.Token.Reveal(), ChatID: s.Telegram.ChatID, URL: s.Telegram.URL},
		Cronitor: Cronitor{APIKey: s.Cronitor.APIKey.Reveal(), MonitorKey: s.Cronitor.MonitorKey, URL: s.Cronitor.URL}}
}
