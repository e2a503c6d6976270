package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLatenciesAreToldWithinATwentieth(t *testing.T) {
	sum := newTally()
	for ms := 1; ms <= 1000; ms++ {
		sum.add(result{took: time.Duration(ms) * time.Millisecond, status: 200})
	}
	for share, want := range map[float64]time.Duration{0.001: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if have := sum.within(share); have < want || float64(have) > 1.05*float64(want) {
			t.Errorf("within %v: want about %v, have %v", share, want, have)
		}
	}
	for d, want := range map[time.Duration]int{-time.Second: 0, 0: 0, finest: 0, time.Hour: classes - 1} {
		if have := class(d); have != want {
			t.Errorf("class of %v: want %d, have %d", d, want, have)
		}
	}
	if class(110*time.Second) == classes-1 {
		t.Error("the classes end before two minutes")
	}
}

func TestWhatCannotBeCountedApartIsCountedTogether(t *testing.T) {
	sum := newTally()
	for i := range 100 {
		sum.add(result{why: fmt.Sprint("failure ", i)})
	}
	sum.add(result{why: "interrupted", void: true})
	if len(sum.labels) != maxLabels+1 || sum.asked() != 100 || sum.bad() != 100 || sum.failed.why != "failure 0" {
		t.Errorf("have %d labels of %d, the first %q", len(sum.labels), sum.asked(), sum.failed.why)
	}
}

// A server that stands still is slow for all who would have asked in the meantime, not only for those who did.
func TestLatenciesCountFromWhenARequestWasDueAndNobodyWaitsForAnother(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	time.AfterFunc(500*time.Millisecond, func() { close(release) })
	var out strings.Builder
	sum := order{url: server.URL, rate: 100, duration: 200 * time.Millisecond, clients: 5, timeout: time.Minute}.drive(t.Context(), &out)
	if sum.answers != 5 || sum.labels["not sent: -clients are in flight"] != 15 {
		t.Errorf("want 5 answers and 15 not sent, have %v", sum.labels)
	}
	if sum.within(0.5) < 250*time.Millisecond {
		t.Errorf("want the answers late, have half within %v", sum.within(0.5))
	}
}

func TestAnInterruptedLoadTellsWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if asked++; asked == 3 {
			cancel()
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	sum := order{url: server.URL, rate: 100, clients: 1, timeout: time.Minute}.drive(ctx, &strings.Builder{})
	if sum.good != 2 || sum.labels["200 OK"] != 2 {
		t.Errorf("want the two answers, have %v", sum.labels)
	}
}
