package alert

import "slices"

// Fate is what became of the beginning or the end of a problem at one service.
type Fate uint8

// The fates.
const (
	Lost    Fate = iota // it was given up, though nobody refused it: to send it again may help
	Taken               // the service took it
	Refused             // it never will
)

// Takers names the services that hear of al.
func (a *Alerts) Takers(al Alert) (names []string) {
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

// Send tells people. What is longer than the services take is clipped. Surroundings.Settled hears what became of a
// beginning or an end.
func (a *Alerts) Send(al Alert) { a.SendTo(al, a.Takers(al)...) }

// SendTo is Send for some of the services that hear of al, by their names.
func (a *Alerts) SendTo(al Alert, names ...string) {
	al = al.Clip()
	for _, name := range a.Takers(al) {
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

// heard passes on what became of an item.
func (a *Alerts) heard(service string, it item, f Fate) {
	if settled := a.settled.Load(); settled != nil && *settled != nil {
		(*settled)(service, it.key, it.state, f)
	}
}
