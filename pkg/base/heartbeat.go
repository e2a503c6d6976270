package base

import (
	"context"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/heartbeat"
)

// heartbeatBudget is what the last beat may take at shutdown.
const heartbeatBudget = time.Second

// openHeartbeat beats for the monitor, if there is one, until the very end: while closing, too, since the shutdown has
// times of its own.
func (rt *Runtime) openHeartbeat() {
	o := rt.Settings.Heartbeat
	if o.Addr == "" {
		return
	}
	client := heartbeat.New(heartbeat.Options{Addr: o.Addr, Every: o.Every, Healthy: rt.nanny.Err, Phase: rt.phase, Log: rt.Log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := fault.Recover("heartbeat", func() error { return client.Run(ctx) })
		if err != nil && ctx.Err() == nil {
			rt.life.Stop(fault.Config("HEARTBEAT_ADDR is for the monitor to set", err))
		}
		ended <- err
	}()
	rt.OnStop("heartbeat", heartbeatBudget, func(context.Context) error { cancel(); return <-ended })
}

// opens tells the monitor that the start opens what has a time of its own: the queue's files after a crash, a cluster that
// is away. Without that it would take a start for a hang that reads for longer than its patience, again and again.
func (rt *Runtime) opens(atMost time.Duration) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.opening = time.Now().Add(atMost)
}

func (rt *Runtime) phase() heartbeat.Phase {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	switch {
	case rt.life.Closing():
		return heartbeat.Draining
	case !rt.started && time.Now().Before(rt.opening):
		return heartbeat.Opening
	case !rt.started:
		return heartbeat.Starting
	}
	return heartbeat.Running
}
