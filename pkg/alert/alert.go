// Package alert reports to people what goes wrong, through the services that they use: Sentry, PagerDuty, a webhook,
// Telegram, Cronitor. With none of them an error is a file in the data folder.
//
//	guards, Capture ─┐                                         ┌─► Sentry, or files
//	log: ERROR ──────┼─► by the kind's rule, not ignored ──────┤
//	feedback ────────┘                                         │   each with a sender of its own:
//	Send: problems, and when they are over ────────────────────┼─► PagerDuty, webhook, Telegram
//	Ping: how the workers are ─────────────────────────────────┴─► Cronitor
//
//	sender: limit by key ─► outbox, bounded ─► one try after another ─► the service
//
// It promises that no caller waits: each service has an outbox of its own (pkg/outbox), and Close takes no longer than its
// context. A service that is away holds up no other. What was sent (as the service's answer says), dropped and left out is
// counted by service (Stats). Of a storm the first few are sent, and then how many there were. No error and no log line
// has a secret in it, and no text leaves the process unscrubbed (dependency.Scrub).
//
// Errors of dependencies, and errors during the shutdown, are not reported; the first cause of the end is, once.
//
// Problems finds what is wrong in what it is given to look at (dependencies, checks, the workers), keeps in a file what has
// begun and not ended, and so lets the next process say that it is over. End alerts of the end of the process.
package alert

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/web"
)

// State is the state that an Alert reports of its key.
type State uint8

// The states.
const (
	Note State = iota // something happened
	Open              // a problem began
	Over              // it is over
)

// Severity is how bad it is. PagerDuty and the webhook get Error and Critical alone: they wake somebody up.
type Severity uint8

// The severities, with PagerDuty's names.
const (
	Info Severity = iota
	Warning
	Error
	Critical
)

// String returns PagerDuty's name.
func (s Severity) String() string {
	return [...]string{"info", "warning", "error", "critical"}[min(s, Critical)]
}

// Alert is something that people should know.
type Alert struct {
	Key      string // what it is about, the same at its beginning and its end, in every life of the process: dependency/db
	State    State
	Severity Severity // the same at its beginning and its end
	Summary  string
	Details  map[string]string
}

// Clip returns a with no more in it than the services take, some 70 KiB: what waits is bounded by that, too.
func (a Alert) Clip() Alert {
	a.Key, a.Summary = clipKey(a.Key), cut(a.Summary, maxText)
	details := make(map[string]string, min(len(a.Details), maxAttrs))
	for _, k := range slices.Sorted(maps.Keys(a.Details)) {
		if len(details) == maxAttrs {
			break
		}
		details[text.Ellipsis(k, maxKeyName)] = cut(a.Details[k], maxDetail)
	}
	a.Details = details
	return a
}

// Ping is how the workers are, for Cronitor.
type Ping struct {
	State    string // run, complete, fail or ok
	Message  string
	Workers  int // that should be there
	Missing  int
	Counting bool // whether the two numbers are known
}

// Stat counts what became of the items for a service.
type Stat struct {
	Service    string
	Sent       uint64
	Dropped    uint64 // given up: the queue was full, the service did not want it, or the time to end was over
	Suppressed uint64 // left out by the limit of storms
}

// The services, as Stats names them.
const (
	sentryName    = "sentry"
	fileName      = "file"
	pagerdutyName = "pagerduty"
	webhookName   = "webhook"
	telegramName  = "telegram"
	cronitorName  = "cronitor"
)

// Prefix is what the names of the services as dependencies begin with.
const Prefix = "alert-"

const (
	// An incident is opened once and resolved once in five minutes; of what flaps the last state is sent.
	alertBurst, alertWindow = 2, 5 * time.Minute
	// A few events of one kind show what they have in common; one a minute then shows that it goes on.
	eventBurst, eventWindow = 5, time.Minute
	// Alerts are small and rare: what finds more waiting than this is a storm of many keys.
	alertQueue = 64
	// An event has up to 200 KiB, so that these are some 10 MiB.
	eventQueue = 48
	// Old pings are worth nothing: the newest one, and that of the end.
	pingQueue = 2
)

// Alerts owns the senders. Its methods may be called from any goroutine.
type Alerts struct {
	o       Options
	redact  func(string) string
	senders []*sender

	errors    *reporter // always there
	pager     *incidents
	webhook   *incidents
	telegram  *telegram
	cronitor  *cronitor
	ignored   map[string]*atomic.Uint64 // by the names in Options.Ignore
	closing   atomic.Pointer[func() bool]
	listeners sync.WaitGroup
	outcome   atomic.Pointer[func(service, key string, s State, f Fate)]

	mu      sync.Mutex
	clients []*web.Client
	stop    context.CancelFunc // ends what listens; nil before Start
	closed  bool
}

