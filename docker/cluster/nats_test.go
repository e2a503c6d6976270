package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	composeConf = "docker/nats/nats.conf"
	k8sConf     = "docker/k8s/nats.conf"

	// patience is for elections on a machine that has other things to do; they take a few seconds on an idle one.
	patience = 90 * time.Second
)

// options are what the server makes of a configuration; it refuses what it doesn't know.
func options(t *testing.T, conf, name string) *server.Options {
	t.Helper()
	t.Setenv("NATS_NAME", name)
	o, err := server.ProcessConfigFile(filepath.Join(root, conf))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTheServerTakesBothConfigurations(t *testing.T) {
	const event = 1 << 20 // the longest body of POST /events
	for _, conf := range []string{composeConf, k8sConf} {
		o := options(t, conf, "some-node")
		if o.ServerName != "some-node" {
			t.Errorf("%s: want the name from the environment, have %q", conf, o.ServerName)
		}
		if !o.JetStream || !o.SyncAlways {
			t.Errorf("%s: want JetStream with a sync before each acknowledgement", conf)
		}
		if o.MaxPayload <= event {
			t.Errorf("%s: an event of 1 MiB and its envelope don't fit into %d bytes", conf, o.MaxPayload)
		}
		if len(o.Routes) != 3 || o.Cluster.Name == "" {
			t.Errorf("%s: want a cluster of three, have %q %v", conf, o.Cluster.Name, o.Routes)
		}
	}
	a, b := options(t, composeConf, "n"), options(t, k8sConf, "n")
	a.Routes, b.Routes, a.RoutesStr, b.RoutesStr, a.ConfigFile, b.ConfigFile = nil, nil, "", "", "", ""
	if x, y := describe(a), describe(b); x != y {
		t.Errorf("the configurations differ in more than the routes:\n%s\n%s", x, y)
	}
}

func describe(o *server.Options) string {
	return fmt.Sprint(o.ServerName, o.Host, o.Port, o.HTTPHost, o.HTTPPort, o.MaxPayload, o.JetStream, o.StoreDir, o.SyncAlways, o.SyncInterval,
		o.JetStreamMaxMemory, o.JetStreamMaxStore, o.Cluster.Name, o.Cluster.Host, o.Cluster.Port, o.Username, o.Authorization, o.TLS)
}

// cluster is three nodes of one configuration, moved to free ports and folders of the test.
type cluster struct {
	options []*server.Options
	nodes   []*server.Server
}

func startCluster(t *testing.T, conf string) *cluster {
	t.Helper()
	c := &cluster{}
	var routes []*url.URL
	var ports []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l)
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: l.Addr().String()})
	}
	for i, l := range ports {
		o := options(t, conf, fmt.Sprintf("nats-%d", i))
		o.Host, o.Port, o.HTTPHost, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT, "127.0.0.1", server.RANDOM_PORT
		o.Cluster.Host, o.Cluster.Port, o.Routes = "127.0.0.1", l.Addr().(*net.TCPAddr).Port, routes
		o.StoreDir, o.NoLog, o.NoSigs = t.TempDir(), true, true
		c.options, c.nodes = append(c.options, o), append(c.nodes, nil)
	}
	for i, l := range ports {
		_ = l.Close() // now the node may have it
		c.start(t, i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[i] = s
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatalf("node %d takes no connections", i)
	}
}

func (c *cluster) stop(i int) {
	c.nodes[i].Shutdown()
	c.nodes[i].WaitForShutdown()
}

// soon is a context that ends when patience does.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ask makes a request at a node's monitoring port and returns the status; the body goes to v, if there is one.
func (c *cluster) ask(t *testing.T, i int, path string, v any) int {
	t.Helper()
	r, err := http.NewRequestWithContext(soon(t), http.MethodGet, fmt.Sprintf("http://%s%s", c.nodes[i].MonitorAddr(), path), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if v != nil {
		if err := json.NewDecoder(response.Body).Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	return response.StatusCode
}

// until waits for a condition that the cluster reaches by itself.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("want %s within %v", what, patience)
		}
	}
}

