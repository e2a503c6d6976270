package queue_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/base-app/pkg/queue"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// nodeEnv holds the description of a node that the test binary shall be.
const nodeEnv = "QUEUE_TEST_NODE"

// node is one server of a cluster, a process.
type node struct {
	port   int
	config string // its configuration file
	cmd    *exec.Cmd
	stdin  io.Closer
}

// accounts is how many tests may use a cluster at once: each account has streams of its own.
const accounts = 6

// configure returns the configuration of a node of a cluster, or of a single server if there are no routes.
func configure(name string, port, clusterPort int, routes []string, dir string) string {
	c := fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\nmax_payload: 2MB\nping_interval: 2s\njetstream { store_dir: %q, sync_interval: always, max_mem: 64MB, max_file: 8GB }\n", name, port, dir)
	if len(routes) > 0 {
		c += fmt.Sprintf("cluster { name: test, listen: \"127.0.0.1:%d\", routes: [%s] }\n", clusterPort, strings.Join(routes, ", "))
	}
	c += "accounts {\n"
	for i := range accounts {
		c += fmt.Sprintf("  A%d { jetstream: enabled, users: [{user: u%d, password: secret}] }\n", i, i)
	}
	return c + "}\n"
}

// runNode is a node until its standard input ends.
func runNode() int {
	o, err := server.ProcessConfigFile(os.Getenv(nodeEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s.Start()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func (n *node) url(account int) string {
	return fmt.Sprintf("nats://u%d:secret@127.0.0.1:%d", account, n.port)
}

func (n *node) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+n.config)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.cmd, n.stdin = cmd, stdin
}

// kill ends it as a power cut would, or a paused one that nobody wakes.
func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		_ = n.stdin.Close()
		n.cmd = nil
	}
}

func (n *node) pause()  { _ = n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) resume() { _ = n.cmd.Process.Signal(syscall.SIGCONT) }

// freePorts returns ports that nobody listens on.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // all at the end, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// startNodes starts a cluster of n nodes, or a single server, that ends with the test.
func startNodes(t testing.TB, n int, change ...string) []*node {
	t.Helper()
	dir := t.TempDir()
	ports := freePorts(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
	}
	if n == 1 {
		routes = nil
	}
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = &node{port: ports[i], config: filepath.Join(dir, fmt.Sprintf("n%d.conf", i))}
		c := configure(fmt.Sprint("n", i), ports[i], ports[n+i], routes, filepath.Join(dir, fmt.Sprint(i)))
		for k := 0; k+1 < len(change); k += 2 {
			c = strings.ReplaceAll(c, change[k], change[k+1])
		}
		if err := os.WriteFile(nodes[i].config, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes[i].start(t)
		t.Cleanup(nodes[i].kill)
	}
	until(t, "the cluster has a leader", func() bool {
		if n == 1 {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", nodes[0].port))
			return err == nil && c.Close() == nil
		}
		nc, err := nats.Connect(urls(nodes, 0), nats.DontRandomize())
		if err != nil {
			return false
		}
		defer nc.Close()
		js, err := nc.JetStream()
		if err != nil {
			return false
		}
		_, err = js.AccountInfo()
		return err == nil
	})
	return nodes
}

func urls(nodes []*node, account int) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.url(account))
	}
	return strings.Join(all, ",")
}

// cluster returns a place in the cluster, in an account of its own that is emptied after the test.
func cluster(t testing.TB, nodes []*node, account int) *place {
	t.Helper()
	t.Cleanup(func() { emptyCluster(t, urls(nodes, account)) })
	dir := t.TempDir()
	return &place{name: "cluster", opts: queue.Options{URL: urls(nodes, account), Replicas: min(len(nodes), 3), AckWait: ackWait, MaxBytes: 64 << 20}, dirs: func() string { return dir }}
}

// elsewhere returns the same place as another machine sees it.
func (p *place) elsewhere(t testing.TB) *place {
	dir := t.TempDir()
	return &place{name: p.name, opts: p.opts, dirs: func() string { return dir }}
}
