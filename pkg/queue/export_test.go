package queue

import (
	"errors"

	"github.com/nats-io/nats.go"
)

// Conn is the queue's connection, to do what only somebody else would.
func (q *Queue) Conn() *nats.Conn { return q.nc }

// Attempt is one line of the file of interrupted events.
type Attempt = attempt

// ReadSlots reads what a file of interrupted events holds.
func ReadSlots(path string, inFlight int) ([]Attempt, error) {
	q := &Queue{opts: Options{InFlight: inFlight}.withDefaults()}
	q.log = q.opts.Log
	list, err := q.openSlots(path)
	if err != nil {
		return nil, err
	}
	return list, errors.Join(q.slots.clear(), q.slots.close())
}

// ReadDeadLetter reads a dead letter with these headers.
func ReadDeadLetter(sequence, deliveries, reason string, data []byte) (DeadLetter, error) {
	m := stored{Subject: "dead.x", Data: data, header: nats.Header{headerSequence: {sequence}, headerDeliveries: {deliveries}, headerReason: {reason}}}
	return m.deadLetter()
}

// CheckFiles mends the server's files, and returns how many places were damaged.
func CheckFiles(dir string) (int, error) {
	found, err := checkFiles(dir)
	return len(found), err
}

// ServeFiles opens files without a look at them, as a server does for which all seems well.
var ServeFiles = serveFiles
