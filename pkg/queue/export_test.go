package queue

import (
	"os"

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
	if q.slots != nil {
		err = errorsJoin(err, q.slots.clear(), q.slots.file.Close())
	}
	return list, err
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
