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
	"sync"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

const (
	// maxPings is how many pings of a job may wait: those of two runs, and two more. Of more the oldest is dropped, since
	// the newest says how things are.
	maxPings = 6
	// tellPause is between two lines about the pings of the same job: the service may be away for days.
	tellPause = time.Minute
	// maxAnswer is how much of an answer is looked at: healthchecks.io says OK, and in a few words what is not.
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
	said *tail           // what the run logged, for the body; nil: nothing
}

// kindOf is how a run that ended is told. One that was interrupted neither did well nor failed: the check hears why, and
// its own grace decides.
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

// pinger sends the pings of one job, one after another, in a goroutine that lives while there are some. Its methods may
// be called on nil, which pings nobody.
type pinger struct {
	job     string
	url     url.URL
	client  *web.Client
	log     *slog.Logger
	life    context.Context // ends what is under way
	end     context.CancelFunc
	working sync.WaitGroup

	mu     sync.Mutex
	queue  []ping
	busy   bool
	closed bool
	counts Pings
	told   time.Time
	untold int
}

// pinger returns the one for j, nil if it pings nobody. The lock is held.
func (s *Scheduler) pinger(j Job) (*pinger, error) {
	address := strings.TrimSpace(j.Ping.Reveal())
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" {
		return nil, fault.Config("copy the ping URL of the check, such as https://hc-ping.com/ and a UUID", errors.New("its ping address is not an http:// or https:// URL")) // and never what it is
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
	p := &pinger{job: j.Name, url: *u, client: s.client, log: s.o.Log, closed: s.closed}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// send puts a ping into the queue. It never blocks.
func (p *pinger) send(one ping) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.counts.Dropped++
		return
	}
	p.queue = append(p.queue, one)
	if len(p.queue) > maxPings {
		p.queue = p.queue[1:]
		p.counts.Dropped++
	}
	if !p.busy {
		p.busy = true
		p.working.Go(p.work)
	}
}

func (p *pinger) work() {
	for one, ok := p.take(); ok; one, ok = p.take() {
		p.note(one, fault.Recover("ping of job "+p.job, func() error { return p.try(one) }))
	}
}

func (p *pinger) take() (ping, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.busy = false
		return ping{}, false
	}
	one := p.queue[0]
	p.queue = p.queue[1:]
	return one, true
}

// try sends a ping, as often as the policy says. Its error never has the address.
func (p *pinger) try(one ping) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(one.ctx)) // the run's trace goes on
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	u := p.url
	u.Path += one.kind
	if u.RawPath != "" {
		u.RawPath += one.kind
	}
	query := u.Query()
	query.Set("rid", one.run)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(one.said.text()))
	if err != nil {
		return errors.New("the request can't be made")
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("Idempotency-Key", one.run+one.kind) // a check bears being told twice, so that it may be tried again
	answer, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return &web.StatusError{Status: answer.StatusCode}
	}
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // the status has been read, and is what counts
	for _, no := range []string{"not found", "rate limited"} {    // healthchecks.io answers these with 200
		if strings.Contains(string(said), "("+no+")") {
			return errors.New("the check answers: " + no)
		}
	}
	return nil
}

// note counts what became of a ping, and tells once in tellPause that they fail.
func (p *pinger) note(one ping, err error) {
	p.mu.Lock()
	if err == nil {
		p.counts.Sent++
		p.mu.Unlock()
		return
	}
	p.counts.Failed++
	now := time.Now()
	if !p.told.IsZero() && now.Sub(p.told) < tellPause {
		p.untold++
		p.mu.Unlock()
		return
	}
	more := p.untold
	p.told, p.untold = now, 0
	p.mu.Unlock()
	p.log.WarnContext(one.ctx, "the ping of a job did not arrive", "job", p.job, "error", oneLine(err), "more", more)
}

func (p *pinger) stats() *Pings {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	return &counts
}

// Close waits until the pings that wait are sent, or until ctx ends; what is left then is given up, and its number is
// the error. It is called when Run has returned: no ping is taken any more.
func (s *Scheduler) Close(ctx context.Context) error {
	list := s.closePingers()
	before := lost(list)
	defer context.AfterFunc(ctx, func() {
		for _, p := range list {
			p.abandon()
		}
	})()
	for _, p := range list {
		p.working.Wait()
		p.end()
	}
	if n := lost(list) - before; n > 0 {
		return fmt.Errorf("schedule: %d pings could not be sent", n)
	}
	return nil
}

func (s *Scheduler) closePingers() (list []*pinger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, j := range s.jobs {
		if p := j.pings; p != nil {
			p.mu.Lock()
			p.closed = true
			p.mu.Unlock()
			list = append(list, p)
		}
	}
	return list
}

func lost(list []*pinger) (n uint64) {
	for _, p := range list {
		counts := p.stats()
		n += counts.Failed + counts.Dropped
	}
	return n
}

// abandon gives up what waits and what is under way.
func (p *pinger) abandon() {
	p.mu.Lock()
	p.counts.Dropped += uint64(len(p.queue))
	p.queue = nil
	p.mu.Unlock()
	p.end()
}
