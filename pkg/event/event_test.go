package event_test

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func full() event.Event {
	return event.Event{ID: "a-1", Sequence: 1 << 40, Time: time.Unix(1700000000, 42).UTC(), RequestID: "r", Delivery: 2,
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Baggage: "k=v", Receipt: []byte{1, 0}, Body: []byte(`{"a":1}`),
		Type: "order.created", Source: "/shops/7", Occurred: time.Unix(1600000000, 1).UTC()}
}

func TestAnEventSurvivesTheWire(t *testing.T) {
	rich := full()
	rich.Attributes = map[string]string{"subject": "tea", "empty": ""}
	for _, want := range []event.Event{full(), rich, {ID: "x"}} {
		have, err := event.Decode(want.Append(nil))
		if err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("want %+v, have %+v, %v", want, have, err)
		}
	}
}

func TestUnknownFieldsArePassedOver(t *testing.T) {
	e := full()
	wire := append(e.Append(nil), 0xa2, 0x06, 3, 'n', 'e', 'w') // field 100, three bytes
	have, err := event.Decode(wire)
	if err != nil || !reflect.DeepEqual(have, e) {
		t.Errorf("want %+v, have %+v, %v", e, have, err)
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	e := full()
	whole := e.Append(nil)
	for name, wire := range map[string][]byte{
		"empty":                {},
		"cut":                  whole[:len(whole)-1],
		"no id":                whole[5:],
		"id of a wrong type":   {0x08, 1},
		"baggage not UTF-8":    append(bytes.Clone(whole), 0x32, 1, 0xff),
		"traceparent a word":   append(bytes.Clone(whole), 0x2a, 1, 'x'),
		"request id, newline":  append(bytes.Clone(whole), 0x22, 1, '\n'),
		"id not UTF-8":         {0x0a, 1, 0xff},
		"id with a dot":        {0x0a, 3, 'a', '.', 'b'},
		"length beyond end":    {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"field number zero":    {0x02, 0},
		"type with a newline":  append(bytes.Clone(whole), 0x5a, 1, '\n'),
		"type not UTF-8":       append(bytes.Clone(whole), 0x5a, 1, 0xff),
		"type a number":        append(bytes.Clone(whole), 0x58, 1),
		"attribute unnamed":    append(bytes.Clone(whole), 0x6a, 3, 0x12, 1, 'v'),
		"attribute in capital": append(bytes.Clone(whole), 0x6a, 3, 0x0a, 1, 'A'),
		"attribute cut":        append(bytes.Clone(whole), 0x6a, 2, 0x0a, 9),
		"delivery over 32 bit": append(bytes.Clone(whole), 0x38, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		if have, err := event.Decode(wire); err == nil {
			t.Errorf("%s: want an error, have %+v", name, have)
		}
	}
}

func TestIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "A_b-9": true, strings.Repeat("x", event.MaxID): true,
		"": false, strings.Repeat("x", event.MaxID+1): false, "a.b": false, "a b": false, "a*": false, "ä": false, "a\n": false,
	} {
		if err := event.CheckID(id); (err == nil) != ok {
			t.Errorf("%q: want ok %v, have %v", id, ok, err)
		}
	}
	one, two := event.NewID(), event.NewID()
	if event.CheckID(one) != nil || one >= two {
		t.Errorf("want valid ids in the order of time, have %q, %q", one, two)
	}
}

func TestTheBoundsOfAnEnvelope(t *testing.T) {
	attributes := func(n, size int) map[string]string {
		list := map[string]string{}
		for i := range n {
			list[fmt.Sprintf("a%d", i)] = strings.Repeat("v", size)
		}
		return list
	}
	for name, c := range map[string]struct {
		e  event.Event
		ok bool
	}{
		"longest type":         {event.Event{Type: strings.Repeat("t", event.MaxType)}, true},
		"type too long":        {event.Event{Type: strings.Repeat("t", event.MaxType+1)}, false},
		"longest source":       {event.Event{Source: strings.Repeat("s", event.MaxSource)}, true},
		"source too long":      {event.Event{Source: strings.Repeat("s", event.MaxSource+1)}, false},
		"most attributes":      {event.Event{Attributes: attributes(event.MaxAttributes, 1)}, true},
		"too many attributes":  {event.Event{Attributes: attributes(event.MaxAttributes+1, 1)}, false},
		"attributes too large": {event.Event{Attributes: attributes(2, event.MaxAttributeBytes/2)}, false},
		"name too long":        {event.Event{Attributes: map[string]string{strings.Repeat("n", event.MaxAttributeName+1): ""}}, false},
	} {
		c.e.ID = "x"
		err := c.e.Check()
		if _, decoded := event.Decode(c.e.Append(nil)); (err == nil) != c.ok || (decoded == nil) != c.ok {
			t.Errorf("%s: want ok %v, have %v and, decoded, %v", name, c.ok, err, decoded)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	e, buf := full(), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = e.Append(buf[:0]) }); n > 0 {
		t.Errorf("want none, have %v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	e := full()
	f.Add(e.Append(nil))
	f.Fuzz(func(t *testing.T, wire []byte) {
		one, err := event.Decode(wire)
		if err != nil {
			return
		}
		two, err := event.Decode(one.Append(nil))
		if err != nil || one.ID != two.ID || one.Sequence != two.Sequence || !bytes.Equal(one.Body, two.Body) || !one.Time.Equal(two.Time) ||
			one.Type != two.Type || one.Source != two.Source || !one.Occurred.Equal(two.Occurred) || !maps.Equal(one.Attributes, two.Attributes) {
			t.Errorf("want the same event again, have %+v and %+v, %v", one, two, err)
		}
	})
}

// What Check lets pass is what Decode reads: else an event could be accepted and then be unreadable for ever.
func FuzzCheckAgreesWithDecode(f *testing.F) {
	f.Add("a", "r", "", "k=v", "t", "s", "n", "v")
	f.Add("a", "\xff", "00-x", "\x00", "\n", "\xff", "N", "\x00")
	f.Fuzz(func(t *testing.T, id, request, trace, baggage, kind, source, name, value string) {
		e := event.Event{ID: id, RequestID: request, TraceParent: trace, Baggage: baggage, Type: kind, Source: source,
			Attributes: map[string]string{name: value}}
		_, err := event.Decode(e.Append(nil))
		if good := e.Check() == nil; good != (err == nil) {
			t.Errorf("Check says good %v, Decode says %v: %+v", good, err, e)
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	e, buf := full(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Append(buf[:0])
		if _, err := event.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleDecode() {
	sent := event.Event{ID: "order-7", Sequence: 1, Body: []byte(`{"item":"tea"}`)}
	received, err := event.Decode(sent.Append(nil))
	fmt.Println(received.ID, received.Sequence, string(received.Body), err)
	// Output: order-7 1 {"item":"tea"} <nil>
}
