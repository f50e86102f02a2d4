// Package clustertest tests the driver on clusters of real nodes, which
// hack/cluster starts: each test has one of its own, and they run side by side.
package clustertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of a test's time is waiting for Gluster's and the driver's deadlines.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	testnode.Main(m)
}

const (
	script = "../cluster"
	// seenWithin is the time in which all nodes show what one has done.
	seenWithin = 2 * time.Second
	// patience bounds waits for what has no promise. Gluster alone makes containers wait
	// for 84 s when a server is cut off.
	patience = 3 * time.Minute
	// commandTime is more than any command takes that is to end at all.
	commandTime = 3 * time.Minute
	// outputTime is how long what a command has started may keep its output open.
	outputTime = 10 * time.Second
)

// cluster is a running hack/cluster.
type cluster struct {
	t     testing.TB
	state string
	env   []string
	nodes []*node
}

// newCluster starts a cluster, which ends with the test. The flags are the
// driver's.
func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	return newClusterWith(t, nil, flags...)
}

// newClusterWith is newCluster with variables of hack/cluster.
func newClusterWith(t *testing.T, variables []string, flags ...string) *cluster {
	t.Helper()
	testnode.Require(t)
	state := filepath.Join("/var/lib/glustervol/clusters", t.Name()) // in memory: disks of test machines are slow
	c := &cluster{t: t, state: state, env: append(os.Environ(),
		"GLUSTERVOL_CLUSTER="+state, "GLUSTERVOL_DRIVER="+driverBinary(t), "GLUSTERVOL_OPTS="+strings.Join(append(flags, "--log-level=debug"), " "))}
	c.env = append(c.env, variables...)
	t.Cleanup(func() {
		c.checkLogs()
		c.run("down")
	})
	c.up("node1", "node2", "node3")
	return c
}

// up starts nodes, or what is missing of them.
func (c *cluster) up(names ...string) {
	c.t.Helper()
	c.run("up", names...)
	for _, name := range names {
		c.node(name).find()
	}
}

// node returns a node by name, which need not run.
func (c *cluster) node(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	n := &node{c: c, name: name}
	c.nodes = append(c.nodes, n)
	return n
}

// run runs a verb of hack/cluster, which has to succeed.
func (c *cluster) run(verb string, args ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime) // the test's is done when it cleans up
	defer cancel()
	cmd := exec.CommandContext(ctx, script, append([]string{verb}, args...)...)
	cmd.Env = c.env
	cmd.WaitDelay = outputTime
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("hack/cluster %s %s: %v: %s", verb, strings.Join(args, " "), err, out)
	}
}

// checkLogs looks for a driver that panicked, and shows a failed test's logs.
func (c *cluster) checkLogs() {
	logs, err := filepath.Glob(c.state + "/node?/glustervol.log")
	if err != nil || len(logs) == 0 {
		c.t.Error("no driver has logged: ", err)
	}
	if c.t.Failed() {
		dockers, _ := filepath.Glob(c.state + "/node?/dockerd.log")
		logs = append(logs, dockers...)
	}
	for _, file := range logs {
		log, err := os.ReadFile(file)
		if err != nil {
			c.t.Error(err)
		}
		if bytes.Contains(log, []byte("panic:")) || bytes.Contains(log, []byte("fatal error:")) {
			c.t.Error("a driver panicked")
		}
		if c.t.Failed() {
			c.t.Logf("%s:\n%s", file, log[max(0, len(log)-20000):])
		}
	}
	if !c.t.Failed() {
		return
	}
	for _, n := range c.nodes {
		c.t.Logf("what the driver of %s is doing:\n%s", n.name, n.goroutines())
		for _, question := range []string{"node ls", "service ls", "ps --all"} {
			answer, err := n.tryDocker(strings.Fields(question)...)
			c.t.Logf("%s: docker %s:\n%s (%v)", n.name, question, answer, err)
		}
	}
}

// goroutines are those of the node's driver, for tests that failed because something hung.
func (n *node) goroutines() string {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.path("/run/glustervol/admin.sock"))
		},
	}}
	response, err := client.Get("http://glustervol/debug/pprof/goroutine?debug=2")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%s (%v)", text, err)
}

