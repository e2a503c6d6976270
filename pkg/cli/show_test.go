package cli

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// What is asked twice is answered in the same order, and the queue in words.
func TestThePartsOfTheHealthAreSortedAndReadable(t *testing.T) {
	own := []string{"gamma", "alpha", "epsilon", "beta", "delta"}
	parts := append([]string{"queue"}, own...)
	parts = append(parts, "chaos") // part chaos
	vars := []string{"DATA_DIR=" + t.TempDir()}
	var text string
	code, out, _ := call(t, func(rt *base.Runtime) error {
		for _, name := range own {
			rt.Check(name, func() (any, error) { return map[string]int{"n": 7}, nil })
		}
		q, err := rt.OpenQueue(1, 0)
		if err != nil {
			return err
		}
		if _, err := q.Publish(rt.Context(), event.Event{ID: event.NewID(), Body: []byte("{}")}); err != nil {
			return err
		}
		_, answer, _ := call(t, nil, vars, "ctl", "status")
		text = regexp.MustCompile(" +").ReplaceAllString(answer, " ")
		rt.Done("tested")
		return rt.Wait()
	}, vars)
	if code != 0 {
		t.Fatalf("have %d\n%s", code, out)
	}
	slices.Sort(parts)
	at := -1
	for _, name := range parts {
		next := strings.Index(text, "\n"+name+" ")
		if next <= at {
			t.Errorf("want %v in this order, have\n%s", parts, text)
		}
		at = next
	}
	for _, want := range []string{
		"\nchaos off\n", // part chaos
		" of 1 GiB\n", " 0 dead letters, ", `alpha {"n":7}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q, have\n%s", want, text)
		}
	}
}

func TestTheQueueInALine(t *testing.T) {
	s := queue.Stats{Waiting: 12, InFlight: 3, Bytes: 1_258_291, MaxBytes: 1 << 30}
	if have, want := queueText(s), "12 waiting, 3 in flight, 0 dead letters, 1.2 MiB of 1 GiB"; have != want {
		t.Errorf("want %s, have %s", want, have)
	}
	s.DeadLetters, s.Lost, s.Bytes = 1, []uint64{7, 9}, 0
	if have, want := queueText(s), "12 waiting, 3 in flight, 1 dead letters, 0 B of 1 GiB, 2 damaged on disk"; have != want {
		t.Errorf("want %s, have %s", want, have)
	}
}
