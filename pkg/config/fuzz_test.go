package config_test

import (
	"strings"
	"testing"

	"example.com/base-app/pkg/config"
)

func FuzzBytes(f *testing.F) {
	for _, seed := range []string{"0", "1GiB", "512MiB", "64KiB", "8388607TiB", "8388608TiB", "-1", "+1", "1_0", "1.5GiB", "GiB", "", "9223372036854775807", "9223372036854775808"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b config.Bytes
		if b.UnmarshalText([]byte(text)) != nil {
			if b != 0 {
				t.Errorf("%q: an error and yet %d", text, b)
			}
			return
		}
		var back config.Bytes
		if err := back.UnmarshalText([]byte(b.String())); b < 0 || err != nil || back != b {
			t.Errorf("%q: %d is written %q and read back as %d, %v", text, b, b, back, err)
		}
	})
}

// FuzzLoadNeverRepeatsAValue guards against envconfig's fault: its errors repeat the value, and so a secret in the
// wrong variable lands in the log.
func FuzzLoadNeverRepeatsAValue(f *testing.F) {
	list, err := config.Describe(new(Config))
	if err != nil {
		f.Fatal(err)
	}
	everywhere := func(value string) config.Environment {
		vars := []string{"WEB_ADR=" + value, "DATADIR=" + value}
		for _, s := range list {
			vars = append(vars, s.Name+"="+value)
			if s.Secret {
				vars = append(vars, s.Name+"_FILE="+value)
			}
		}
		return config.Environment{Vars: vars}
	}
	refusal := func(value string) string {
		var cfg Config
		warnings, err := config.Load(&cfg, everywhere(value))
		if err == nil {
			return strings.Join(warnings, "\n")
		}
		return err.Error() + "\n" + strings.Join(warnings, "\n")
	}
	// What the messages say by themselves, for one value that is malformed and others that are out of bounds.
	var own strings.Builder
	for _, value := range []string{"\x01", "-1", "-1s", "99999999999999999999", "1", "2000000h"} {
		own.WriteString(refusal(value) + "\n")
	}
	for _, seed := range []string{"hunter2hunter2", "30 seconds", "1GB!", "https://key@sentry.example/1", "nats://a:b@c", "-5m0s", "debug1", "123456:ABCDEF", "12,x,34"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if len(value) < 4 || strings.Contains(own.String(), value) || isPath(value) {
			return
		}
		if text := refusal(value); strings.Contains(text, value) {
			t.Errorf("%q is in:\n%s", value, text)
		}
	})
}

// isPath says whether NAME_FILE takes value as a path, which is the one thing that messages repeat.
func isPath(value string) bool {
	return strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "../")
}

func BenchmarkLoad(b *testing.B) {
	env := with("LOG_LEVEL=warn", "QUEUE_MAX_BYTES=512MiB")
	for b.Loop() {
		var cfg Config
		if _, err := config.Load(&cfg, env); err != nil {
			b.Fatal(err)
		}
	}
}
