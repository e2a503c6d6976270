package chaos_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/base-app/pkg/chaos"
	"example.com/base-app/pkg/fault"
)

func TestWhatIsWrongWithAnOrderIsToldAndLogged(t *testing.T) {
	for name, c := range map[string]struct {
		order chaos.Order
		want  string
	}{
		"no reason":              {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1, Reason: " "}, "the reason is missing"},
		"a long reason":          {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1, Reason: strings.Repeat("x", 201)}, "201 bytes, at most 200"},
		"no probability":         {chaos.Order{Scope: "door", Kind: chaos.Error, Reason: "r"}, "the probability is 0"},
		"too probable":           {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1.1, Reason: "r"}, "the probability is 1.1"},
		"no number":              {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: math.NaN(), Reason: "r"}, "the probability is NaN"},
		"too long":               {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1, For: time.Hour + 1, Reason: "r"}, "at most 1h0m0s"},
		"no time":                {chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1, For: -1, Reason: "r"}, "it would last -1ns"},
		"no delay":               {chaos.Order{Scope: "door", Kind: chaos.Latency, Probability: 1, Reason: "r"}, "latency needs a delay"},
		"a delay of an error":    {chaos.Order{Scope: "door", Kind: chaos.Error, Delay: 1, Probability: 1, Reason: "r"}, "only latency has"},
		"a delay that is no":     {chaos.Order{Scope: "door", Kind: chaos.Latency, Delay: 1, Jitter: -1, Probability: 1, Reason: "r"}, "the delay and its jitter"},
		"an endless delay":       {chaos.Order{Scope: "door", Kind: chaos.Latency, Delay: math.MaxInt64, Probability: 1, Reason: "r"}, "the delay and its jitter"},
		"no such point":          {chaos.Order{Scope: "dorr", Kind: chaos.Error, Probability: 1, Reason: "r"}, `no point is called "dorr"`},
		"no scope":               {chaos.Order{Kind: chaos.Error, Probability: 1, Reason: "r"}, `no point is called ""`},
		"no such kind":           {chaos.Order{Scope: "gate", Kind: "eror", Probability: 1, Reason: "r"}, `"eror" can't be done there: gate takes latency error`},
		"a kind it can't have":   {chaos.Order{Scope: "gate", Kind: chaos.Drop, Probability: 1, Reason: "r"}, `"drop" can't be done there: gate takes latency error`},
		"one that can't, forced": {chaos.Order{Scope: "gate", Kind: chaos.Drop, Probability: 1, Reason: "r", Force: true}, `"drop" can't be done there`},
	} {
		var log loud
		chaotic := made(t, chaos.Options{Log: log.log()})
		_, err := chaotic.Start(c.order)
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.Of(err) != fault.KindUsage || fault.Hint(err) == "" {
			t.Errorf("%s: want %q as a usage error with a hint, have %v (%s)", name, c.want, err, fault.Hint(err))
		}
		if !strings.Contains(log.String(), `level=WARN msg="chaos refused"`) || len(chaotic.List()) != 0 {
			t.Errorf("%s: want the refusal logged and nothing listed, have %+v\n%s", name, chaotic.List(), &log)
		}
	}
}

