package clustertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCopiedDisk: a machine that was made by copying another one's disk has its
// node id, and does not serve the store until that is mended.
func TestCopiedDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one := c.nodes[0]
	one.docker("volume", "create", "--driver=glustervol", "web")
	copied := filepath.Join(c.state, "node4/driver/node-id")
	must(t, os.MkdirAll(filepath.Dir(copied), 0o700))
	must(t, os.WriteFile(copied, []byte(one.id+"\n"), 0o600))
	c.up("node4")
	four := c.node("node4")
	if four.id != one.id {
		t.Fatalf("node4 is %s, not %s", four.id, one.id)
	}
	clash := "another machine, node1, uses this node's id " + one.id + " too"
	within(t, patience, "node4 finds out", func() bool { return strings.Contains(four.cli("info"), clash) })
	for _, args := range [][]string{{"volume", "create", "--driver=glustervol", "mine"}, {"run", "--rm", "--volume=web:/data", "--volume-driver=glustervol", "busybox"}} {
		_, err := four.tryDocker(args...)
		fails(t, err, clash, "remove the file node-id in its state directory")
	}
	// The first one is not disturbed.
	goThroughLife(t, one, c.nodes[1], "undisturbed")

	c.run("kill", "node4", "glustervol")
	must(t, os.Remove(copied))
	c.up("node4")
	if four.id == one.id {
		t.Fatal("node4 has taken its id from elsewhere")
	}
	goThroughLife(t, four, one, "mended")
}

// TestForgotten: a node is cut off with containers, running and stopped, and a
// person says that it is gone for good; so its volumes can be removed. It comes
// back all the same.
func TestForgotten(t *testing.T) {
	const forgetPatience = 3 * time.Minute // README: "Several nodes"
	t.Parallel()
	c := newCluster(t)
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	startWriter(three, "writer", "web")
	three.docker("create", "--name=stopped", "--volume=db:/data", "--volume-driver=glustervol", "busybox", "cat", "/data/file")
	three.runScript("db", "echo kept >/data/file")
	startWriter(three, "survivor", "logs")
	held(t, one, "web", "container writer (running)")
	held(t, one, "db", "container stopped (created)")
	held(t, one, "logs", "container survivor (running)")

	c.run("cut", "node3")
	begin := time.Now()
	within(t, forgetPatience+patience, "node3 can be forgotten", func() bool {
		_, err := one.tryCLI("node", "forget", three.id, "--yes")
		return err == nil
	})
	if waited := time.Since(begin); waited < forgetPatience-10*time.Second {
		t.Errorf("the node was forgotten after %s of silence", waited)
	}
	if list := two.cli("node", "ls"); strings.Contains(list, three.id) {
		t.Errorf("nodes without node3: %s", list)
	}
	one.docker("volume", "rm", "web")
	two.docker("volume", "rm", "db")

	c.run("mend", "node3")
	for _, name := range []string{"web", "db"} {
		within(t, patience, "node3 tells of the loss of "+name, func() bool {
			log, err := os.ReadFile(filepath.Join(c.state, "node3/glustervol.log"))
			must(t, err)
			return strings.Contains(string(log), "was removed on another") && strings.Contains(string(log), `restore="glustervol trash restore `+name+".")
		})
	}
	held(t, one, "logs", "volume logs is in use on node "+three.id+" by container survivor (running);")
	awaitLines(t, one, "logs", "survivor")

	// What it has lost comes back, for the containers that still have it, too.
	one.cli("trash", "restore", "web")
	two.cli("trash", "restore", "db")
	awaitLines(t, one, "web", "writer")
	if got := three.docker("start", "--attach", "stopped"); got != "kept" {
		t.Errorf("the container finds %q", got)
	}
	within(t, patience, "what was restored is in use on node3", func() bool {
		_, err := one.tryCLI("rm", "web")
		if err == nil {
			one.cli("trash", "restore", "web") // node3 did not know yet
			return false
		}
		return strings.Contains(err.Error(), "in use on node "+three.id+" by container writer (running)")
	})
}
