package config_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/base-app/pkg/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Template has the shape and the names of the settings that every fork shares.
type Template struct {
	_       struct{} `group:"APP"`
	AppName string   `envconfig:"APP_NAME" default:"base-app" desc:"who is logging"`
	Device  string   `envconfig:"DEVICE_NAME" desc:"where; empty: the host name"`
	DataDir string   `envconfig:"DATA_DIR" default:"./data" desc:"queue, lock, dumps"`
	Workers int      `envconfig:"WORKERS" default:"0" min:"0" max:"64" desc:"parallel handlers; 0: one for each core"`

	Log struct {
		Level  slog.Level `envconfig:"LOG_LEVEL" default:"info" oneof:"debug info warn error" desc:"from this level on"`
		Format string     `envconfig:"LOG_FORMAT" default:"auto" oneof:"auto console json" desc:"auto: console on a terminal"`
	} `group:"LOG"`
	Web struct {
		Addr  string        `envconfig:"WEB_ADDR" default:"127.0.0.1:8080" desc:"events, health, status page"`
		Rate  float64       `envconfig:"WEB_RATE" default:"1000" min:"0.1" desc:"requests per second and client"`
		Burst uint          `envconfig:"WEB_BURST" default:"2000" desc:"requests at once"`
		Drain time.Duration `envconfig:"DRAIN_DELAY" default:"2s" desc:"between not ready and the drain"`
	} `group:"WEB"`
	Queue    Queue
	Shutdown struct {
		Grace time.Duration `envconfig:"SHUTDOWN_GRACE" default:"30s" min:"1s" max:"30s" desc:"until the dump"`
	} `group:"SHUTDOWN"`
	Sentry struct {
		DSN         config.Secret `envconfig:"SENTRY_DSN" desc:"where errors are reported; empty: nowhere"`
		Environment string        `envconfig:"SENTRY_ENVIRONMENT" desc:"as Sentry shows it"`
	}
}

// Queue judges itself.
type Queue struct {
	_             struct{}      `group:"QUEUE"`
	URL           string        `envconfig:"QUEUE_URL" default:"embedded" desc:"embedded, or nats://host:4222"`
	MaxBytes      config.Bytes  `envconfig:"QUEUE_MAX_BYTES" default:"1GiB" min:"1MiB" desc:"full means 503"`
	MaxDeliveries int           `envconfig:"QUEUE_MAX_DELIVERIES" default:"5" min:"1" desc:"then the dead letters"`
	AckWait       time.Duration `envconfig:"QUEUE_ACK_WAIT" default:"5s" desc:"then it is delivered again"`
}

func (q Queue) Validate() error {
	if q.MaxDeliveries > 10 && q.AckWait > time.Minute {
		return errors.New("QUEUE_MAX_DELIVERIES: more than 10 of " + q.AckWait.String() + " at " + q.URL + "; write less\nQUEUE_ACK_WAIT: too long for so many; write less")
	}
	return nil
}

// Config is what a fork makes of it.
type Config struct {
	Template
	Shop struct {
		Region  string        `envconfig:"SHOP_REGION" required:"true" desc:"two letters, such as eu"`
		Token   config.Secret `envconfig:"SHOP_TOKEN" desc:"from the shop's settings page"`
		Chats   []int64       `envconfig:"SHOP_CHATS" desc:"who is told"`
		Words   []string      `envconfig:"SHOP_WORDS" desc:"what is looked for"`
		Verbose bool          `envconfig:"SHOP_VERBOSE" default:"false" desc:"tell all"`
	} `group:"SHOP"`
}

// with returns an environment with the one setting that Config requires, and no secrets folder.
func with(vars ...string) config.Environment {
	return config.Environment{Vars: append([]string{"SHOP_REGION=eu", "PATH=/bin", "OTEL_ANYTHING=x"}, vars...)}
}
