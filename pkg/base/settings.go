package base

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"example.com/base-app/pkg/config"
)

// Settings are the ones that every fork shares. A fork embeds them in a struct of its own and adds what it needs;
// the names are stable, and the words stand in docs/settings.md, which is generated from here.
type Settings struct {
	App struct {
		Name string `envconfig:"APP_NAME" default:"base-app" desc:"who is logging; stands in each line"`
	} `group:"APP"`
	Device     string `envconfig:"DEVICE_NAME" desc:"which machine it runs on; empty means the host name"`
	Deployment string `envconfig:"DEPLOYMENT_ID" desc:"which deployment this is; stands in each line, empty means none"`

	Log struct {
		Level  slog.Level `envconfig:"LOG_LEVEL" default:"info" oneof:"debug info warn error" desc:"what is logged once the start is complete; until then it is debug, and SIGHUP switches to debug and back"`
		Format string     `envconfig:"LOG_FORMAT" default:"auto" oneof:"auto console json" desc:"auto means console on a terminal and json elsewhere"`
		Sample int        `envconfig:"LOG_SAMPLE" default:"0" min:"0" max:"1000000" desc:"thins out lines below WARN: of those with the same message the first 100 in a minute are written, and then each hundredth, if it is 100; the number of the others is logged each minute. 0 writes all. Too small and what led to a failure isn't there"`
	} `group:"LOG"`
	Syslog struct {
		Address string `envconfig:"SYSLOG_ADDRESS" desc:"a copy of each line goes to udp://host:514, tcp://host:601 or unix:///dev/log; empty means /dev/log if it is a socket, off means nowhere"`
	} `group:"SYSLOG"`

	DataDir string `envconfig:"DATA_DIR" default:"./data" desc:"folder for the queue, the lock, the last exit, dumps and crash reports; one process uses it at a time"`
	Web     struct {
		Addr string `envconfig:"WEB_ADDR" default:"127.0.0.1:8080" desc:"host:port for events and health; :8080 means all addresses, port 0 a free one"`

		Rate    int            `envconfig:"WEB_RATE" default:"1000" min:"0" max:"1000000" desc:"requests a second that one client may make on one route; 0 means any number. Too low refuses honest clients with 429, too high lets one of them take all the capacity"`
		Burst   int            `envconfig:"WEB_BURST" default:"2000" min:"1" max:"1000000" desc:"requests that a client may make at once after a pause; a batch counts as one"`
		Proxies []netip.Prefix `envconfig:"WEB_TRUSTED_PROXIES" desc:"networks of the proxies in front, 10.0.0.0/8,fd00::/8 or 192.0.2.7/32: who the client is stands in their X-Forwarded-For; empty means that nobody's counts"`
		TLSCert string         `envconfig:"WEB_TLS_CERT_FILE" desc:"certificate chain for TLS, as PEM; empty means no TLS. It is read anew when it changes"`
		TLSKey  string         `envconfig:"WEB_TLS_KEY_FILE" desc:"private key of that certificate, as PEM"`
	} `group:"WEB"`
	Drain struct {
		Delay time.Duration `envconfig:"DRAIN_DELAY" default:"0s" max:"15s" desc:"how long the app goes on working after TERM, while /readyz says no already, so that a load balancer stops sending; at most half of SHUTDOWN_GRACE. 2s behind a balancer that asks each second; where nobody asks it only delays the end"`
	} `group:"DRAIN"`
	Control struct {
		Socket string `envconfig:"CONTROL_SOCKET" desc:"unix socket for app ctl, at most 107 bytes; empty means control.sock in DATA_DIR"`
	} `group:"CONTROL"`

	Queue struct {
		URL           string        `envconfig:"QUEUE_URL" default:"embedded" desc:"embedded keeps the events in files under DATA_DIR, synced to the disk before they are accepted; nats://a:4222,b:4222,c:4222 names the nodes of a NATS cluster with JetStream, 2.12 or later"`
		Credentials   string        `envconfig:"QUEUE_CREDENTIALS_FILE" desc:"file with the cluster's user and key (.creds)"`
		CA            string        `envconfig:"QUEUE_TLS_CA_FILE" desc:"file with the certificates that the cluster's are signed with; empty means the system's"`
		Cert          string        `envconfig:"QUEUE_TLS_CERT_FILE" desc:"file with the client's certificate, if the cluster wants one"`
		Key           string        `envconfig:"QUEUE_TLS_KEY_FILE" desc:"file with its key"`
		Replicas      int           `envconfig:"QUEUE_REPLICAS" default:"1" min:"1" max:"5" desc:"on how many of the cluster's nodes each event is kept; 3 outlives the loss of one"`
		MaxBytes      config.Bytes  `envconfig:"QUEUE_MAX_BYTES" default:"1GiB" min:"2MiB" max:"1TiB" desc:"how much may wait on disk; more is refused with 503. Too small refuses bursts, too large fills the disk before anyone notices that the workers are too slow"`
		MaxDeliveries int           `envconfig:"QUEUE_MAX_DELIVERIES" default:"5" min:"1" max:"1000" desc:"how often an event is tried before it is a dead letter"`
		AckWait       time.Duration `envconfig:"QUEUE_ACK_WAIT" default:"5s" min:"1s" max:"10m" desc:"after which an event is delivered again if the process that had it is gone. Too short takes a process that stood still for a moment for gone, too long delays what a crash interrupted"`
	} `group:"QUEUE"`
	Workers int `envconfig:"WORKERS" default:"0" min:"0" max:"1024" desc:"how many events are handled at the same time; 0 means the number of processor cores"`
	Handler struct {
		Timeout time.Duration `envconfig:"HANDLER_TIMEOUT" default:"30s" min:"1ms" max:"1h" desc:"how long the handler may take for one event; it is told by its context, and a second later it counts as stuck"`
	} `group:"HANDLER"`
	Progress struct {
		Deadline time.Duration `envconfig:"PROGRESS_DEADLINE" default:"60s" min:"100ms" max:"1h" desc:"after which a busy worker without progress counts as stuck, and the process ends. Too short ends it for a slow disk, too long costs that much time at a hang"`
	} `group:"PROGRESS"`
	Heartbeat struct {
		Addr  string        `envconfig:"HEARTBEAT_ADDR" desc:"where to beat, as long as the workers get on; the monitor sets it for the app that it starts, empty means nowhere"`
		Every time.Duration `envconfig:"HEARTBEAT_EVERY" default:"500ms" min:"10ms" max:"1h" desc:"time between two beats; the monitor sets it to half of its timeout"`
	} `group:"HEARTBEAT"`
	Monitor struct {
		Restarts   int    `envconfig:"MONITOR_RESTARTS" default:"0" desc:"how often the monitor has restarted the app; it sets it itself"`
		LastReason string `envconfig:"MONITOR_LAST_REASON" desc:"why the last time; the monitor sets it itself"`
	} `group:"MONITOR"`
	Healthchecks struct {
		PingURL config.Secret `envconfig:"HC_PING_URL" desc:"the check that the container's cron pings every five minutes (healthchecks.io or alike); empty means none. The app itself doesn't use it"`
	} `group:"HC"`
	Shutdown struct {
		Grace time.Duration `envconfig:"SHUTDOWN_GRACE" default:"30s" min:"10ms" max:"30s" desc:"how long a shutdown may take until it is explained by a dump; the forced end follows 5s later, and the supervisors' longer times are made for at most 30s"`
	} `group:"SHUTDOWN"`

	PartSettings
}

