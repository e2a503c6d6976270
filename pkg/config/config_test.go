package config_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
)

func TestDefaultsApplyWhereNothingOrEmptyIsGiven(t *testing.T) {
	var want Config
	want.AppName, want.DataDir, want.Log.Format = "base-app", "./data", "auto"
	want.Web.Addr, want.Web.Rate, want.Web.Burst, want.Web.Drain = "127.0.0.1:8080", 1000, 2000, 2*time.Second
	want.Queue = Queue{URL: "embedded", MaxBytes: 1 << 30, MaxDeliveries: 5, AckWait: 5 * time.Second}
	want.Shutdown.Grace, want.Shop.Region = 30*time.Second, "eu"
	for _, env := range []config.Environment{with(), with("LOG_LEVEL=", "QUEUE_MAX_BYTES=", "SHUTDOWN_GRACE=", "SENTRY_DSN_FILE=")} {
		var have Config
		if warnings, err := config.Load(&have, env); err != nil || len(warnings) > 0 {
			t.Fatalf("warnings %q, error %v", warnings, err)
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("\nwant %+v\nhave %+v", want, have)
		}
	}
}

func TestGivenValuesArrive(t *testing.T) {
	var have Config
	_, err := config.Load(&have, with("LOG_LEVEL=WARN", "LOG_FORMAT=Json", "WORKERS=010", "WEB_RATE=0.5", "WEB_BURST=7",
		"QUEUE_MAX_BYTES=512MiB", "QUEUE_URL=nats://a=b", "SHUTDOWN_GRACE=2s", "SHUTDOWN_GRACE=3s", "SHOP_CHATS=-1, 2",
		"SHOP_VERBOSE=true", "SHOP_TOKEN=from the shop", "DEVICE_NAME=Gerät 1"))
	if err != nil {
		t.Fatal(err)
	}
	var want Config
	want.AppName, want.Device, want.DataDir, want.Workers = "base-app", "Gerät 1", "./data", 10
	want.Log.Level, want.Log.Format = slog.LevelWarn, "json"
	want.Web.Addr, want.Web.Rate, want.Web.Burst, want.Web.Drain = "127.0.0.1:8080", 0.5, 7, 2*time.Second
	want.Queue = Queue{URL: "nats://a=b", MaxBytes: 512 << 20, MaxDeliveries: 5, AckWait: 5 * time.Second}
	want.Shutdown.Grace = 2 * time.Second
	want.Shop.Region, want.Shop.Token, want.Shop.Chats, want.Shop.Verbose = "eu", config.NewSecret("from the shop"), []int64{-1, 2}, true
	if !reflect.DeepEqual(have, want) {
		t.Errorf("\nwant %+v\nhave %+v", want, have)
	}
}

func TestBadValuesAreRefusedWithWhatToWrite(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"LOG_LEVEL=verbose", "LOG_LEVEL: not a level; write debug, info, warn or error"},
		{"LOG_LEVEL=INFO+2", "LOG_LEVEL: not a level; write debug, info, warn or error"},
		{"LOG_FORMAT=xml", "LOG_FORMAT: unknown choice; write auto, console or json"},
		{"WORKERS=many", "WORKERS: not a whole number; write a whole number from 0 to 64, such as 0"},
		{"WORKERS=0x10", "WORKERS: not a whole number; write a whole number from 0 to 64, such as 0"},
		{"WORKERS=65", "WORKERS: above 64; write a whole number from 0 to 64, such as 0"},
		{"WORKERS=-1", "WORKERS: below 0; write a whole number from 0 to 64, such as 0"},
		{"WORKERS=99999999999999999999", "WORKERS: out of range; write a whole number from 0 to 64, such as 0"},
		{"WEB_BURST=-7", "WEB_BURST: not a whole number; write a whole number, such as 2000"},
		{"WEB_RATE=NaN", "WEB_RATE: not a number; write a number of at least 0.1, such as 1000"},
		{"WEB_RATE=1e999", "WEB_RATE: not a number; write a number of at least 0.1, such as 1000"},
		{"WEB_RATE=0", "WEB_RATE: below 0.1; write a number of at least 0.1, such as 1000"},
		{"QUEUE_MAX_BYTES=1GB", "QUEUE_MAX_BYTES: not a size; write a size of at least 1MiB, such as 1GiB"},
		{"QUEUE_MAX_BYTES=-1GiB", "QUEUE_MAX_BYTES: not a size; write a size of at least 1MiB, such as 1GiB"},
		{"QUEUE_MAX_BYTES=9999999999GiB", "QUEUE_MAX_BYTES: not a size; write a size of at least 1MiB, such as 1GiB"},
		{"QUEUE_MAX_BYTES=1023KiB", "QUEUE_MAX_BYTES: below 1MiB; write a size of at least 1MiB, such as 1GiB"},
		{"SHUTDOWN_GRACE=30", "SHUTDOWN_GRACE: not a duration; write a duration from 1s to 30s, such as 30s"},
		{"SHUTDOWN_GRACE=30.001s", "SHUTDOWN_GRACE: above 30s; write a duration from 1s to 30s, such as 30s"},
		{"DRAIN_DELAY=-2s", "DRAIN_DELAY: negative; write a duration, such as 2s"},
		{"SHOP_VERBOSE=yes", "SHOP_VERBOSE: not a boolean; write true or false"},
		{"SHOP_CHATS=1,,2", "SHOP_CHATS: not a comma-separated list, each a whole number; write a comma-separated list, each a whole number, such as 5"},
		{"SHOP_WORDS=a,,b", "SHOP_WORDS: not a comma-separated list, each plain text; write a comma-separated list, each plain text (what is looked for)"},
		{"APP_NAME=two\nlines", "APP_NAME: not plain text; write it without line breaks and control characters"},
		{"APP_NAME=\xff", "APP_NAME: not plain text; write it without line breaks and control characters"},
	} {
		t.Run(c.env, func(t *testing.T) { refused(t, with(c.env), c.want) })
	}
}

