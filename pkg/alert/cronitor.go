package alert

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/text"
)

// maxMessage is what is sent of a message, in bytes; Cronitor takes 2,000 characters, and proxies cut long URLs.
const maxMessage = 1000

// cronitor sends pings: https://cronitor.io/docs/telemetry-api.
type cronitor struct {
	*sender
	a      *Alerts
	url    string // with both keys: a secret
	client *http.Client
}

func (a *Alerts) newCronitor(url string) *cronitor {
	return &cronitor{sender: a.sender(cronitorName, pingQueue, alertBurst, alertWindow), a: a, url: url}
}

func (c *cronitor) connect(client connector) (err error) {
	c.client, err = dial(client, c.service, policy())
	return err
}

func (c *cronitor) offer(p Ping) {
	if c == nil {
		return
	}
	q := url.Values{"state": {p.State}, "host": {c.a.o.Device}}
	if p.Message != "" {
		q.Set("msg", text.Ellipsis(text.OneLine(c.a.redact(cut(p.Message, maxText))), maxMessage))
	}
	if p.Counting {
		q["metric"] = []string{"count:" + strconv.Itoa(p.Workers), "error_count:" + strconv.Itoa(p.Missing)}
	}
	c.sender.offer(item{send: func(ctx context.Context, _ uint64) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"?"+q.Encode(), nil)
		if err != nil {
			return outbox.Final(bare(err))
		}
		_, err = call(c.client, req)
		return err
	}})
}
