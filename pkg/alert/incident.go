package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/text"
)

// enqueuePath is where PagerDuty takes events.
const enqueuePath = "/v2/enqueue"

const (
	maxSummary = 1024 // PagerDuty's limits, in bytes
	maxDedup   = 255
	maxDetail  = 2 << 10 // its whole event may have 512 KiB
)

// incidents sends problems to PagerDuty, or to a webhook in the same form without the routing key:
// https://developer.pagerduty.com/docs/events-api-v2-overview. The key of an incident has the app's name and the device's, so
// that the next life of the process can resolve it.
type incidents struct {
	*sender
	a       *Alerts
	url     string
	routing string // empty: a webhook
	client  *http.Client
}

func (a *Alerts) newIncidents(service, url, routing string) *incidents {
	return &incidents{sender: a.sender(service, alertQueue, alertBurst, alertWindow), a: a, url: url, routing: routing}
}

func (i *incidents) connect(client connector) (err error) {
	i.client, err = dial(client, i.service, policy())
	return err
}

// incident is one event in the form of PagerDuty's Events API v2.
type incident struct {
	RoutingKey string          `json:"routing_key,omitempty"`
	Action     string          `json:"event_action"`
	Dedup      string          `json:"dedup_key"`
	Client     string          `json:"client"`
	Payload    incidentPayload `json:"payload"`
}

type incidentPayload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp time.Time         `json:"timestamp"`
	Component string            `json:"component"`
	Group     string            `json:"group,omitempty"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

// offer queues al. Nil incidents discard it.
func (i *incidents) offer(al Alert) {
	if i == nil {
		return
	}
	at := time.Now().UTC()
	i.sender.offer(item{key: al.Key, state: al.State, send: func(ctx context.Context, left uint64) error {
		return i.post(ctx, i.encode(al, at, left))
	}})
}

func (i *incidents) encode(al Alert, at time.Time, left uint64) incident {
	o := i.a.o
	e := incident{RoutingKey: i.routing, Action: "trigger", Dedup: clipKey(o.App + "@" + o.Device + "/" + al.Key), Client: o.App,
		Payload: incidentPayload{
			Summary: text.Ellipsis(text.OneLine(i.a.redact(o.App+" on "+o.Device+": "+al.Summary)), maxSummary-len("…")),
			Source:  o.Device, Severity: al.Severity.String(), Timestamp: at, Component: o.App, Group: o.Deployment,
			Details: map[string]string{"version": o.Version}}}
	if al.State == Over {
		e.Action = "resolve"
	}
	for k, v := range al.Details {
		if v != "" {
			e.Payload.Details[k] = text.Ellipsis(i.a.redact(v), maxDetail)
		}
	}
	if left > 0 {
		e.Payload.Details["left_out"] = strconv.FormatUint(left, 10)
	}
	return e
}

// clipKey returns a copy: a part of a long key would keep the whole in memory.
func clipKey(key string) string { return strings.Clone(key[:min(len(key), maxDedup)]) }

func (i *incidents) post(ctx context.Context, e incident) error {
	body, err := json.Marshal(e)
	if err != nil {
		return outbox.Final(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, bytes.NewReader(body))
	if err != nil {
		return outbox.Final(bare(err))
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := call(i.client, req)
	if err != nil || i.routing == "" {
		return err
	}
	var result struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(answer, &result) != nil || result.Status != "success" {
		return nonsense("no status success")
	}
	return nil
}