func TestUnknownNamesOfOurGroupsAreRefused(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"WEB_ADR=x", "WEB_ADR: unknown setting; did you mean WEB_ADDR?"},
		{"LOG_LEVLE=x", "LOG_LEVLE: unknown setting; did you mean LOG_LEVEL?"},
		{"QUEUE_MAXBYTES=", "QUEUE_MAXBYTES: unknown setting; did you mean QUEUE_MAX_BYTES?"},
		{"SHOP_TOKEN_FIL=x", "SHOP_TOKEN_FIL: unknown setting; did you mean SHOP_TOKEN_FILE?"},
		{"WEB_COLOUR=x", "WEB_COLOUR: unknown setting; remove it (all names that begin with WEB_ are ours)"},
		{"WEB_=x", "WEB_: unknown setting; remove it (all names that begin with WEB_ are ours)"},
		{"APP_" + strings.Repeat("X", 5000) + "=x", "APP_" + strings.Repeat("X", 5000) + ": unknown setting; remove it (all names that begin with APP_ are ours)"},
		{"WEB_\n\x1b[2J=x", `"WEB_\n\x1b[2J": unknown setting; remove it (all names that begin with WEB_ are ours)`},
		{"LOG_LEVEL_FILE=/x", "LOG_LEVEL_FILE: only secrets come from files; write the value itself to LOG_LEVEL"},
		{"WEB_PORT=8080", "WEB_PORT: unknown setting; remove it (all names that begin with WEB_ are ours)"},
	} {
		t.Run(c.env[:min(20, len(c.env))], func(t *testing.T) { refused(t, with(c.env), c.want) })
	}
}

func TestNamesThatAreNotOursArePassedOver(t *testing.T) {
	env := with("WEB_SERVICE_HOST=10.0.0.1", "WEB_SERVICE_PORT=80", "WEB_SERVICE_PORT_HTTP=80", "WEB_PORT=tcp://10.0.0.1:80",
		"WEB_PORT_80_TCP=tcp://10.0.0.1:80", "WEB_PORT_80_TCP_PROTO=tcp", "WEB_PORT_80_UDP_PORT=80", "WEB_PORT_80_TCP_ADDR=10.0.0.1",
		"OTEL_SERVICE_NAME=x", "SENTRY_RELEASE=x", "DATA_BASE=x", "WEB=x", "web_adr=x", "HOME=/", "HOSTNAME=x", "PORKERZ=x", "DATA_DIRECT=x", "LOGNAME=x", "broken", "=C:=x")
	var cfg Config
	if warnings, err := config.Load(&cfg, env); err != nil || len(warnings) > 0 {
		t.Errorf("warnings %q, error %v", warnings, err)
	}
}

func TestNamesThatAreAlmostOursAreWarnedOf(t *testing.T) {
	var cfg Config
	have, err := config.Load(&cfg, with("DATADIR=x", "LOGLEVEL=x", "WROKERS=x", "SENTRY_DNS=x"))
	want := []string{
		"DATADIR: not a setting; did you mean DATA_DIR?",
		"LOGLEVEL: not a setting; did you mean LOG_LEVEL?",
		"SENTRY_DNS: not a setting; did you mean SENTRY_DSN?",
		"WROKERS: not a setting; did you mean WORKERS?",
	}
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("\nwant %q\nhave %q, error %v", want, have, err)
	}
}