// New checks o and makes what it switches on. It does not block, and sends nothing before Start. Its errors are of
// fault.KindConfig and name each setting that is wrong, never its value.
func New(o Options) (*Alerts, error) {
	p, err := o.plan()
	if err != nil {
		return nil, err
	}
	a := &Alerts{o: o, redact: redactor(o.secrets()), ignored: map[string]*atomic.Uint64{}}
	for _, name := range o.Ignore {
		a.ignored[name] = &atomic.Uint64{}
	}
	a.errors = a.newReporter(p)
	if o.PagerDuty.RoutingKey != "" {
		a.pager = a.newIncidents(pagerdutyName, p.pagerduty, o.PagerDuty.RoutingKey)
	}
	if o.Webhook != "" {
		a.webhook = a.newIncidents(webhookName, o.Webhook, "")
	}
	if o.Telegram.Token != "" {
		a.telegram = a.newTelegram(o.Telegram, p.chat)
	}
	if o.Cronitor.APIKey != "" {
		a.cronitor = a.newCronitor(p.cronitor)
	}
	return a, nil
}

// sender makes the sender of a service.
func (a *Alerts) sender(service string, size, burst int, window time.Duration) *sender {
	s := newSender(service, size, burst, window, a.redact)
	s.outcome = a.reportOutcome
	a.senders = append(a.senders, s)
	return s
}

// Surroundings are what Alerts need to run.
type Surroundings struct {
	Log *slog.Logger // of services that fail, once a minute each
	// Client makes the client of a service, as a dependency that is not required.
	Client  func(name string, p dependency.Policy) (*web.Client, error)
	Closing func() bool   // whether the process shuts down
	Status  func() string // what /status answers in Telegram
	// Outcome is called with what became, at a service, of each beginning and end that Send was given. It may be called before
	// Send returns; the service's sender waits for it. Nil: not called.
	Outcome func(service, key string, s State, f Fate)
}

// Start begins to send. It does not block. Telegram's commands are answered until ctx ends. Its errors are Client's.
func (a *Alerts) Start(ctx context.Context, with Surroundings) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closing.Store(&with.Closing)
	a.outcome.Store(&with.Outcome)
	for _, s := range a.senders {
		s.log = with.Log
	}
	client := func(service string, p dependency.Policy) (*web.Client, error) {
		c, err := with.Client(Prefix+service, p)
		if err == nil {
			a.clients = append(a.clients, c)
		}
		return c, err
	}
	if err := a.errors.connect(client); err != nil {
		return err
	}
	for _, i := range []*incidents{a.pager, a.webhook} {
		if i == nil {
			continue
		}
		if err := i.connect(client); err != nil {
			return err
		}
	}
	if a.cronitor != nil {
		if err := a.cronitor.connect(client); err != nil {
			return err
		}
	}
	ctx, a.stop = context.WithCancel(ctx)
	if a.telegram != nil {
		if err := a.telegram.connect(client); err != nil {
			return err
		}
		a.listeners.Go(func() { a.telegram.listen(ctx, with.Status) })
	}
	for _, s := range a.senders {
		s.open()
	}
	return nil
}

// Watched returns whether there is a service that Send sends to.
func (a *Alerts) Watched() bool { return a.pager != nil || a.webhook != nil || a.telegram != nil }

// Pinged returns whether there is a service that Ping sends to.
func (a *Alerts) Pinged() bool { return a.cronitor != nil }

// Ping sends p to Cronitor.
func (a *Alerts) Ping(p Ping) { a.cronitor.offer(p) }

// Stats returns the counts of each service that is switched on.
func (a *Alerts) Stats() []Stat {
	list := make([]Stat, len(a.senders))
	for i, s := range a.senders {
		list[i] = s.stat()
	}
	return list
}

// Ignored returns how many errors each name of Options.Ignore has hidden.
func (a *Alerts) Ignored() map[string]uint64 {
	n := make(map[string]uint64, len(a.ignored))
	for name, count := range a.ignored {
		n[name] = count.Load()
	}
	return n
}

// Close sends what is left, to all services at once, and ends. It returns when that is done or ctx ends; its error names
// the services that had no time for everything. What is sent later is dropped, and counted. A second call returns at once,
// also while the first waits: there is nothing that it could add.
func (a *Alerts) Close(ctx context.Context) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	if a.stop != nil {
		a.stop()
	}
	clients := a.clients
	a.mu.Unlock()
	errs := make(chan error, len(a.senders))
	for _, s := range a.senders {
		go func() { errs <- s.Close(ctx) }()
	}
	var all []error
	for range a.senders {
		all = append(all, <-errs)
	}
	listening := make(chan struct{})
	go func() { defer close(listening); a.listeners.Wait() }()
	select {
	case <-listening:
	case <-ctx.Done():
	}
	for _, c := range clients {
		c.Close()
	}
	return errors.Join(all...)
}

func (a *Alerts) isClosing() bool {
	closing := a.closing.Load()
	return closing != nil && (*closing)()
}

// Capture reports err, if its kind is one that is reported. The context has the request and the worker. It is for
// errors that the app catches itself; guards report what they catch.
func (a *Alerts) Capture(ctx context.Context, err error) {
	fault.Guard{Closing: a.isClosing, Report: a.Report}.Handle(ctx, "", err)
}

// redactor returns what hides all of secrets, and whatever looks like one, in a text.
func redactor(secrets []string) func(string) string {
	var pairs []string
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // of two that begin alike the longer one
	for _, s := range secrets {
		pairs = append(pairs, s, "[redacted]")
	}
	r := strings.NewReplacer(pairs...)
	return func(text string) string { return dependency.Scrub(r.Replace(text)) }
}