// What would end the process or stop all work is refused, unless it is forced.
func TestHarmIsRefusedUnlessItIsForced(t *testing.T) {
	points := []chaos.Point{
		{Name: "vital", Kinds: all, Vital: true},
		{Name: "fatal", Kinds: append([]chaos.Kind{chaos.Kill}, all...), Fatal: true},
		{Name: "patient", Kinds: all, Patience: 10 * time.Second},
	}
	for name, c := range map[string]struct {
		before []chaos.Order
		order  chaos.Order
		want   string // empty: it is harmless
	}{
		"all that is vital fails":      {nil, chaos.Order{Scope: "vital", Kind: chaos.Error, Probability: 1}, "vital: all work passes there, and 100 % of it would fail; at most 90 % may"},
		"by a pattern, too":            {nil, chaos.Order{Scope: "*", Kind: chaos.Drop, Probability: 0.91}, "vital: all work passes there, and 91 % of it would fail"},
		"nine in ten":                  {nil, chaos.Order{Scope: "vital", Kind: chaos.Panic, Probability: 0.9}, ""},
		"nine in ten by two orders":    {[]chaos.Order{{Scope: "vital", Kind: chaos.Error, Probability: 0.7}}, chaos.Order{Scope: "vital", Kind: chaos.Drop, Probability: 0.7}, "91 % of it would fail"},
		"fewer by two orders":          {[]chaos.Order{{Scope: "vital", Kind: chaos.Error, Probability: 0.5}}, chaos.Order{Scope: "vital", Kind: chaos.Drop, Probability: 0.7}, ""},
		"latency does not add up":      {[]chaos.Order{{Scope: "vital", Kind: chaos.Latency, Delay: 1, Probability: 1}}, chaos.Order{Scope: "vital", Kind: chaos.Error, Probability: 0.9}, ""},
		"a stall of what is vital":     {nil, chaos.Order{Scope: "vital", Kind: chaos.Stall, Probability: 0.01}, "vital: whatever comes there would hang"},
		"an error that is fatal":       {nil, chaos.Order{Scope: "fatal", Kind: chaos.Error, Probability: 0.01}, "fatal: this would end the process"},
		"a panic that is fatal":        {nil, chaos.Order{Scope: "fatal", Kind: chaos.Panic, Probability: 0.01}, "fatal: this would end the process"},
		"a kill that is fatal":         {nil, chaos.Order{Scope: "fatal", Kind: chaos.Kill, Probability: 0.01}, "fatal: this would end the process"},
		"latency where death is":       {nil, chaos.Order{Scope: "fatal", Kind: chaos.Latency, Delay: time.Minute, Probability: 1}, ""},
		"a stall past all patience":    {nil, chaos.Order{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 10 * time.Second}, "patient: it would be held for 10s, and 10s is too long there"},
		"a shorter stall":              {nil, chaos.Order{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 9 * time.Second}, ""},
		"one stall after the other":    {[]chaos.Order{{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 9 * time.Second}}, chaos.Order{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 6 * time.Second}, "it would be held for 11s"},
		"latency past all patience":    {nil, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 9 * time.Second, Jitter: time.Second, Probability: 1}, "patient: it would be held for 10s"},
		"latency within the patience":  {nil, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 9 * time.Second, Probability: 1}, ""},
		"one delay after the other":    {[]chaos.Order{{Scope: "patient", Kind: chaos.Latency, Delay: 6 * time.Second, Probability: 0.1}}, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 3 * time.Second, Jitter: time.Second, Probability: 0.1}, "patient: it would be held for 10s"},
		"two delays within patience":   {[]chaos.Order{{Scope: "patient", Kind: chaos.Latency, Delay: 6 * time.Second, Probability: 1}}, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 3 * time.Second, Probability: 1}, ""},
		"delays at two points":         {[]chaos.Order{{Scope: "vital", Kind: chaos.Latency, Delay: 6 * time.Second, Probability: 1}}, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 6 * time.Second, Probability: 1}, ""},
		"a delay after a stall":        {[]chaos.Order{{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 7 * time.Second}}, chaos.Order{Scope: "patient", Kind: chaos.Latency, Delay: 4 * time.Second, Probability: 1}, "patient: it would be held for 11s"},
		"a stall after a delay":        {[]chaos.Order{{Scope: "patient", Kind: chaos.Latency, Delay: 4 * time.Second, Probability: 1}}, chaos.Order{Scope: "patient", Kind: chaos.Stall, Probability: 1, For: 7 * time.Second}, "patient: it would be held for 11s"},
		"an error beside a long delay": {[]chaos.Order{{Scope: "patient", Kind: chaos.Latency, Delay: time.Minute, Probability: 1, Force: true}}, chaos.Order{Scope: "patient", Kind: chaos.Error, Probability: 1}, ""},
		"an error of one who can wait": {nil, chaos.Order{Scope: "patient", Kind: chaos.Error, Probability: 1}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			chaotic := chaos.New(chaos.Options{})
			defer chaotic.Close()
			for _, p := range points {
				declare(t, chaotic, p)
			}
			for _, o := range c.before {
				start(t, chaotic, o)
				time.Sleep(5 * time.Second)
			}
			c.order.Reason = "test"
			_, err := chaotic.Start(c.order)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s: want it done, have %v", name, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.Hint(err), "--force")):
				t.Errorf("%s: want it refused: %s, have %v (%s)", name, c.want, err, fault.Hint(err))
			}
			if c.order.Force = true; c.want == "" {
				return
			}
			if s, err := chaotic.Start(c.order); err != nil || !s.Force {
				t.Errorf("%s: want it done if it is forced, have %+v, %v", name, s, err)
			}
		})
	}
}

