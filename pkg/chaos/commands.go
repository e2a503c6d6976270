package chaos

import (
	"encoding/json"
	"net/http"
	"time"

	"example.com/base-app/pkg/fault"
)

// orderHealth is what /healthz tells of an order: the public needs no names and reasons.
type orderHealth struct {
	ID          int       `json:"id"`
	Scope       string    `json:"scope"`
	Kind        Kind      `json:"kind"`
	Probability float64   `json:"probability"`
	Until       time.Time `json:"until"`
	Strikes     uint64    `json:"strikes"`
}

// Health is the part of the health: "off", or the active orders.
func (c *Chaos) Health() any {
	active := c.Active()
	if len(active) == 0 {
		return "off"
	}
	list := make([]orderHealth, len(active))
	for i, s := range active {
		list[i] = orderHealth{s.ID, s.Scope, s.Kind, s.Probability, s.Until, s.Strikes}
	}
	return list
}

// StopOrder is what the command stop takes. ID 0 means all.
type StopOrder struct {
	ID     int    `json:"id"`
	Reason string `json:"reason"`
}

// Commands registers what the control socket answers about fault injection.
func (c *Chaos) Commands(register func(pattern string, answer func(*http.Request) (any, error))) {
	register("GET /chaos", func(*http.Request) (any, error) { return c.List(), nil })
	register("GET /chaos/points", func(*http.Request) (any, error) { return c.Points(), nil })
	register("POST /chaos", func(r *http.Request) (any, error) {
		var o Order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			return nil, fault.Usage(`the body is no {"scope":"…","kind":"…","probability":1,"for":nanoseconds,"reason":"…"}: %w`, err)
		}
		o.By = r.RemoteAddr
		return c.Start(o)
	})
	register("POST /chaos/stop", func(r *http.Request) (any, error) {
		var o StopOrder
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			return nil, fault.Usage(`the body is no {"id":1,"reason":"…"}: %w`, err)
		}
		return c.Stop(o.ID, r.RemoteAddr, o.Reason)
	})
}
