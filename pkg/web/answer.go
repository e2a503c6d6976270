package web

import "context"

// Answer is how a request was answered. It is complete once the handler of Options.Trace has called the next one.
type Answer struct {
	Route  string // the mux's pattern, empty if none matched
	Status int    // 0 if nothing was sent: the connection was cut, or net/http answers 200 for the handler
	Bytes  int64  // of the body
}

// AnswerOf returns the answer, so far, to the request that ctx belongs to; the zero Answer if ctx belongs to none.
func AnswerOf(ctx context.Context) Answer {
	x := exchangeOf(ctx)
	if x == nil {
		return Answer{}
	}
	return Answer{x.route, x.status, x.bytes}
}