func TestShortNamesAreNotWarnedOf(t *testing.T) {
	var cfg struct {
		Zone string `envconfig:"ZONE" desc:"where"`
	}
	warnings, err := config.Load(&cfg, config.Environment{Vars: []string{"ZONE1=x"}})
	if err != nil || len(warnings) > 0 {
		t.Errorf("warnings %q, error %v", warnings, err)
	}
}

func TestAllProblemsAreToldAtOnceSorted(t *testing.T) {
	var cfg Config
	_, err := config.Load(&cfg, config.Environment{Vars: []string{"WORKERS=x", "LOG_LEVEL=x", "WEB_ADR=x", "SHOP_REGION="}})
	want := "LOG_LEVEL: not a level; write debug, info, warn or error\n" +
		"SHOP_REGION: required, but not set or empty; set it: two letters, such as eu\n" +
		"WEB_ADR: unknown setting; did you mean WEB_ADDR?\n" +
		"WORKERS: not a whole number; write a whole number from 0 to 64, such as 0"
	if err == nil || err.Error() != want {
		t.Errorf("\nwant %s\nhave %v", want, err)
	}
	if fault.ExitCode(err) != fault.ExitConfig || fault.Hint(err) == "" {
		t.Errorf("exit code %d, hint %q", fault.ExitCode(err), fault.Hint(err))
	}
	if !reflect.DeepEqual(cfg, Config{}) {
		t.Errorf("an error left something behind: %+v", cfg)
	}
}

func TestAStructJudgesItselfOnceAllItsFieldsAreGood(t *testing.T) {
	many, long := "QUEUE_MAX_DELIVERIES=11", "QUEUE_ACK_WAIT=2m"
	// Neither does the text of a foreign error repeat what was given.
	refused(t, with(many, long, "QUEUE_URL=nats://secret"), "QUEUE_ACK_WAIT: too long for so many; write less\n"+
		"QUEUE_MAX_DELIVERIES: more than 10 of 2m0s at [redacted]; write less")
	refused(t, with(many, long, "QUEUE_MAX_BYTES=x"), "QUEUE_MAX_BYTES: not a size; write a size of at least 1MiB, such as 1GiB")
	// A problem elsewhere doesn't silence it.
	refused(t, with(many, long, "QUEUE_URL=nats://secret", "WORKERS=x"), "QUEUE_ACK_WAIT: too long for so many; write less\n"+
		"QUEUE_MAX_DELIVERIES: more than 10 of 2m0s at [redacted]; write less\n"+
		"WORKERS: not a whole number; write a whole number from 0 to 64, such as 0")
}

// promoted has the Validate of the struct that it embeds, as a fork's struct has the template's.
type promoted struct{ Judged }

type Judged struct {
	X string `envconfig:"X" desc:"x"`
}

func (*Judged) Validate() error { return errors.New("X: never") }

func TestAnInheritedJudgementIsToldOnce(t *testing.T) {
	var cfg promoted
	if _, err := config.Load(&cfg, config.Environment{}); err == nil || err.Error() != "X: never" {
		t.Errorf("have %v", err)
	}
}

func TestTypesWithUnmarshalTextAreSettings(t *testing.T) {
	var cfg struct {
		Bind netip.AddrPort `envconfig:"BIND" desc:"where to listen"`
		Peer netip.Addr     `envconfig:"PEER" default:"::1" desc:"who may connect"`
		Kept string         `envconfig:"KEPT" desc:"set by the program"`
		Past *string        `ignored:"true"`
	}
	cfg.Kept = "before"
	_, err := config.Load(&cfg, config.Environment{Vars: []string{"BIND=localhost", "PEER=localhost"}})
	want := "BIND: not an addrport; write an addrport (where to listen)\nPEER: not an addr; write an addr, such as ::1"
	if err == nil || err.Error() != want {
		t.Errorf("\nwant %s\nhave %v", want, err)
	}
	_, err = config.Load(&cfg, config.Environment{Vars: []string{"BIND=[::1]:80"}})
	if err != nil || cfg.Bind != netip.MustParseAddrPort("[::1]:80") || cfg.Peer != netip.IPv6Loopback() || cfg.Kept != "before" {
		t.Errorf("have %+v, error %v", cfg, err)
	}
}