func TestAnAppThatIsNotWellIsSpared(t *testing.T) {
	c := made(t, chaos.Options{Healthy: func() error { return errors.New("the disk is full") }})
	o := chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 0.1, Reason: "test"}
	if _, err := c.Start(o); err == nil || err.Error() != "chaos: the app is not well: the disk is full" {
		t.Errorf("want it refused because of the disk, have %v", err)
	}
	o.Force = true
	if _, err := c.Start(o); err != nil {
		t.Errorf("want it done if it is forced, have %v", err)
	}
}

// An order strikes what it named when it was given: what comes later was not weighed.
func TestWhatComesLaterIsNotStruck(t *testing.T) {
	c := made(t, chaos.Options{})
	start(t, c, chaos.Order{Scope: "*", Kind: chaos.Error})
	declare(t, c, chaos.Point{Name: "late", Kinds: all})
	if err := c.Hit(t.Context(), "late"); err != nil {
		t.Errorf("want a new point spared, have %v", err)
	}
}

func TestTheNumberOfOrdersAndPointsIsBounded(t *testing.T) {
	c := made(t, chaos.Options{})
	var err error
	n := 0
	for ; n < 100 && err == nil; n++ {
		_, err = c.Start(chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 0.01, Reason: "again"})
	}
	if err == nil || n != 17 {
		t.Errorf("want the 17th refused, have %v at %d", err, n)
	}
	stopped, err := c.Stop(0, "me", "")
	if err != nil || len(stopped) != 16 {
		t.Errorf("want all 16 stopped, have %d, %v", len(stopped), err)
	}
	if _, err := c.Stop(1, "me", ""); err == nil || fault.Of(err) != fault.KindUsage {
		t.Errorf("want no second stop, have %v", err)
	}
	for i := range 2000 {
		if err = c.Declare(chaos.Point{Name: strings.Repeat("x", i+1), Kinds: all}); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("want the points bounded")
	}
	for _, p := range []chaos.Point{{Kinds: all}, {Name: "a*", Kinds: all}, {Name: "a"}} {
		if c.Declare(p) == nil {
			t.Errorf("want %+v refused", p)
		}
	}
}

func TestNothingStartsOnceItIsClosed(t *testing.T) {
	var log loud
	c := made(t, chaos.Options{Log: log.log()})
	start(t, c, chaos.Order{Scope: "door", Kind: chaos.Error})
	c.Close()
	c.Close()
	if _, err := c.Start(chaos.Order{Scope: "door", Kind: chaos.Error, Probability: 1, Reason: "late"}); !errors.Is(err, chaos.ErrClosing) {
		t.Errorf("want %v, have %v", chaos.ErrClosing, err)
	}
	if err := c.Hit(t.Context(), "door"); err != nil || strings.Count(log.String(), "state=shutdown") != 1 {
		t.Errorf("want the order over and told once, have %v\n%s", err, &log)
	}
}
