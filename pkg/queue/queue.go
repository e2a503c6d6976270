// Package queue holds the events between the moment when they were accepted and the moment when they were handled.
// An event is delivered in the order of arrival, again after a pause if its handler asked for that, and goes to the
// dead letters when it was delivered too often. It is bounded: what doesn't fit is refused, nothing is dropped.
//
//	Publish ─► waiting ─► Next ─► in flight ─┬─ Ack ───► processed
//	              ▲                          ├─ Retry ─► waiting, after a pause; dead at the last delivery
//	              └──────────────────────────┴─ Dead ──► dead
//
// Memory is the queue that this package has: it lives in the process and ends with it, so that an event that was
// accepted and not yet handled is lost when the process ends.
package queue

import (
	"time"

	"example.com/base-app/pkg/fault"
)

// State is where an event is on its way.
type State string

// The states of an event.
const (
	StateAccepted  State = "accepted" // waiting, or in flight
	StateProcessed State = "processed"
	StateDead      State = "dead"
)

// Accepted is the answer to the publication of one event.
type Accepted struct {
	ID        string
	Sequence  uint64 // position in the queue, from 1
	Duplicate bool   // the id was known: it was accepted before, and not again now
}

// Status tells where an event is.
type Status struct {
	ID         string
	Sequence   uint64
	State      State
	Deliveries uint32
}

// Stats are counts since the start, and the present depth.
type Stats struct {
	Accepted  uint64        `json:"accepted"`
	Rejected  uint64        `json:"rejected"`
	Processed uint64        `json:"processed"`
	Retried   uint64        `json:"retried"`
	Dead      uint64        `json:"dead"`
	Waiting   int           `json:"waiting"`
	InFlight  int           `json:"in_flight"`
	Bytes     int64         `json:"bytes"`
	OldestAge time.Duration `json:"oldest_age_ns"` // of what is neither processed nor dead; 0 if there is nothing
}

// Errors that callers tell apart.
var (
	ErrFull    = fault.New(fault.KindDependency, "queue: full")
	ErrClosed  = fault.New(fault.KindTerminated, "queue: closed")
	ErrUnknown = fault.New(fault.KindUnhandled, "queue: unknown event")
	ErrReceipt = fault.New(fault.KindUnhandled, "queue: no such delivery is in flight: it was settled already")
)
