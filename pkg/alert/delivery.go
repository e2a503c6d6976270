package alert

import (
	"slices"

	"example.com/base-app/pkg/outbox"
)

// Fate is what became of the beginning or the end of a problem at one service.
type Fate = outbox.Outcome

// The fates.
const (
	Lost    = outbox.Lost      // it was given up, though nobody refused it: to send it again may help
	Taken   = outbox.Delivered // the service took it
	Refused = outbox.Refused   // it never will
)

// Receivers names the services that al is for.
func (a *Alerts) Receivers(al Alert) (names []string) {
	if al.State != Note && al.Severity >= Error {
		if a.pager != nil {
			names = append(names, pagerdutyName)
		}
		if a.webhook != nil {
			names = append(names, webhookName)
		}
	}
	if a.telegram != nil {
		names = append(names, telegramName)
	}
	return names
}

// Send sends al to its receivers. What is longer than the services take is clipped. Surroundings.Outcome is called with what
// became of a beginning or an end.
func (a *Alerts) Send(al Alert) { a.SendTo(al, a.Receivers(al)...) }

// SendTo is Send for some of the services that al is for, by their names.
func (a *Alerts) SendTo(al Alert, names ...string) {
	al = al.Clip()
	for _, name := range a.Receivers(al) {
		switch {
		case !slices.Contains(names, name):
		case name == pagerdutyName:
			a.pager.offer(al)
		case name == webhookName:
			a.webhook.offer(al)
		case name == telegramName:
			a.telegram.offer(al)
		}
	}
}

// reportOutcome passes on what became of an item.
func (a *Alerts) reportOutcome(service string, it item, f Fate) {
	if outcome := a.outcome.Load(); outcome != nil && *outcome != nil {
		(*outcome)(service, it.key, it.state, f)
	}
}
