package config_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"example.com/base-app/pkg/config"
)

func described(t *testing.T, vars ...string) []config.Setting {
	t.Helper()
	var cfg Config
	if _, err := config.Load(&cfg, with(vars...)); err != nil {
		t.Fatal(err)
	}
	list, err := config.Describe(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDescribeListsEverySettingInOrder(t *testing.T) {
	list := described(t, "SENTRY_DSN=hunter2", "QUEUE_URL=nats://me:hun@ter@host:4222/x", "SHOP_CHATS=1,2", "LOG_LEVEL=WARN")
	have := make(map[string]config.Setting)
	var names []string
	for _, s := range list {
		have[s.Name] = s
		names = append(names, s.Name)
	}
	if want := "APP_NAME DEVICE_NAME DATA_DIR WORKERS LOG_LEVEL LOG_FORMAT WEB_ADDR WEB_RATE WEB_BURST DRAIN_DELAY QUEUE_URL QUEUE_MAX_BYTES QUEUE_MAX_DELIVERIES QUEUE_ACK_WAIT SHUTDOWN_GRACE SENTRY_DSN SENTRY_ENVIRONMENT SHOP_REGION SHOP_TOKEN SHOP_CHATS SHOP_WORDS SHOP_VERBOSE"; strings.Join(names, " ") != want {
		t.Errorf("\nwant %s\nhave %s", want, names)
	}
	for _, want := range []config.Setting{
		{Name: "LOG_LEVEL", Write: "debug, info, warn or error", Default: "info", Meaning: "from this level on", Value: "warn", Group: "LOG"},
		{Name: "QUEUE_URL", Write: "plain text", Default: "embedded", Meaning: "embedded, or nats://host:4222", Value: "nats://[redacted]@host:4222/x", Group: "QUEUE"},
		{Name: "QUEUE_MAX_BYTES", Write: "a size of at least 1MiB", Default: "1GiB", Meaning: "full means 503", Value: "1GiB", Group: "QUEUE"},
		{Name: "DRAIN_DELAY", Write: "a duration", Default: "2s", Meaning: "between not ready and the drain", Value: "2s"},
		{Name: "SENTRY_DSN", Write: "a secret", Meaning: "where errors are reported; empty: nowhere", Value: "set", Secret: true},
		{Name: "SHOP_TOKEN", Write: "a secret", Meaning: "from the shop's settings page", Value: "unset", Group: "SHOP", Secret: true},
		{Name: "SHOP_REGION", Write: "plain text", Meaning: "two letters, such as eu", Value: "eu", Group: "SHOP", Required: true},
		{Name: "SHOP_CHATS", Write: "a comma-separated list, each a whole number", Meaning: "who is told", Value: "1,2", Group: "SHOP"},
	} {
		if have[want.Name] != want {
			t.Errorf("\nwant %+v\nhave %+v", want, have[want.Name])
		}
	}
}

func TestWritersShowNoSecret(t *testing.T) {
	list := described(t, "SENTRY_DSN=hunter2", "SHOP_TOKEN=hunter2", "QUEUE_URL=nats://me:hunter2@host")
	var text, page, data strings.Builder
	for _, err := range []error{config.WriteText(&text, list), config.WriteMarkdown(&page, list), config.WriteJSON(&data, list)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, out := range []string{text.String(), page.String(), data.String()} {
		if strings.Contains(out, "hunter2") {
			t.Errorf("a secret is in:\n%s", out)
		}
	}
	var back []config.Setting
	if err := json.Unmarshal([]byte(data.String()), &back); err != nil || !reflect.DeepEqual(back, list) {
		t.Errorf("JSON doesn't come back: %v\n%s", err, data.String())
	}
}

func TestMarkdownDoesNotDependOnTheValues(t *testing.T) {
	fresh, err := config.Describe(new(Config))
	if err != nil {
		t.Fatal(err)
	}
	var want, have strings.Builder
	_ = config.WriteMarkdown(&want, fresh)
	_ = config.WriteMarkdown(&have, described(t, "APP_NAME=other", "WORKERS=3", "SENTRY_DSN=x"))
	if have.String() != want.String() {
		t.Errorf("\nwant %s\nhave %s", want.String(), have.String())
	}
	for _, line := range []string{
		"Names that begin with `APP_`, `LOG_`, `QUEUE_`, `SHOP_`, `SHUTDOWN_`, `WEB_` are ours: an unknown one is refused at start.",
		"A secret called `NAME` also comes from the file whose path is in `NAME_FILE`, or from `/run/secrets/name` (lower case).",
		"| `LOG_FORMAT` | auto, console or json | `auto` | auto: console on a terminal |",
		"| `SHOP_REGION` | plain text | (required) | two letters, such as eu |",
		"| `SENTRY_DSN` | a secret |  | where errors are reported; empty: nowhere |",
	} {
		if !strings.Contains(want.String(), line+"\n") {
			t.Errorf("no line %q in:\n%s", line, want.String())
		}
	}
}

func TestMarkdownCellsCannotBreakTheTable(t *testing.T) {
	var page strings.Builder
	_ = config.WriteMarkdown(&page, []config.Setting{{Name: "X", Write: "a|b", Default: "a|b", Meaning: "<b>\nx"}})
	if want := "| `X` | a\\|b | `a\\|b` | &lt;b> x |\n"; !strings.HasSuffix(page.String(), want) {
		t.Errorf("want %q\nhave %q", want, page.String())
	}
}

func TestTextShowsControlCharactersEscaped(t *testing.T) {
	var out strings.Builder
	_ = config.WriteText(&out, []config.Setting{{Name: "X", Value: "a\x1b[2J", Meaning: "m"}})
	want := "NAME  VALUE       DEFAULT  MEANING\nX     \"a\\x1b[2J\"  -        m\n"
	if out.String() != want {
		t.Errorf("want %q\nhave %q", want, out.String())
	}
}
