package queue

import (
	"context"
	"reflect"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureStream makes a stream that is not there, and changes one that is if it must be: the server writes and syncs even
// what stays as it is, which would be most of the time of a start.
func (q *Queue) ensureStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if s, err := q.js.Stream(ctx, want.Name); err == nil && isSet(s.CachedInfo().Config, want) {
		return s, nil
	}
	return q.js.CreateOrUpdateStream(ctx, want)
}

// ensureConsumer does the same for a consumer.
func (q *Queue) ensureConsumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if c, err := q.js.Consumer(ctx, stream, want.Durable); err == nil && isSet(c.CachedInfo().Config, want) {
		return c, nil
	}
	return q.js.CreateOrUpdateConsumer(ctx, stream, want)
}

// isSet tells whether each field of want that is not zero has the same value in have: the zero ones are the server's to
// fill in.
func isSet[T any](have, want T) bool {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range w.NumField() {
		if !w.Field(i).IsZero() && !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			return false
		}
	}
	return true
}
