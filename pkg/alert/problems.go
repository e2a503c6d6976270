package alert

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// ProblemsFile is the file in the data folder that names the problems which have begun and not ended, and what people do
// not know yet, so that the next process can send it.
const ProblemsFile = "alerts.json"

// Problems are those that have begun, until it was sent that they are over. What was sent stands in the file only after a
// service took it: what is on its way when the process dies is sent again by the next one, under the same key.
//
// Without a file (Load) nobody is alerted: what is raised is discarded.
type Problems struct {
	scene  Scene
	alerts outlet

	lock     sync.Mutex
	previous Alert  // how the run before this one ended; without a key: well
	path     string // empty: nobody is alerted
	open     map[string]*problem
}

// outlet is what Problems need of Alerts.
type outlet interface {
	Receivers(Alert) []string
	Send(Alert)
	SendTo(a Alert, services ...string)
}

// problem is what is known of one, and what the services know.
type problem struct {
	Alert
	Told  map[string]State // what each service took last, or refused
	Heard bool             // whether one took its beginning: if none wants to, the next process may try again
	Times int              `json:",omitempty"` // how often the problem began lately, for ExitKey
	Last  time.Time        `json:",omitzero"`  // when it did so, or was seen again, last

	lost map[string]bool // the services that it has to be sent to again
}

// NewProblems returns none, which will be looked for in s and sent through a.
func NewProblems(a *Alerts, s Scene) *Problems {
	return &Problems{alerts: a, scene: s, open: map[string]*problem{}}
}

// Load reads the file at path, and keeps it from now on. A torn one is as good as none.
func (p *Problems) Load(path string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.path = path
	list := map[string]*problem{}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &list) != nil {
		return
	}
	for key, k := range list {
		if k != nil && k.Key == key && key != "" && (k.State == Open || k.State == Over) && k.Severity <= Critical {
			k.Alert, k.lost = k.Clip(), map[string]bool{}
			if k.Told == nil {
				k.Told = map[string]State{}
			}
			p.open[key] = k
		}
	}
}

// Raise sends a's beginning or end, if it is news.
func (p *Problems) Raise(a Alert) {
	a = a.Clip()
	if p.add(a) {
		p.alerts.Send(a)
	}
}

// list returns those that are not over.
func (p *Problems) list() map[string]Alert {
	p.lock.Lock()
	defer p.lock.Unlock()
	list := map[string]Alert{}
	for key, k := range p.open {
		if k.State == Open {
			list[key] = k.Alert
		}
	}
	return list
}

// add keeps a, and returns whether it is news.
func (p *Problems) add(a Alert) bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.path == "" {
		return false
	}
	k := p.open[a.Key]
	isOpen := k != nil && k.State == Open
	news := a.State == Open && (!isOpen || k.Severity != a.Severity) || a.State == Over && isOpen
	if k == nil && news {
		k = &problem{}
		p.open[a.Key] = k
	}
	if a.State == Open && a.Key == ExitKey {
		k.count(!isOpen, time.Now())
	}
	if news {
		k.Alert, k.lost = a, map[string]bool{}
		if a.State == Open { // whatever was sent before
			k.Told, k.Heard = map[string]State{}, false
		}
		p.forget(k)
	}
	if news || a.State == Open && a.Key == ExitKey {
		p.save()
	}
	return news
}

// Settled is for Surroundings.Outcome: it keeps what became of what was sent.
func (p *Problems) Settled(service, key string, s State, f Fate) {
	p.lock.Lock()
	defer p.lock.Unlock()
	k := p.open[key]
	if k == nil {
		return
	}
	if f == Lost {
		k.lost[service] = k.State == s
		return
	}
	k.Told[service] = s
	k.Heard = k.Heard || f == Taken
	p.forget(k)
	p.save()
}

// left names the services that do not know yet how k is.
func (p *Problems) left(k *problem) (names []string) {
	for _, service := range p.alerts.Receivers(k.Alert) {
		if k.Told[service] != k.State {
			names = append(names, service)
		}
	}
	return names
}

// forget drops k if it is over and every service knows it, except for how often it was.
func (p *Problems) forget(k *problem) {
	if k.State == Over && k.Key != ExitKey && len(p.left(k)) == 0 {
		delete(p.open, k.Key)
	}
}

// Resume sends each service what it does not know of the problems of the process before this one.
func (p *Problems) Resume() { p.resend(true) }

// resend sends each service what it does not know yet: all of that, or what was lost.
func (p *Problems) resend(all bool) {
	p.lock.Lock()
	var calls []func()
	for _, k := range p.open {
		for _, service := range p.left(k) {
			if !all && !k.lost[service] {
				continue
			}
			delete(k.lost, service)
			a, began := k.Alert, k.Alert
			began.State = Open
			if a.State == Over && k.Told[service] == Note { // nor that it began
				calls = append(calls, func() { p.alerts.SendTo(began, service) })
			}
			calls = append(calls, func() { p.alerts.SendTo(a, service) })
		}
	}
	p.lock.Unlock()
	for _, call := range calls {
		call()
	}
}

// save writes the file; it is called under the lock.
func (p *Problems) save() {
	list := map[string]*problem{}
	for key, k := range p.open {
		if len(p.left(k)) == 0 && (k.State == Open && !k.Heard || k.State == Over && time.Since(k.Last) >= lately) {
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
