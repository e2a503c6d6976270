package alert

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/web"
)

const (
	// attemptTime is for the beginning of an answer: less than callTime, so that it is the service's fault.
	attemptTime = 8 * time.Second
	// maxAnswer is what is read of an answer: a few words of JSON.
	maxAnswer = 16 << 10
)

// policy is for the services' calls: one at a time and one try, since the sender has pauses of its own.
func policy() dependency.Policy {
	return dependency.Policy{Attempt: attemptTime, Total: callTime, Tries: 1, Concurrent: 1}
}

// connector makes the client of a service.
type connector = func(service string, p dependency.Policy) (*web.Client, error)

// dial returns an HTTP client for a service. It follows no redirect: that would take secrets along.
func dial(client connector, service string, p dependency.Policy) (*http.Client, error) {
	c, err := client(service, p)
	if err != nil {
		return nil, err
	}
	h := c.HTTP()
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return h, nil
}

// call makes one try, and returns the beginning of a good answer (2xx). No error has the URL in its text.
func call(client *http.Client, req *http.Request) ([]byte, error) {
	answer, err := client.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	defer answer.Body.Close()
	if err := judge(answer); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, bare(err)
	}
	return body, nil
}

// judge returns why an answer is not a good one.
func judge(answer *http.Response) error {
	switch s := answer.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s >= 500:
		return outbox.RetryAfter(&web.StatusError{Status: s}, web.RetryAfter(answer.Header, time.Now()))
	default:
		return outbox.Final(&web.StatusError{Status: s})
	}
}

// bare returns err without the URL that net/http puts around it.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// nonsense is the error of an answer that the service never gives: something else is at that address.
func nonsense(format string, args ...any) error {
	return outbox.Final(fmt.Errorf("nonsense in the answer: "+format, args...))
}
