package clustertest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

const swarmMount = "--mount=type=volume,source=logs,target=/data,volume-driver=glustervol,volume-opt=mode=0770"

// testSwarm: a global service on three nodes writes to one volume.
func testSwarm(t *testing.T, c *cluster) {
	one := c.nodes[0]
	one.docker("service", "create", "--detach", "--quiet", "--mode=global", "--name=logger", "--stop-grace-period=0s", swarmMount,
		"--hostname={{.Node.Hostname}}", testnode.Image, "sh", "-c", "while hostname >>/data/log; do sleep 0.2; done")
	defer func() {
		if t.Failed() {
			tasks, err := one.tryDocker("service", "ps", "--no-trunc", "logger")
			t.Logf("%s (%v)", tasks, err)
		}
	}()
	for _, n := range c.nodes {
		within(t, patience, "tasks on all nodes write to the volume that "+n.name+" has", func() bool {
			lines := strings.Fields(n.runScript("logs", "cat /data/log || true"))
			return slices.Contains(lines, "node1") && slices.Contains(lines, "node2") && slices.Contains(lines, "node3")
		})
	}
	one.docker("service", "rm", "logger")
}

// testReadme runs the README's example for several nodes as it is written.
func testReadme(t *testing.T, c *cluster) {
	text, err := os.ReadFile("../../README.md")
	must(t, err)
	blocks := regexp.MustCompile("(?s)<!-- not run here: hack/clustertest does, on three nodes -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("the README has no example for several nodes")
	}
	for _, n := range c.nodes {
		n.docker("tag", testnode.Image, "alpine")
	}
	for _, block := range blocks {
		c.run("exec", "node1", "bash", "-euxc", `sudo() { "$@"; }; `+block[1]) // root needs no sudo
	}
}

// TestServiceMoves: a service of one task is moved when its node is drained or
// dies, and finds its data.
func TestServiceMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one := c.nodes[0]
	one.docker("service", "create", "--detach", "--quiet", "--name=counter", "--stop-grace-period=0s", swarmMount,
		"--constraint=node.hostname!=node1", testnode.Image, "sh", "-c", "echo $(hostname) $(cat /data/last || echo none) >>/data/moves; hostname >/data/last; sync; sleep 1000000")
	place := func() string {
		return one.docker("service", "ps", "counter", "--filter=desired-state=running", "--format={{if eq (slice .CurrentState 0 7) \"Running\"}}{{.Node}}{{end}}")
	}
	moves := func() []string { return strings.Split(one.runScript("logs", "cat /data/moves || true"), "\n") }
	awaitMoves := func(want int) {
		t.Helper()
		within(t, patience, "the service runs once more", func() bool { return place() != "" && len(moves()) == want && moves()[0] != "" })
	}
	awaitMoves(1)
	first := c.node(place())
	one.docker("node", "update", "--availability=drain", first.name)
	awaitMoves(2)
	second := c.node(place())
	if second == first {
		t.Fatalf("the service is still on %s, which is drained", first.name)
	}
	one.docker("node", "update", "--availability=active", first.name)

	c.run("kill", second.name)
	killed := time.Now()
	awaitMoves(3)
	t.Logf("the service runs on another node %s after its node's death", time.Since(killed).Round(time.Second))
	if third := place(); third != first.name {
		t.Errorf("the service is on %s, not on %s", third, first.name)
	}
	// Each start has found what the one before has left.
	list := moves()
	for i, line := range list {
		before := "none"
		if i > 0 {
			before = strings.Fields(list[i-1])[0]
		}
		if fields := strings.Fields(line); len(fields) != 2 || fields[1] != before {
			t.Errorf("start %d has found %q, wanted %s", i, line, before)
		}
	}
	held(t, one, "logs", "node "+first.id+" by ", "node "+second.id+" by ")

	c.up(second.name)
	within(t, patience, "all nodes are alive", func() bool { return strings.Count(one.cli("node", "ls"), " alive ") == 2 })
	one.docker("service", "rm", "counter")
	within(t, patience, "the volume can be removed when all have let go of it", func() bool {
		_, err := second.tryCLI("rm", "logs")
		return err == nil
	})
}
