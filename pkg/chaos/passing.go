package chaos

import (
	"cmp"
	"slices"
	"time"

	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/zmq"
)

// PointsOf are the points that come and go: workers and sockets. A worker that is a server does its work in goroutines of
// its own, and passes no point itself. deadline is that of who owns a socket and is no worker.
func PointsOf(running []nanny.Status, sockets []zmq.SocketInfo, isServer func(worker string) bool, deadline time.Duration) []Point {
	callKinds := []Kind{Latency, Error, Panic, Stall}
	workers := map[string]nanny.Status{}
	var list []Point
	for _, s := range running {
		workers[s.Name] = s
		alive := []nanny.State{nanny.StateBusy, nanny.StateParked, nanny.StateUnwatched, nanny.StateRestarting}
		if s.Name == "nanny" || !slices.Contains(alive, s.State) {
			continue // the nanny watches over what is done here
		}
		kinds := []Kind{Kill, Stall}
		if isServer(s.Name) {
			kinds = kinds[:1]
		}
		list = append(list, Point{Name: WorkerPoint(s.Name), Kinds: kinds, Fatal: s.Spare == 0, Vital: s.Spare == 0, Patience: s.Deadline})
	}
	for _, s := range sockets {
		if s.Endpoint == "" {
			continue
		}
		name := "zmq.send:" + s.Endpoint
		if s.Type == zmq.Pull {
			name = "zmq.recv:" + s.Endpoint
		}
		owner := workers[s.Owner]
		list = append(list, Point{Name: name, Kinds: callKinds, Vital: true, Fatal: owner.Spare == 0, Patience: cmp.Or(owner.Deadline, deadline)})
	}
	return list
}
