package web

import (
	"context"
	"testing"
	"time"
)

func TestAFormIsGoodForAnHour(t *testing.T) {
	f := newFeedback(func(context.Context, Feedback) {}, nil)
	now := time.Unix(1_800_000_000, 0)
	token := f.token("report", "request", now.Add(formLife))
	for _, c := range []struct {
		name            string
		report, request string
		at              time.Time
		want            bool
	}{
		{"at once", "report", "request", now, true},
		{"just before its end", "report", "request", now.Add(formLife - time.Second), true},
		{"at its end", "report", "request", now.Add(formLife), false},
		{"with the ids cut elsewhere", "reportr", "equest", now, false},
	} {
		if have := f.genuine(token, c.report, c.request, c.at); have != c.want {
			t.Errorf("%s: have %v, want %v", c.name, have, c.want)
		}
	}
	if f.genuine(token[:8], "report", "request", now) || f.genuine("", "report", "request", now) || f.genuine("!", "report", "request", now) {
		t.Error("half a token is good")
	}
}
