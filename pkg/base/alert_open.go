package base

import (
	"encoding/json"
	"os"
	"sync"
	"time"

	"example.com/base-app/pkg/alert"
)

// openProblems is the file in the data folder that names the problems which have begun and not ended, and what people do
// not know yet, so that the next process can tell it.
const openProblems = "alerts.json"

// problems are those that have begun, until it was told that they are over. What was told stands in the file only after a
// service took it: what is sent when the process dies is sent again by the next one, under the same key.
type problems struct {
	lastRun   alert.Alert // how the run before this one ended; without a key: well
	causeTold sync.Once

	lock sync.Mutex
	path string // empty: nobody is told
	open map[string]*known
	// takers names the services that hear of an alert.
	takers func(alert.Alert) []string
}

// known is what is known of a problem, and what people were told.
type known struct {
	alert.Alert
	Told  map[string]alert.State // what each service took last, or refused
	Heard bool                   // whether one took its beginning: if none wants to, the next process may try again
	Times int                    `json:",omitempty"` // how often the problem began lately, for exitKey
	Last  time.Time              `json:",omitzero"`  // when it did so, or was seen again, last

	lost map[string]bool // the services that it has to be sent to again
}

func (p *problems) load(path string, takers func(alert.Alert) []string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.path, p.open, p.takers = path, map[string]*known{}, takers
	list := map[string]*known{}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &list) != nil {
		return // a torn one tells nothing
	}
	for key, k := range list {
		if k != nil && k.Key == key && key != "" && (k.State == alert.Open || k.State == alert.Over) && k.Severity <= alert.Critical {
			k.Alert, k.lost = k.Clip(), map[string]bool{}
			if k.Told == nil {
				k.Told = map[string]alert.State{}
			}
			p.open[key] = k
		}
	}
}

// list returns those that are not over.
func (p *problems) list() map[string]alert.Alert {
	p.lock.Lock()
	defer p.lock.Unlock()
	list := map[string]alert.Alert{}
	for key, k := range p.open {
		if k.State == alert.Open {
			list[key] = k.Alert
		}
	}
	return list
}

// note keeps a, and tells whether it is news.
func (p *problems) note(a alert.Alert) bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.path == "" {
		return false
	}
	k := p.open[a.Key]
	isOpen := k != nil && k.State == alert.Open
	news := a.State == alert.Open && (!isOpen || k.Severity != a.Severity) || a.State == alert.Over && isOpen
	if k == nil && news {
		k = &known{}
		p.open[a.Key] = k
	}
	if a.State == alert.Open && a.Key == exitKey {
		k.again(!isOpen, time.Now())
	}
	if news {
		k.Alert, k.lost = a, map[string]bool{}
		if a.State == alert.Open { // whatever was told before
			k.Told, k.Heard = map[string]alert.State{}, false
		}
		p.forget(k)
	}
	if news || a.State == alert.Open && a.Key == exitKey {
		p.save()
	}
	return news
}

// again counts how often a problem began lately.
func (k *known) again(began bool, now time.Time) {
	switch {
	case now.Sub(k.Last) >= lately || k.Times == 0:
		k.Times = 1
	case began:
		k.Times++
	}
	k.Last = now
}

// steadyAfter is how long this process must have lived before the end of the last one counts as over.
func (p *problems) steadyAfter() time.Duration {
	p.lock.Lock()
	defer p.lock.Unlock()
	wait := steady
	if k := p.open[exitKey]; k != nil {
		for n := 1; n < k.Times && wait < mostSteady; n++ {
			wait *= 2
		}
	}
	return min(wait, mostSteady)
}

// settled hears what became of what was sent.
func (p *problems) settled(service, key string, s alert.State, f alert.Fate) {
	p.lock.Lock()
	defer p.lock.Unlock()
	k := p.open[key]
	if k == nil {
		return
	}
	if f == alert.Lost {
		k.lost[service] = k.State == s
		return
	}
	k.Told[service] = s
	k.Heard = k.Heard || f == alert.Taken
	p.forget(k)
	p.save()
}

// left names the services that do not know yet how k is.
func (p *problems) left(k *known) (names []string) {
	for _, service := range p.takers(k.Alert) {
		if k.Told[service] != k.State {
			names = append(names, service)
		}
	}
	return names
}

// forget drops k if it is over and nobody has to be told, except for how often it was.
func (p *problems) forget(k *known) {
	if k.State == alert.Over && k.Key != exitKey && len(p.left(k)) == 0 {
		delete(p.open, k.Key)
	}
}

// again has each service told what it does not know yet: all of that, or what was lost.
func (p *problems) again(all bool, send func(alert.Alert, ...string)) {
	p.lock.Lock()
	var calls []func()
	for _, k := range p.open {
		for _, service := range p.left(k) {
			if !all && !k.lost[service] {
				continue
			}
			delete(k.lost, service)
			a, began := k.Alert, k.Alert
			began.State = alert.Open
			if a.State == alert.Over && k.Told[service] == alert.Note { // nor that it began
				calls = append(calls, func() { send(began, service) })
			}
			calls = append(calls, func() { send(a, service) })
		}
	}
	p.lock.Unlock()
	for _, call := range calls {
		call()
	}
}

// save writes the file; it is called under the lock.
func (p *problems) save() {
	list := map[string]*known{}
	for key, k := range p.open {
		if len(p.left(k)) == 0 && (k.State == alert.Open && !k.Heard || k.State == alert.Over && time.Since(k.Last) >= lately) {
			continue
		}
		list[key] = k
	}
	text, err := json.Marshal(list)
	if err == nil {
		err = os.WriteFile(p.path+".new", text, 0o600)
	}
	if err == nil {
		_ = os.Rename(p.path+".new", p.path) // if it is lost, an end may be
	}
}