// driverBinary builds the driver once, as 'make build' does.
func driverBinary(t testing.TB) string {
	t.Helper()
	path, err := buildDriver()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildDriver = sync.OnceValues(func() (string, error) { return build("glustervol") })

// build builds a driver into a directory of the machine, which goes with the tests.
func build(name string, flags ...string) (string, error) {
	path := filepath.Join("/var/lib/glustervol/drivers", name, "glustervol")
	args := append([]string{"build", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "github.com/glustervol/glustervol/cmd/glustervol")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the driver: %w: %s", err, out)
	}
	return path, nil
}

// node is a node of a cluster.
type node struct {
	c    *cluster
	name string
	// pid is its process 1.
	pid int
	// id is what its driver calls it.
	id    string
	admin *plugin.AdminClient
}

// find looks for the node's process and driver, behind each start.
func (n *node) find() {
	n.c.t.Helper()
	for pid, args := range testnode.Processes() {
		if strings.HasPrefix(args, "bash ") && strings.HasSuffix(args, " _node "+n.name+" "+n.c.state) {
			n.pid = pid
		}
	}
	n.admin = plugin.NewAdminClient(n.path("/run/glustervol/admin.sock"))
	info, err := n.admin.Info(n.c.t.Context())
	if err != nil {
		n.c.t.Fatalf("%s: %v", n.name, err)
	}
	n.id = info.Node.ID
}

// path is how this machine reaches a file of the node.
func (n *node) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", n.pid, name) }

// brick is a path on the node's brick.
func (n *node) brick(name string) string { return filepath.Join(n.c.state, n.name, "brick", name) }

// failure is a command that failed.
type failure struct {
	command, output string
	err             error
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v: %s", f.command, f.err, f.output) }

func (n *node) try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(n.c.t.Context(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = outputTime
	out, err := cmd.CombinedOutput()
	text := strings.TrimRight(string(out), "\n")
	if err != nil {
		return text, &failure{n.name + ": " + program + " " + strings.Join(args, " "), text, errors.Join(err, context.Cause(ctx))}
	}
	return text, nil
}

// tryDocker runs the docker command against the node's dockerd.
func (n *node) tryDocker(args ...string) (string, error) {
	return n.try("docker", append([]string{"--host=unix://" + n.path("/run/docker.sock")}, args...)...)
}

// docker is a tryDocker that has to succeed.
func (n *node) docker(args ...string) string {
	n.c.t.Helper()
	return n.must(n.tryDocker(args...))
}

// tryCLI runs the glustervol command against the node's driver.
func (n *node) tryCLI(args ...string) (string, error) {
	return n.try(driverBinary(n.c.t), append(args, "--socket="+n.path("/run/glustervol/admin.sock"))...)
}

// cli is a tryCLI that has to succeed.
func (n *node) cli(args ...string) string {
	n.c.t.Helper()
	return n.must(n.tryCLI(args...))
}

func (n *node) must(out string, err error) string {
	n.c.t.Helper()
	if err != nil {
		n.c.t.Fatal(err)
	}
	return out
}

// runScript runs a shell script in a container with a volume in /data, which is
// gone afterwards.
func (n *node) runScript(volume, script string) string {
	n.c.t.Helper()
	return n.docker("run", "--rm", "--volume="+volume+":/data", "--volume-driver=glustervol", testnode.Image, "sh", "-c", script)
}

// volumes are the names that docker volume ls shows.
func (n *node) volumes() []string {
	n.c.t.Helper()
	return strings.Fields(n.docker("volume", "ls", "--quiet"))
}

// inspect is what the node's driver knows of a volume.
func (n *node) inspect(volume string) plugin.VolumeInfo {
	n.c.t.Helper()
	v, err := n.admin.Inspect(n.c.t.Context(), volume)
	if err != nil {
		n.c.t.Fatal(err)
	}
	return v
}

// fails wants a command to have failed with words in its error.
func fails(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, wanted one with %q", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in: %v", word, err)
		}
	}
}

// held waits until a node refuses to remove a volume with words in its error. That
// it is removed, no test that calls this can bear.
func held(t testing.TB, n *node, volume string, words ...string) {
	t.Helper()
	within(t, patience, n.name+" refuses to remove "+volume+": "+strings.Join(words, ", "), func() bool {
		_, err := n.tryDocker("volume", "rm", volume)
		if err == nil {
			t.Fatalf("%s has removed volume %s, wanted an error with %q", n.name, volume, words)
		}
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(err.Error(), word) })
	})
}

// within waits for something to be so, and fails the test when it is not in time.
func within(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	start := time.Now()
	for asked := start; !holds(); asked = time.Now() {
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		testnode.Pause(asked)
	}
}

// decode decodes JSON.
func decode[T any](t testing.TB, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
