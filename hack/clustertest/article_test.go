package clustertest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

// TestArticle goes step by step through what somebody tried with Convoy on a
// hand-made mount, and the two holes that he found: a removed volume's data came
// back under a new one of its name, and one node could remove what a stopped
// container on another still referenced. It has the machine for itself, since it
// asks what shows in time.
func TestArticle(t *testing.T) {
	c := newCluster(t)
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]

	one.docker("volume", "create", "--driver=glustervol", "web")
	for _, n := range c.nodes {
		within(t, seenWithin, n.name+" shows the volume", func() bool { return slices.Contains(n.volumes(), "web") })
	}

	// A container on each of two nodes; both end, neither is removed.
	runNamed(one, "writer", "echo from one >/data/file")
	if got := runNamed(two, "reader", "cat /data/file; echo from two >>/data/file"); got != "from one" {
		t.Errorf("node2 reads %q", got)
	}
	if got := three.runScript("web", "cat /data/file"); got != "from one\nfrom two" {
		t.Errorf("node3 reads %q", got)
	}

	// The second hole: node1 is through with the volume, node2 is not.
	one.docker("rm", "writer")
	refused := "volume web is in use on node " + two.id + " by container reader (exited); stop and remove what uses it first"
	held(t, one, "web", refused) // by docker volume rm
	_, err := three.tryCLI("rm", "web")
	fails(t, err, "on node "+two.id+" by container reader (exited)")
	two.docker("start", "--attach", "reader")
	if got := three.runScript("web", "cat /data/file"); got != "from one\nfrom two\nfrom two" {
		t.Errorf("node3 reads %q", got)
	}

	two.docker("rm", "reader")
	within(t, patience, "the volume can be removed", func() bool {
		_, err := one.tryDocker("volume", "rm", "web")
		return err == nil
	})
	for _, n := range c.nodes {
		within(t, seenWithin, n.name+" does not show the volume", func() bool { return !slices.Contains(n.volumes(), "web") })
	}

	// The first hole: a new volume of that name is a new one.
	for _, n := range c.nodes {
		if got := n.runScript("web", "ls -A /data; echo "+n.name+" >/data/"+n.name); strings.Contains(got, "file") {
			t.Errorf("%s: the new volume has old files: %s", n.name, got)
		}
	}

	// And any node gets the old one back.
	three.cli("trash", "restore", "web", "--as=old")
	within(t, seenWithin, "node2 shows what node3 has restored", func() bool { return slices.Contains(two.volumes(), "old") })
	if got := two.runScript("old", "cat /data/*"); got != "from one\nfrom two\nfrom two" {
		t.Errorf("what was restored has %q", got)
	}
}

// runNamed runs a script in a container that stays, with volume web in /data.
func runNamed(n *node, name, script string) string {
	n.c.t.Helper()
	return n.docker("run", "--name="+name, "--volume=web:/data", testnode.Image, "sh", "-c", script)
}

// TestTogether is what several nodes do at the same time, by way of Docker.
func TestTogether(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	t.Run("create with equal options", func(t *testing.T) { testCreateEqual(t, c) })
	t.Run("create with different options", func(t *testing.T) { testCreateDifferent(t, c) })
	t.Run("trash", func(t *testing.T) { testTrash(t, c) })
	t.Run("purge", func(t *testing.T) { testPurgeGoesOn(t, c) })
	t.Run("Swarm", func(t *testing.T) { testSwarm(t, c) })
	t.Run("README", func(t *testing.T) { testReadme(t, c) })
}

// onAll runs what on all nodes at the same time, and returns its errors.
func onAll(c *cluster, what func(n *node) error) []error {
	errs := make([]error, len(c.nodes))
	var group sync.WaitGroup
	for i, n := range c.nodes {
		group.Go(func() { errs[i] = what(n) })
	}
	group.Wait()
	return errs
}

const createRounds = 20

