package base

import (
	"slices"
	"testing"
)

// What is dumped twice is in the same order.
func TestThePartsOfTheHealthAreSortedInTheDump(t *testing.T) {
	var titles []string
	code, out, _ := call(t, func(rt *Runtime) error {
		for _, name := range []string{"gamma", "alpha", "epsilon", "beta", "delta"} {
			rt.Check(name, func() (any, error) { return 7, nil })
		}
		for _, item := range rt.healthItems() {
			titles = append(titles, item.Title)
		}
		return nil
	}, nil)
	if code != 0 {
		t.Fatalf("have %d\n%s", code, out)
	}
	if len(titles) < 6 || titles[0] != "health" || !slices.IsSorted(titles) {
		t.Errorf("want the whole and then its parts, sorted, have %q", titles)
	}
}