// settings makes every struct that embeds Settings a Configuration.
func (s *Settings) settings() *Settings { return s }

// resolve fills in the defaults that depend on the machine or on another setting.
func (s *Settings) resolve() {
	if s.Device == "" {
		s.Device, _ = os.Hostname()
	}
	s.Device = cmp.Or(s.Device, "unknown")
	s.Workers = cmp.Or(s.Workers, runtime.GOMAXPROCS(0))
	s.Control.Socket = cmp.Or(s.Control.Socket, filepath.Join(s.DataDir, "control.sock"))
	s.PartSettings.resolve(s.DataDir)
}

// Scheme is how to call the web server: http or https.
func (s *Settings) Scheme() string {
	if s.Web.TLSCert != "" {
		return "https"
	}
	return "http"
}

// QueueDir is the folder of the queue's files.
func (s *Settings) QueueDir() string { return filepath.Join(s.DataDir, "queue") }

// Configuration is a pointer to a struct that embeds Settings.
type Configuration interface{ settings() *Settings }

// SettingsOf returns the settings that every fork shares.
func SettingsOf(cfg Configuration) *Settings { return cfg.settings() }

// Load fills cfg from env, and the defaults that depend on the machine. See config.Load for warnings and errors.
func Load(cfg Configuration, env config.Environment) (warnings []string, err error) {
	warnings, err = config.Load(cfg, env)
	if err == nil {
		cfg.settings().resolve()
	}
	return warnings, err
}

// KeepFor is how old dumps, errors and crash reports get: until somebody is back from a holiday.
const KeepFor = 30 * 24 * time.Hour