func testCreateEqual(t *testing.T, c *cluster) {
	for round := range createRounds {
		name := fmt.Sprintf("equal%d", round)
		for _, err := range onAll(c, func(n *node) error {
			_, err := n.tryDocker("volume", "create", "--driver=glustervol", "--opt=uid=7", name)
			return err
		}) {
			if err != nil {
				t.Error(err)
			}
		}
		for _, n := range c.nodes {
			if v := n.inspect(name); v.ID != c.nodes[0].inspect(name).ID {
				t.Errorf("%s has volume %s of its own", n.name, name)
			}
		}
	}
}

// testCreateDifferent asks the driver itself: dockerd does not, when the volume
// is there by then, and keeps the options that it has without a word.
func testCreateDifferent(t *testing.T, c *cluster) {
	for round := range createRounds {
		name := fmt.Sprintf("different%d", round)
		winner := ""
		for i, err := range onAll(c, func(n *node) error {
			_, err := n.tryCLI("create", "-o", "uid="+strings.TrimPrefix(n.name, "node"), name)
			return err
		}) {
			n := c.nodes[i]
			switch {
			case err != nil:
				fails(t, err, "volume "+name+" exists with other options", "uid")
			case winner != "":
				t.Errorf("%s and %s have both created volume %s", winner, n.name, name)
			default:
				winner = n.name
			}
		}
		if winner == "" {
			t.Fatalf("nobody has created volume %s", name)
		}
		for _, n := range c.nodes {
			if got := fmt.Sprint(*n.inspect(name).Options.UID); got != strings.TrimPrefix(winner, "node") {
				t.Errorf("%s won, and %s has volume %s with uid=%s", winner, n.name, name, got)
			}
		}
	}
}

// testTrash: any node lists, restores and empties what another has removed.
func testTrash(t *testing.T, c *cluster) {
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	one.docker("volume", "create", "--driver=glustervol", "junk")
	one.docker("volume", "rm", "junk")
	list := decode[[]volume.Trashed](t, two.cli("trash", "ls", "--json"))
	if len(list) != 1 || list[0].Name != "junk" {
		t.Fatalf("the trash as node2 lists it: %+v", list)
	}
	three.cli("trash", "restore", "junk")
	three.cli("rm", "junk")
	errs := onAll(c, func(n *node) error {
		_, err := n.tryCLI("trash", "empty")
		return err
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if list := decode[[]volume.Trashed](t, one.cli("trash", "ls", "--json")); len(list) != 0 {
		t.Errorf("the trash behind three that emptied it: %+v", list)
	}
}

// testPurgeGoesOn: a purge that a crash interrupts goes on elsewhere.
func testPurgeGoesOn(t *testing.T, c *cluster) {
	const files = 3000
	one, three := c.nodes[0], c.nodes[2]
	one.cli("create", "large")
	dir := one.path(one.cli("mount", "large"))
	for i := range files {
		must(t, os.WriteFile(fmt.Sprintf("%s/file%d", dir, i), nil, 0o600))
	}
	one.cli("unmount", "large")
	within(t, patience, "the volume is removed", func() bool {
		_, err := three.tryCLI("rm", "large")
		return err == nil
	})
	left := func() (n int) {
		dirs, err := filepath.Glob(one.brick(".glustervol/trash/large.*"))
		must(t, err)
		for _, dir := range dirs {
			list, err := os.ReadDir(dir) // a record is none
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				n += 1 + len(list)
			}
		}
		return n
	}
	ended := make(chan error)
	go func() {
		_, err := three.tryCLI("trash", "empty")
		ended <- err
	}()
	within(t, patience, "the purge has begun", func() bool { return left() < files })
	c.run("kill", three.name, "glustervol")
	fails(t, <-ended, "trash empty")
	rest := left()
	if rest == 0 {
		t.Fatal("the purge was through before its driver was killed")
	}
	t.Logf("%d of %d files were left", rest-1, files)
	within(t, patience, "others go on with the purge", func() bool { return left() == 0 })
	c.up(three.name)
}
