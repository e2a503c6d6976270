package alert

import (
	"time"
)

// maxKeys bounds the keys that are watched at a time: an app has some ten dependencies and workers, and as many kinds of
// errors. Items with a key that finds no room are left out.
const maxKeys = 256

// limits keeps a storm from being sent item by item. Of each key the first few in a window pass at once; of the rest the
// last one passes when the window is over, with the number of those left out. Of what begins and ends the latest state
// passes: a beginning whose end came meanwhile is not sent at all.
type limits struct {
	burst  int
	window time.Duration
	keys   map[string]*past
}

// past is the history of a key.
type past struct {
	end     time.Time // of the window
	seen    int       // let through in it
	left    uint64    // left out since the last that was let through
	pending *item     // waits for the window's end; nil: nothing
	passed  State     // the last state that was let through
	flying  int       // beginnings and ends that were let through, and whose fate is not known yet
	done    State     // the last state that the service took, or refused for good
	taken   bool      // the service took done
}

func newLimits(burst int, window time.Duration) limits {
	return limits{burst: burst, window: window, keys: map[string]*past{}}
}

// admit decides about it. Pass is the item that may go now, nil if none may; suppressed is how many items are left out for good.
func (l *limits) admit(it item, now time.Time) (pass *item, suppressed uint64) {
	if it.key == "" {
		return &it, 0
	}
	p := l.keys[it.key]
	if p == nil {
		if p = l.add(it.key, now); p == nil {
			return nil, 1
		}
	}
	if p.pending != nil { // the newer one takes its place
		p.pending = nil
		p.left++
		suppressed++
	}
	switch {
	case it.state != Note && it.state == p.passed: // no news
		p.left++
		return nil, suppressed + 1
	case !now.Before(p.end):
		p.end, p.seen = now.Add(l.window), 0
	}
	if p.seen == l.burst {
		p.pending = &it
		return nil, suppressed
	}
	return p.release(it), suppressed
}

// release returns it as an item that is let through.
func (p *past) release(it item) *item {
	it.left = p.left
	p.seen, p.left, p.passed, p.pending = p.seen+1, 0, it.state, nil
	if it.state != Note {
		p.flying++
	}
	return &it
}

// add returns the history of a new key, nil if there is no room for it.
func (l *limits) add(key string, now time.Time) *past {
	if len(l.keys) >= maxKeys {
		for k, p := range l.keys {
			if p.pending == nil && p.flying == 0 && p.passed != Open && !now.Before(p.end) {
				delete(l.keys, k)
			}
		}
	}
	if len(l.keys) >= maxKeys {
		return nil
	}
	p := &past{}
	l.keys[key] = p
	return p
}

// due returns what waited long enough, all of it if all is true, and the time until there will be more; 0: nothing waits.
func (l *limits) due(now time.Time, all bool) (list []item, wait time.Duration) {
	for _, p := range l.keys {
		switch {
		case p.pending == nil:
		case all || !now.Before(p.end):
			p.end, p.seen = now.Add(l.window), 0
			list = append(list, *p.release(*p.pending))
		case wait == 0 || p.end.Sub(now) < wait:
			wait = p.end.Sub(now)
		}
	}
	return list, wait
}

// record keeps what became of an item that was let through. What is lost may be sent again.
func (l *limits) record(it item, fate Fate) {
	p := l.keys[it.key]
	if p == nil || it.state == Note {
		return
	}
	p.flying--
	switch {
	case fate != Lost:
		p.done, p.taken = it.state, fate == Taken
	case p.passed == it.state:
		p.passed = p.done
	}
}

// fate returns what became of an item, if that is known and nothing else of its key is on its way.
func (l *limits) fate(it item) (f Fate, known bool) {
	p := l.keys[it.key]
	switch {
	case it.state == Note || p != nil && (p.flying > 0 || p.pending != nil):
		return Lost, false
	case p == nil || p.done != it.state: // there was no room for it, or it was given up
		return Lost, true
	case p.taken:
		return Taken, true
	}
	return Refused, true
}
