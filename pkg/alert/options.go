package alert

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/getsentry/sentry-go"

	"example.com/base-app/pkg/fault"
)

// Options name the app and its services. With the zero value errors are files in Dir, and nothing is sent.
type Options struct {
	App, Device, Deployment, Version, Commit string

	DSN         string   // of Sentry; empty: events are files
	Environment string   // as Sentry shows it; empty: Sentry's default
	Ignore      []string // workers and components whose errors make no event

	Dir string // where the folder errors is made; used without a DSN

	PagerDuty PagerDuty
	Webhook   string // URL; empty: none
	Telegram  Telegram
	Cronitor  Cronitor
}

// PagerDuty names a service there. With an empty RoutingKey it is off.
type PagerDuty struct{ RoutingKey, URL string }

// Telegram names a bot and the one chat that it talks to. With an empty Token it is off.
type Telegram struct{ Token, ChatID, URL string }

// Cronitor names a monitor there. With an empty APIKey it is off.
type Cronitor struct{ APIKey, MonitorKey, URL string }

// The services' own addresses.
const (
	DefaultPagerDutyURL = "https://events.pagerduty.com"
	DefaultTelegramURL  = "https://api.telegram.org"
	DefaultCronitorURL  = "https://cronitor.link"
)

// plan is what the options come to.
type plan struct {
	dsn       *sentry.Dsn // nil: none
	pagerduty string      // the whole URL
	chat      int64
	cronitor  string // the URL of the monitor
}

// secrets are the texts that must never be seen.
func (o Options) secrets() (list []string) {
	secret := func(texts ...string) {
		for _, s := range texts {
			if s != "" {
				list = append(list, s)
			}
		}
	}
	secret(o.DSN, o.Webhook, o.PagerDuty.RoutingKey, o.Telegram.Token, o.Cronitor.APIKey)
	if u, err := url.Parse(o.DSN); err == nil {
		password, _ := u.User.Password()
		secret(u.User.Username(), password)
	}
	if u, err := url.Parse(o.Webhook); err == nil {
		if u.Path != "/" {
			secret(u.Path)
		}
		password, _ := u.User.Password()
		secret(u.RawQuery, password)
	}
	return list
}

func wrong(name, hint, what string) error {
	return fault.Config(hint, fmt.Errorf("alert: %s: %s", name, what))
}

var (
	// By mistake a key is often set to a whole URL, or to the words of an example.
	key   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,200}$`)
	token = regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]{1,200}$`)
	name  = regexp.MustCompile(`^[!-~]{1,100}$`)
)

// plan checks the options. Its errors are of fault.KindConfig, name each setting that is wrong, and never hold its value.
func (o Options) plan() (p plan, err error) {
	var errs []error
	add := func(name, hint, what string) { errs = append(errs, wrong(name, hint, what)) }
	if o.DSN != "" {
		if p.dsn, err = parseDSN(o.DSN); err != nil {
			errs = append(errs, err)
		}
	}
	if len(o.Environment) > 64 || strings.ContainsAny(o.Environment, "\n\r/ ") || o.Environment == "None" {
		add("SENTRY_ENVIRONMENT", "write a word, production for example", "Sentry doesn't take that name")
	}
	for _, n := range o.Ignore {
		if !name.MatchString(n) {
			add("SENTRY_IGNORE", "write names of workers or components, separated by commas", "not a list of names")
			break
		}
	}
	if o.PagerDuty.RoutingKey != "" {
		if !key.MatchString(o.PagerDuty.RoutingKey) {
			add("PAGERDUTY_ROUTING_KEY", "take the integration key of an Events API v2 integration", "not a routing key")
		}
		p.pagerduty, err = base("PAGERDUTY_URL", o.PagerDuty.URL, DefaultPagerDutyURL)
		errs = append(errs, err)
		p.pagerduty = strings.TrimSuffix(p.pagerduty, enqueuePath) + enqueuePath
	}
	if o.Webhook != "" && !isHTTP(o.Webhook) {
		add("WEBHOOK_URL", "write https://host/path", "not an http URL")
	}
	errs = append(errs, o.Telegram.plan(&p), o.Cronitor.plan(&p))
	return p, errors.Join(errs...)
}

func (t Telegram) plan(p *plan) (err error) {
	switch {
	case t.Token == "" && t.ChatID == "":
		return nil
	case t.Token == "":
		return wrong("TELEGRAM_TOKEN", "set it to what BotFather gave you, or remove TELEGRAM_CHAT_ID", "missing, though TELEGRAM_CHAT_ID is set")
	case !token.MatchString(t.Token):
		return wrong("TELEGRAM_TOKEN", "take what BotFather gave you: digits, a colon, letters", "not a bot's token")
	case t.ChatID == "":
		return wrong("TELEGRAM_CHAT_ID", "set it to the number of the chat that is told", "missing, though TELEGRAM_TOKEN is set")
	}
	if p.chat, err = strconv.ParseInt(t.ChatID, 10, 64); err != nil || p.chat == 0 {
		return wrong("TELEGRAM_CHAT_ID", "write the number of a chat, which is negative for a group", "not a number")
	}
	_, err = base("TELEGRAM_URL", t.URL, DefaultTelegramURL)
	return err
}

func (c Cronitor) plan(p *plan) error {
	switch {
	case c.APIKey == "" && c.MonitorKey == "":
		return nil
	case c.APIKey == "":
		return wrong("CRONITOR_API_KEY", "set it, or remove CRONITOR_MONITOR_KEY", "missing, though CRONITOR_MONITOR_KEY is set")
	case !key.MatchString(c.APIKey):
		return wrong("CRONITOR_API_KEY", "take the key from Cronitor's settings, and nothing around it", "not a key")
	case c.MonitorKey == "":
		return wrong("CRONITOR_MONITOR_KEY", "set it to the key of the monitor", "missing, though CRONITOR_API_KEY is set")
	case !key.MatchString(c.MonitorKey):
		return wrong("CRONITOR_MONITOR_KEY", "take the key of the monitor, and nothing around it", "not a key")
	}
	u, err := base("CRONITOR_URL", c.URL, DefaultCronitorURL)
	p.cronitor = u + "/p/" + c.APIKey + "/" + c.MonitorKey
	return err
}

// parseDSN reads the address that Sentry gives a project: https://key@host/number. Compatible services give the same.
func parseDSN(text string) (*sentry.Dsn, error) {
	const hint = "copy the DSN of the project from Sentry: https://key@host/number"
	dsn, err := sentry.NewDsn(text)
	if err != nil || !isHTTP(text) { // its text has the value
		return nil, wrong("SENTRY_DSN", hint, "not a DSN")
	}
	if _, err := strconv.ParseUint(dsn.GetProjectID(), 10, 64); err != nil {
		return nil, wrong("SENTRY_DSN", hint, "its last part is not the number of a project")
	}
	return dsn, nil
}

// base returns the URL that paths are added to.
func base(name, text, standard string) (string, error) {
	if text == "" {
		text = standard
	}
	u, err := url.Parse(text)
	if err != nil || !isHTTP(text) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", wrong(name, "write http://host:port or https://host", "not an http URL without credentials and query")
	}
	return strings.TrimRight(text, "/"), nil
}

// isHTTP returns whether text is an absolute http URL with a host, and a port that there can be.
func isHTTP(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		return err == nil && n > 0
	}
	return !strings.HasSuffix(u.Host, ":")
}