func TestAWrongStructIsTheProgrammersError(t *testing.T) {
	type hidden struct {
		X string `envconfig:"X" desc:"x"`
	}
	for name, c := range map[string]struct {
		into any
		want string
	}{
		"nil":         {nil, "config: load: <nil> is not a pointer to a struct"},
		"no pointer":  {Config{}, "config: load: config_test.Config is not a pointer to a struct"},
		"nil pointer": {(*Config)(nil), "config: load: *config_test.Config is not a pointer to a struct"},
		"no name": {new(struct {
			X string `desc:"x"`
		}), "X: no tag envconfig with a name in capitals, digits and underscores"},
		"lower case": {new(struct {
			X string `envconfig:"x" desc:"x"`
		}), "X: no tag envconfig with a name in capitals, digits and underscores"},
		"no desc": {new(struct {
			X string `envconfig:"X"`
		}), "X: no tag desc"},
		"twice": {new(struct {
			A string        `envconfig:"X" desc:"x"`
			B config.Secret `envconfig:"X" desc:"x"`
		}), "X: two settings have this name"},
		"the name of a secret's file": {new(struct {
			A config.Secret `envconfig:"X" desc:"x"`
			B string        `envconfig:"X_FILE" desc:"x"`
		}), "X_FILE: two settings have this name"},
		"bad default": {new(struct {
			X int `envconfig:"X" default:"many" desc:"x"`
		}), "X: the default: not a whole number; write a whole number, such as many"},
		"default out of bounds": {new(struct {
			X int `envconfig:"X" default:"9" max:"8" desc:"x"`
		}), "X: the default: above 8; write a whole number of at most 8, such as 9"},
		"default of a secret": {new(struct {
			X config.Secret `envconfig:"X" default:"x" desc:"x"`
		}), "X: a secret has no default"},
		"default of a required": {new(struct {
			X string `envconfig:"X" default:"x" required:"true" desc:"x"`
		}), "X: required, and yet with a default"},
		"bad bound": {new(struct {
			X time.Duration `envconfig:"X" max:"30" desc:"x"`
		}), "X: tag max: not a duration"},
		"bound of a text": {new(struct {
			X string `envconfig:"X" min:"30" desc:"x"`
		}), "X: tag min: plain text has no order"},
		"bounds crossed": {new(struct {
			X int `envconfig:"X" min:"3" max:"2" desc:"x"`
		}), "X: tag min is above tag max"},
		"type": {new(struct {
			X map[string]string `envconfig:"X" desc:"x"`
		}), "X: type map[string]string is not supported; give it UnmarshalText"},
		"pointer": {new(struct {
			X *string `envconfig:"X" desc:"x"`
		}), "X: a pointer; use a plain field"},
		"not exported": {new(struct {
			x string `envconfig:"X" desc:"x"`
		}), "x: not exported, so it could never be filled"},
		"embedded and not exported": {new(struct{ hidden }), "hidden: not exported, so it could never be filled"},
		"group without a setting": {new(struct {
			X string `envconfig:"X_Y" desc:"x" group:"Z"`
		}), `group "Z": no setting's name begins with it`},
		"group inside another": {new(struct {
			_ struct{} `group:"X_Y"`
			X string   `envconfig:"X_Y_Z" desc:"x" group:"X"`
		}), `group "X_Y": no setting's name begins with it`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(c.into, config.Environment{})
			if err == nil || !strings.HasSuffix("\n"+err.Error(), "\n"+c.want) {
				t.Fatalf("\nwant %s\nhave %v", c.want, err)
			}
			if fault.Of(err) != fault.KindUnhandled {
				t.Errorf("kind %v: it's not the user who can mend it", fault.Of(err))
			}
			if _, err := config.Describe(c.into); err == nil {
				t.Error("Describe takes it")
			}
		})
	}
}

func TestNamesAreSortedAndHaveNoValues(t *testing.T) {
	have := config.Environment{Vars: []string{"B=secret", "A=", "B=2", "=x", "c"}}.Names()
	if want := []string{"A", "B"}; !slices.Equal(have, want) {
		t.Errorf("want %q, have %q", want, have)
	}
}

func TestOSIsTheProcessEnvironment(t *testing.T) {
	if have := config.OS(); !slices.Equal(have.Vars, os.Environ()) || have.SecretsDir != filepath.FromSlash("/run/secrets") {
		t.Errorf("secrets in %s, %d variables", have.SecretsDir, len(have.Vars))
	}
}

// refused checks that Load refuses env with exactly these lines.
func refused(t *testing.T, env config.Environment, want string) {
	t.Helper()
	var cfg Config
	_, err := config.Load(&cfg, env)
	if err == nil || err.Error() != want {
		t.Errorf("\nwant %s\nhave %v", want, err)
	}
}
