package telemetry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Who starts a job is no part of its trace; whom it calls is.
func TestARunOfAJobIsATraceOfItsOwn(t *testing.T) {
	partner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer partner.Close()
	c := collect(t)
	tel, _ := open(t, Options{Prometheus: true, OTel: OTel{Endpoint: c.URL, MetricsExporter: "none"}})
	outer, starter := tel.Tracers().Tracer("test").Start(t.Context(), "starter")
	ctx, end := tel.Job(outer, "report", "run-1")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, partner.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: tel.Client("partner")(&http.Transport{DisableKeepAlives: true})}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	end("failed", errors.New("boom"))
	text := scrape(t, tel, "text/plain")
	flush(t, tel) // the starter's span has not ended, and isn't sent
	names, _ := c.chain(t)
	if want := []string{"job report", "GET"}; !slices.Equal(names, want) {
		t.Errorf("want %q, have %q", want, names)
	}
	starter.End()
	for _, s := range c.spans {
		if s.Name == "job report" && (s.Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR || !strings.Contains(s.String(), "run-1")) {
			t.Errorf("want its id, and that it failed, have %v", s)
		}
	}
	if want := `job_duration_seconds_count{job="report"} 1`; !strings.Contains(text, want) {
		t.Errorf("want %s in\n%s", want, text)
	}
}