// depth asks as KEDA's nats-jetstream scaler does (its source, pkg/scalers/nats_jetstream_scaler.go): the node that
// leads the consumer says what waits and what is in flight. It is -1 as long as nobody leads.
func (c *cluster) depth(t *testing.T, trigger map[string]string) int {
	t.Helper()
	for i, n := range c.nodes {
		var answer server.JSInfo
		c.ask(t, i, "/jsz?acc="+trigger["account"]+"&consumers=true&config=true", &answer)
		for _, account := range answer.AccountDetails {
			for _, s := range account.Streams {
				for _, consumer := range s.Consumer {
					if account.Name == trigger["account"] && s.Name == trigger["stream"] && consumer.Name == trigger["consumer"] && consumer.Cluster.Leader == n.Name() {
						return int(consumer.NumPending) + consumer.NumAckPending
					}
				}
			}
		}
	}
	return -1
}

func TestThreeNodesLoseNothingAndTellTheProbesAndTheScaler(t *testing.T) {
	trigger := scaledObject(t).Spec.Triggers[0].Metadata
	c := startCluster(t, composeConf)
	quorum, alive := healthPaths(t)
	for _, path := range append(alive, quorum) {
		for i := range c.nodes {
			until(t, "every node well at "+path, func() bool { return c.ask(t, i, path, nil) == http.StatusOK })
		}
	}
	// The client is to survive whatever the nodes do; it knows all three, as QUEUE_URL names them.
	var urls string
	for _, n := range c.nodes {
		urls += n.ClientURL() + ","
	}
	nc, err := nats.Connect(urls[:len(urls)-1], nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(soon(t), jetstream.StreamConfig{Name: trigger["stream"], Subjects: []string{"events.*"}, Retention: jetstream.WorkQueuePolicy, Replicas: len(c.nodes)})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(soon(t), jetstream.ConsumerConfig{Durable: trigger["consumer"], AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	publish := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "events.some", []byte("{}"))
		return err == nil
	}
	accepted := uint64(0)
	accept := func() bool {
		ok := publish()
		if ok {
			accepted++
		}
		return ok
	}
	for range 20 {
		until(t, "an event accepted", accept)
	}
	for range 5 {
		if _, err := consumer.Next(jetstream.FetchContext(soon(t))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the scaler to see what waits and what is in flight", func() bool {
		info, err := stream.Info(soon(t))
		return err == nil && info.State.Msgs >= accepted && c.depth(t, trigger) == int(info.State.Msgs)
	})

	leader := func(s *server.Server) bool { return s.JetStreamIsStreamLeader("$G", trigger["stream"]) }
	first := slices.IndexFunc(c.nodes, leader)
	if first < 0 {
		t.Fatal("want a leader of the stream")
	}
	c.stop(first)
	until(t, "an event accepted without the leader", accept)

	second, third := (first+1)%3, (first+2)%3
	c.stop(second)
	until(t, "the last node to say that it has no quorum", func() bool { return c.ask(t, third, quorum, nil) == http.StatusServiceUnavailable })
	if publish() {
		t.Error("one node of three accepted an event")
	}
	for _, path := range alive {
		if status := c.ask(t, third, path, nil); status != http.StatusOK {
			t.Errorf("want a node that only lacks the others left alone, have %d at %s", status, path)
		}
	}

	c.start(t, second)
	c.start(t, first)
	until(t, "an event accepted again", accept)
	for i := range c.nodes {
		until(t, "every node well again", func() bool { return c.ask(t, i, quorum, nil) == http.StatusOK })
	}
	info, err := stream.Info(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	// An event whose answer was lost may be there, too: never fewer.
	if info.State.Msgs < accepted {
		t.Errorf("want the %d events that were accepted, have %d", accepted, info.State.Msgs)
	}
}
