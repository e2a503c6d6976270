package base

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"example.com/base-app/pkg/backup"
	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
)

const (
	// queueTime is how long the answer to a backup waits for a queue that is being opened: who asks waits ten seconds.
	queueTime = 8 * time.Second
	// queuePause is the time between two looks for it.
	queuePause = 100 * time.Millisecond
)

// Manifest is what a backup of the queue says about itself.
func Manifest(s *Settings) backup.Manifest {
	return backup.Manifest{Time: time.Now(), App: s.App.Name, Version: ReadBuild().Version}
}

// CheckBackup refuses what is the cluster's own.
func CheckBackup(s *Settings) error {
	if s.Queue.URL == "embedded" {
		return nil
	}
	return fault.Config("use the cluster's own tools: nats account backup, nats account restore",
		errors.New("the queue is kept by the cluster of QUEUE_URL"))
}

// openBackup registers the control command backup.
func (rt *Runtime) openBackup() { rt.CommandHandler("POST /backup", http.HandlerFunc(rt.serveBackup)) }

// serveBackup answers the control command backup with the backup itself: whoever asks keeps it, so that a disk of
// theirs that is full or slow is no concern of the app's.
func (rt *Runtime) serveBackup(w http.ResponseWriter, r *http.Request) {
	var q *queue.Queue
	err := CheckBackup(rt.Settings)
	if err == nil {
		q, err = rt.awaitQueue(r.Context())
	}
	if err != nil {
		control.WriteError(w, r, http.StatusServiceUnavailable, err)
		return
	}
	control.Stream(w, r, func(ctx context.Context, w io.Writer) error {
		began := time.Now()
		m, err := backup.Write(ctx, w, q, Manifest(rt.Settings))
		if err != nil {
			rt.Log.Warn("the queue was not copied for a backup", "error", err) // who asked says it as an error
			return err
		}
		waiting, dead := m.Events()
		rt.Log.Info("the queue was copied for a backup", "waiting", waiting, "dead", dead,
			"took", time.Since(began).Round(time.Millisecond).String())
		return nil
	})
}

// awaitQueue waits for the queue of an app that is starting, until ctx or the app ends, or queueTime is over.
func (rt *Runtime) awaitQueue(ctx context.Context) (*queue.Queue, error) {
	ctx, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	for {
		if q := rt.openedQueue(); q != nil {
			return q, nil
		}
		select {
		case <-time.After(queuePause):
		case <-rt.Context().Done():
			return nil, queue.ErrNotOpen
		case <-ctx.Done():
			return nil, queue.ErrNotOpen
		}
	}
}
