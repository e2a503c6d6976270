package base

import (
	"context"
	"errors"
	"time"

	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
)

// queueBudget is what the queue may take to write the last ends and close its files. It needs some ten milliseconds.
const queueBudget = 5 * time.Second

// QueuePart is the queue's part of the health.
const QueuePart = "queue"

// publishPoint is the queue's fault point for who publishes.
const publishPoint = "queue.publish"

// OpenQueue opens the queue that the QUEUE_ settings name, with inFlight events at most on their way through the
// workers. It gets a part in the health, the commands of `app ctl queue`, and is closed at shutdown, when the workers
// have ended. It waits for a cluster, until the shutdown at most.
func (rt *Runtime) OpenQueue(inFlight, maxDeliveries int) (*queue.Queue, error) {
	s := &rt.Settings.Queue
	defer rt.opens(0)
	q, err := queue.Open(rt.Context(), queue.Options{Dir: rt.Settings.QueueDir(), URL: s.URL, Credentials: s.Credentials,
		CA: s.CA, Cert: s.Cert, Key: s.Key, Replicas: s.Replicas, MaxBytes: int64(s.MaxBytes), MaxDeliveries: maxDeliveries,
		AckWait: s.AckWait, InFlight: inFlight, Log: rt.Log, Opening: rt.opens, Fault: rt.queueFault})
	if err != nil {
		return nil, err
	}
	// Who publishes waits as long as its client does; who takes events is a worker, and stuck once its deadline is over.
	err = errors.Join(
		rt.FaultPoint(FaultPoint{Name: publishPoint, Kinds: callFaults(), Vital: true}),
		rt.FaultPoint(FaultPoint{Name: "queue.next", Kinds: callFaults(), Vital: true, Fatal: true, Patience: rt.Settings.Progress.Deadline}))
	if err != nil {
		return nil, errors.Join(err, q.Close(rt.Context()))
	}
	rt.Check(QueuePart, func() (any, error) { return q.Stats(rt.Context()) })
	rt.OnStop("queue", queueBudget, q.Close)
	rt.mu.Lock()
	rt.queue = q
	rt.mu.Unlock()
	return q, nil
}

// openedQueue is the queue, nil until it is open.
func (rt *Runtime) openedQueue() *queue.Queue {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.queue
}

// queueFault is the hook of the queue. Who publishes is no worker in its own loop: a request runs in the name of the
// worker that serves all of them.
func (rt *Runtime) queueFault(ctx context.Context, point string) error {
	if point == publishPoint {
		return rt.Hit(ctx, point)
	}
	return rt.Step(ctx, point)
}

// measureQueue puts the state of the queue, once it is open.
func (rt *Runtime) measureQueue(ctx context.Context, put telemetry.Put) {
	if q := rt.openedQueue(); q != nil {
		q.Measure(ctx, rt.life.Closing(), put)
	}
}
