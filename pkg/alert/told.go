package alert

import "sync"

// Fate is what became of the beginning or the end of a problem.
type Fate uint8

// The fates.
const (
	Lost    Fate = iota // it was given up, nobody refused it: another Send may help
	Taken               // a service took it, and none has it left
	Refused             // no service wants it
)

// untold are the beginnings and ends that some service has not taken yet, the last one of each key.
type untold struct {
	mu      sync.Mutex
	keys    map[string]Alert // at most maxKeys
	settled func(key string, s State, f Fate)
}

// expect begins to watch what becomes of al. It is not ok if too much is watched.
func (u *untold) expect(al Alert) (ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, was := u.keys[al.Key]; !was && len(u.keys) >= maxKeys {
		return false
	}
	u.keys[al.Key] = al
	return true
}

// tell says what became of a state of a key.
func (u *untold) tell(key string, s State, f Fate) {
	u.mu.Lock()
	settled := u.settled
	u.mu.Unlock()
	if settled != nil {
		settled(key, s, f)
	}
}

// takers are the senders of those who hear of al.
func (a *Alerts) takers(al Alert) (list []*sender) {
	if al.State != Note && al.Severity >= Error {
		for _, i := range []*incidents{a.pager, a.webhook} {
			if i != nil {
				list = append(list, i.sender)
			}
		}
	}
	if a.telegram != nil {
		list = append(list, a.telegram.sender)
	}
	return list
}

// heard is called when something became of an item.
func (a *Alerts) heard(it item, f Fate) {
	if f == Lost {
		a.untold.tell(it.key, it.state, Lost)
		return
	}
	a.judge(it.key)
}

// judge tells what became of the last Alert with this key, once no service has it left.
func (a *Alerts) judge(key string) {
	if al, f, known := a.outcome(key); known {
		a.untold.tell(key, al.State, f)
	}
}

func (a *Alerts) outcome(key string) (al Alert, all Fate, known bool) {
	a.untold.mu.Lock()
	defer a.untold.mu.Unlock()
	al, ok := a.untold.keys[key]
	if !ok {
		return al, Lost, false
	}
	all = Refused
	for _, s := range a.takers(al) {
		f, known := s.fate(key, al.State)
		if !known {
			return al, Lost, false
		}
		if f == Taken {
			all = Taken
		}
	}
	delete(a.untold.keys, key)
	return al, all, true
}
