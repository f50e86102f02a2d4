package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// goThroughLife has one node create a volume, write, remove and restore it, and
// another read what came back, all by way of Docker. The first step may have to
// wait until Gluster has given up a server that is gone.
func goThroughLife(t *testing.T, n, reader *node, name string) {
	t.Helper()
	within(t, patience, n.name+" creates volume "+name, func() bool {
		_, err := n.tryDocker("volume", "create", "--driver=glustervol", name)
		return err == nil
	})
	n.runScript(name, "echo "+name+" >/data/file")
	within(t, patience, n.name+" removes volume "+name, func() bool {
		_, err := n.tryDocker("volume", "rm", name) // the container is gone a moment later
		return err == nil
	})
	within(t, patience, reader.name+" does not show volume "+name, func() bool { return !slices.Contains(reader.volumes(), name) })
	n.cli("trash", "restore", name)
	if got := reader.runScript(name, "cat /data/file"); got != name {
		t.Errorf("%s reads %q in what %s has restored", reader.name, got, n.name)
	}
}

// startWriter starts a container that writes a line to its volume again and
// again, whatever happens.
func startWriter(n *node, name, volume string) {
	n.c.t.Helper()
	n.docker("run", "--detach", "--name="+name, "--stop-signal=KILL", "--volume="+volume+":/data", "--volume-driver=glustervol", testnode.Image,
		"sh", "-c", "while :; do echo line >>/data/"+name+"; sleep 0.2; done")
}

// awaitLines waits until a volume's file has more lines than before.
func awaitLines(t *testing.T, n *node, volume, file string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(n.brick("volumes/" + volume + "/" + file))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	before := size()
	within(t, patience, "the container writes", func() bool { return size() > before })
}

// TestCutOff: a node is cut off under a writing container, is forgotten by
// nobody, and comes back. The others go on, and take nothing from it.
func TestCutOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	startWriter(three, "writer", "web")
	held(t, one, "web", "container writer (running)")
	three.docker("volume", "create", "--driver=glustervol", "idle")

	c.run("cut", "node3")
	goThroughLife(t, one, two, "made-meanwhile")
	within(t, patience, "an idle volume of the node that is cut off can be removed", func() bool {
		_, err := two.tryDocker("volume", "rm", "idle")
		return err == nil
	})
	held(t, one, "web", "volume web is in use on node "+three.id+" by container writer (running) (unheard of for ")
	_, err := one.tryCLI("node", "forget", three.id, "--yes")
	fails(t, err, "forget node "+three.id, "was heard of")

	// The node itself: it still tells what it knows, and refuses what it cannot do.
	if names := three.volumes(); !slices.Contains(names, "web") {
		t.Errorf("the node that is cut off shows volumes %q", names)
	}
	_, err = three.tryDocker("volume", "create", "--driver=glustervol", "alone")
	fails(t, err, "the store cannot be reached")

	c.run("mend", "node3")
	awaitLines(t, one, "web", "writer")
	within(t, patience, "node3 shows what has happened meanwhile", func() bool {
		names := three.volumes()
		return slices.Contains(names, "made-meanwhile") && !slices.Contains(names, "idle")
	})
	goThroughLife(t, three, one, "made-afterwards")
	held(t, two, "web", "volume web is in use on node "+three.id+" by container writer (running);")
	three.docker("rm", "--force", "writer")
	within(t, patience, "node2 removes what nobody uses any more", func() bool {
		_, err := two.tryDocker("volume", "rm", "web")
		return err == nil
	})
}

// TestKilled: a node loses its power, the others go on, and it boots again with
// a container that is to be restarted.
func TestKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	startWriter(three, "writer", "web")
	three.docker("update", "--restart=always", "writer")
	held(t, one, "web", "container writer (running)")

	c.run("kill", "node3")
	one.cli("create", "at-once") // it takes a while, and does not fail
	one.cli("rm", "at-once")
	goThroughLife(t, one, two, "made-meanwhile")
	held(t, one, "web", "volume web is in use on node "+three.id+" by container writer (running) (unheard of for ")

	c.up("node3")
	awaitLines(t, one, "web", "writer")
	goThroughLife(t, three, one, "made-afterwards")
	held(t, two, "web", "volume web is in use on node "+three.id+" by container writer (running);")
}

// TestClocks: nodes whose clocks are days apart do all that others do, and a
// removed volume stays in the trash for as long as it is to.
func TestClocks(t *testing.T) {
	const retention = time.Minute
	t.Parallel()
	c := newCluster(t, "--trash-retention="+retention.String())
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	one.restartAt(t, 2*24*time.Hour) // the node that purges
	two.restartAt(t, -2*24*time.Hour)
	within(t, patience, "the nodes hear of each other", func() bool {
		return strings.Count(one.cli("node", "ls"), " alive ") == 2 && strings.Count(two.cli("node", "ls"), " alive ") == 2
	})
	if created := one.inspectNew("ahead").Created; time.Until(created) < 24*time.Hour {
		t.Errorf("node1's clock is not ahead: it has created a volume at %s", created)
	}
	if created := two.inspectNew("behind").Created; time.Since(created) < 24*time.Hour {
		t.Errorf("node2's clock is not behind: it has created a volume at %s", created)
	}

	goThroughLife(t, one, two, "of-node1")
	goThroughLife(t, two, three, "of-node2")
	goThroughLife(t, three, one, "of-node3")
	startWriter(two, "writer", "web")
	awaitLines(t, one, "web", "writer")
	for _, n := range []*node{one, three} { // and none takes it for silent
		held(t, n, "web", "volume web is in use on node "+two.id+" by container writer (running);")
	}
	for _, name := range []string{"ahead", "behind"} {
		two.cli("rm", name)
	}
	removed := time.Now()
	within(t, 5*retention, "the trash is purged", func() bool { return !strings.Contains(three.cli("trash", "ls"), ".") })
	if stayed := time.Since(removed); stayed < retention {
		t.Errorf("purged after %s, wanted %s", stayed, retention)
	}
}

// inspectNew creates a volume and returns what the driver says of it.
func (n *node) inspectNew(volume string) (v struct{ Created time.Time }) {
	n.c.t.Helper()
	n.cli("create", volume)
	v.Created = n.inspect(volume).Created
	return v
}

// restartAt starts the node's driver again with a clock that is shifted, for Go
// and for the C of libgfapi and the Gluster client.
func (n *node) restartAt(t *testing.T, shift time.Duration) {
	t.Helper()
	wrapper := filepath.Join("/var/lib/glustervol/drivers", n.name, "glustervol")
	faketime, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(faketime) != 1 {
		t.Fatalf("libfaketime is not there; 'hack/install-deps.sh test' installs it: %v", err)
	}
	must(t, os.MkdirAll(filepath.Dir(wrapper), 0o755))
	must(t, os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\n%s=%d LD_PRELOAD=%s FAKETIME=%+d FAKETIME_DONT_FAKE_MONOTONIC=1 exec %s \"$@\"\n",
		shiftVariable, int(shift.Seconds()), faketime[0], int(shift.Seconds()), shiftedDriver(t)), 0o755))
	n.c.run("kill", n.name, "glustervol")
	env := n.c.env
	n.c.env = append(slices.Clone(env), "GLUSTERVOL_DRIVER="+wrapper)
	n.c.up(n.name)
	n.c.env = env
}
