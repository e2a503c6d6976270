package schedule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/warnlimit"
	"example.com/base-app/pkg/web"
)

const (
	// maxPings is how many pings of a job may wait: those of two runs, and two more. Of more the oldest is dropped, since
	// the newest shows how things are.
	maxPings = 6
	// maxAnswer is how much of an answer is looked at: healthchecks.io answers OK, or a few words about what is not.
	maxAnswer = 128
)

// PingPolicy is the policy for the client of pings. Source of the first two numbers: healthchecks.io's advice for the
// options of curl, https://healthchecks.io/docs/reliability_tips/.
func PingPolicy() dependency.Policy {
	return dependency.Policy{
		Attempt:  10 * time.Second,
		Tries:    6, // the first one and five more
		Total:    2 * time.Minute,
		Pause:    2 * time.Second,
		MaxPause: 15 * time.Second,
		// When three pings in a row were lost those that follow have one try each, until one arrives.
		Failures: 18,
		Cooldown: time.Second,
	}
}

// ping is one message to a check.
type ping struct {
	ctx  context.Context // the run's; its end doesn't matter
	kind string          // what is put behind the address: /start, /fail, /log, an exit status, nothing for success
	run  string          // its id, a UUID
	log  *tail           // what the run logged, for the body; nil: nothing
}

// kindOf is the kind of ping for a run that ended. One that was interrupted neither did well nor failed: its ping has why, and
// the check's own grace decides.
func kindOf(o Outcome, err error) string {
	switch o {
	case Done:
		return ""
	case Interrupted:
		return "/log"
	}
	if e, ok := errors.AsType[interface {
		error
		ExitCode() int // os/exec's
	}](err); ok && e.ExitCode() > 0 && e.ExitCode() <= 255 {
		return "/" + strconv.Itoa(e.ExitCode())
	}
	return "/fail"
}

// pinger sends the pings of one job, one after another. A nil pinger pings nobody.
type pinger struct {
	job      string
	url      url.URL
	client   *web.Client
	box      *outbox.Outbox[ping]
	warnings warnlimit.Limiter
}

// pinger returns the one for j, nil if it pings nobody. The lock is held.
func (s *Scheduler) pinger(j Job) (*pinger, error) {
	address := strings.TrimSpace(j.Ping.Reveal())
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" {
		return nil, fault.Config("copy the ping URL of the check, such as https://hc-ping.com/ and a UUID",
			errors.New("its ping address is not an http:// or https:// URL")) // and never what it is
	}
	if s.client == nil {
		if s.o.Client == nil {
			return nil, errors.New("there is no client for its pings")
		}
		if s.client, err = s.o.Client(); err != nil {
			return nil, err
		}
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return newPinger(j.Name, *u, s.client, s.o.Log), nil
}

func newPinger(job string, u url.URL, client *web.Client, log *slog.Logger) *pinger {
	p := &pinger{job: job, url: u, client: client}
	p.warnings.Warn = func(ctx context.Context, err error, more int) {
		log.WarnContext(ctx, "the ping of a job did not arrive", "job", job, "error", errorText(err), "more", more)
	}
	p.warnings.Over = func(ctx context.Context, failures int) {
		log.InfoContext(ctx, "the pings of a job arrive again", "job", job, "failures", failures)
	}
	p.box = outbox.New(outbox.Options[ping]{Name: "ping of job " + job, Items: maxPings, Deliver: p.deliver})
	return p
}

// send queues a ping. It never blocks.
func (p *pinger) send(one ping) {
	if p != nil {
		p.box.Start() // only now, since most schedulers of tests and commands never run a job
		p.box.Post(one)
	}
}

// deliver sends a ping. The client has tried again as often as the policy says: a failure is final.
func (p *pinger) deliver(ctx context.Context, batch []ping) error {
	one := batch[0]
	if err := fault.Recover("ping of job "+p.job, func() error { return p.try(ctx, one) }); err != nil {
		p.warnings.Failed(one.ctx, err)
		return outbox.Final(err)
	}
	p.warnings.Recovered(one.ctx)
	return nil
}

// try sends a ping, as often as the policy allows. Its error never has the address.
func (p *pinger) try(life context.Context, one ping) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(one.ctx)) // the run's trace goes on
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	u := p.url
	u.Path += one.kind
	if u.RawPath != "" {
		u.RawPath += one.kind
	}
	query := u.Query()
	query.Set("rid", one.run)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(one.log.text()))
	if err != nil {
		return errors.New("the request can't be made")
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("Idempotency-Key", one.run+one.kind) // a check bears the same ping twice, so that it may be tried again
	answer, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return &web.StatusError{Status: answer.StatusCode}
	}
	words, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // the status has been read, and is what counts
	for _, no := range []string{"not found", "rate limited"} {     // healthchecks.io answers these with 200
		if strings.Contains(string(words), "("+no+")") {
			return errors.New("the check answers: " + no)
		}
	}
	return nil
}

func (p *pinger) stats() *Pings {
	if p == nil {
		return nil
	}
	n := p.box.Stats()
	return &Pings{Sent: n.Delivered, Failed: n.Refused, Dropped: n.Dropped}
}

// Close waits until the pings that wait are sent, or until ctx ends; what is left then is given up, and its number is
// the error. It is called when Run has returned: no ping is accepted any more.
func (s *Scheduler) Close(ctx context.Context) error {
	list := s.pingers()
	before := unsent(list)
	for _, p := range list {
		_, _ = p.box.Close(ctx) // what it gives up is counted
	}
	if n := unsent(list) - before; n > 0 {
		return fmt.Errorf("schedule: %d pings could not be sent", n)
	}
	return nil
}

func (s *Scheduler) pingers() (list []*pinger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.pings != nil {
			list = append(list, j.pings)
		}
	}
	return list
}

func unsent(list []*pinger) (n uint64) {
	for _, p := range list {
		counts := p.stats()
		n += counts.Failed + counts.Dropped
	}
	return n
}
