package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/worker"
)

func TestThePauseGrowsAndHasJitter(t *testing.T) {
	p := pauses{time.Second, time.Minute}
	for delivery, longest := range map[uint32]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: time.Minute, 1 << 31: time.Minute} {
		least, most := longest, time.Duration(0)
		for range 1000 {
			p := p.after(delivery)
			least, most = min(least, p), max(most, p)
		}
		if least <= 0 || least > longest/10 || most < longest*9/10 || most > longest+time.Millisecond {
			t.Errorf("delivery %d: want pauses all over 0 to %v, have %v to %v", delivery, longest, least, most)
		}
	}
}

func TestAnOptionOutOfItsRangeIsRefused(t *testing.T) {
	for want, o := range map[string]Option{
		"":               Timeout(time.Hour),
		"Timeout(0s)":    Timeout(0),
		"Timeout(2h0m0s": Timeout(2 * time.Hour),
		"Parallel(0)":    Parallel(0),
		"Parallel(1025)": Parallel(1025),
		"Tries(0)":       Tries(0),
		"Tries(1001)":    Tries(1001),
		"Pauses(0s":      Pauses(0, time.Second),
		"Pauses(2s, 1s)": Pauses(2*time.Second, time.Second),
		"at most 24h":    Pauses(time.Second, 25*time.Hour),
	} {
		_, err := (&table{}).route(nothing, []Option{o})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
	if _, err := (&table{}).route(nil, nil); !errors.Is(err, errNilHandler) {
		t.Errorf("want %v, have %v", errNilHandler, err)
	}
}

func TestWhatTheDoorWouldRefuseIsNotPublished(t *testing.T) {
	p := &Pipeline{handlers: table{types: map[string]*route{}}, opened: make(chan struct{}), running: true}
	if err := p.handlers.add("order.created", nothing); err != nil {
		t.Fatal(err)
	}
	close(p.opened)
	for want, e := range map[string]event.Event{
		`event 1: no handler takes events of the type "x"`: {Type: "x", Body: []byte("{}")},
		"larger than 1048576 bytes":                        {Type: "order.created", Body: make([]byte, maxEvent+1)},
		"event 1: ":                                        {Type: "order.created", Body: []byte("[]")},
	} {
		if _, err := p.Publish(t.Context(), e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Pipeline{opened: make(chan struct{}), running: true}).Publish(ctx, event.Event{}); !errors.Is(err, context.Canceled) {
		t.Errorf("want the end of the context while there is no queue, have %v", err)
	}
	early := &Pipeline{opened: make(chan struct{})}
	if _, err := early.Publish(t.Context(), event.Event{}); err == nil || !strings.Contains(err.Error(), "before Run") {
		t.Errorf("want an error before Run, have %v", err)
	}
	self := worker.New("early")
	if _, err := early.Publish(worker.NewContext(ctx, self), event.Event{}); !errors.Is(err, context.Canceled) || self.Beats() == 0 {
		t.Errorf("want a worker to wait, parked, have %v", err)
	}
}

func nothing(context.Context, event.Event) error { return nil }
