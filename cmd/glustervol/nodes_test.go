package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// startOtherNode starts the driver of another node, as far as a machine can be
// two: it has directories and sockets of its own. It returns what runs a command
// there.
func startOtherNode(t *testing.T, store string) (d *testnode.Daemon, there func(args ...string) []string) {
	t.Helper()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "node-id"), []byte("other-node\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "admin.sock")
	there = func(args ...string) []string { return append(args, "--socket="+socket) }
	args := there("serve", "--run-dir="+filepath.Join(dir, "run"), "--state-dir="+state, "--log-dir="+filepath.Join(dir, "log"),
		"--plugin-socket="+filepath.Join(dir, "plugin.sock"), "--boot-wait=0s", "--linger=0s", store)
	ready := func() error { return command(context.Background(), there("info")...).Run() }
	d, err := testnode.StartDaemon(filepath.Join(dir, "driver.out"), ready, "env", append([]string{asMain + "=1", testExecutable(t)}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Stop()
		if log, err := os.ReadFile(filepath.Join(dir, "driver.out")); err == nil && (t.Failed() || strings.Contains(string(log), "panic:")) {
			t.Errorf("the other driver:\n%s", log)
		}
	})
	return d, there
}

// TestTwoNodes is what one node sees of another: its volumes, and what it uses.
func TestTwoNodes(t *testing.T) { overBoth(t, testTwoNodes) }

func testTwoNodes(t *testing.T, flag string) {
	gv, d := startNode(t, flag)
	other, there := startOtherNode(t, gv.Address())
	create(t, "web", "uid=999")
	shows := func(what string, want bool) {
		t.Helper()
		testnode.Eventually(t, what, func() bool {
			return strings.Contains(cli(t, there("ls")...), "web") == want
		})
	}
	shows("the other node shows the volume", true)
	startContainer(t, "box", "-v=web:/data")
	node := cliJSON[plugin.Info](t, "info").Node.ID
	refused := func(words ...string) {
		t.Helper()
		cliFails(t, there("rm", "web"), append(words, "remove volume web", "in use on node "+node)...)
	}
	refused()

	list := cliJSON[[]volume.NodeInfo](t, there("node", "ls")...)
	if len(list) != 2 || list[0].Node == list[1].Node {
		t.Errorf("nodes: %+v", list)
	}
	testnode.Eventually(t, "the other node hears of this one", func() bool {
		return strings.Contains(cli(t, there("node", "ls")...), "alive")
	})
	cliFails(t, there("node", "forget", node, "--yes"), "heard of")
	if _, errs, code := tryCLI(t, there("node", "forget", node)...); code != exitUsage {
		t.Errorf("exit code %d: %s", code, errs)
	}

	// The driver's death, a stop and a start change nothing.
	d.kill()
	refused()
	d.start()
	refused()
	awaitReached(t)
	d.stop()
	testnode.Eventually(t, "the other node hears that the driver has stopped", func() bool {
		return strings.Contains(cli(t, there("node", "ls")...), "stopped")
	})
	refused("its driver does not run")
	d.start()
	docker(t, "rm", "--force", "box")
	testnode.Eventually(t, "the volume can be removed", func() bool {
		_, _, code := tryCLI(t, there("rm", "web")...)
		return code == 0
	})
	testnode.Eventually(t, "the volume is gone here", func() bool { return docker(t, "volume", "ls", "--quiet") == "" })
	cli(t, "trash", "restore", "web")
	shows("the other node shows what was restored", true)

	// And the other way round, by Docker, which knows nothing of other nodes.
	cli(t, there("mount", "web")...)
	testnode.Eventually(t, "docker volume rm names who uses it", func() bool {
		_, err := testnode.TryDocker("volume", "rm", "web")
		if err == nil {
			t.Fatal("a volume in use on another node was removed")
		}
		return strings.Contains(err.Error(), "volume web is in use on node other-node by mount "+volume.ManualUser)
	})
	cli(t, there("unmount", "web")...)
	testnode.Eventually(t, "the volume can be removed", func() bool {
		_, err := testnode.TryDocker("volume", "rm", "web")
		return err == nil
	})
	other.Kill()
}

// TestStoppedContainers: a container that does not run keeps its volume on all
// nodes, whatever becomes of dockerd and driver.
func TestStoppedContainers(t *testing.T) {
	gv, d := startNode(t)
	_, there := startOtherNode(t, gv.Address())
	testnode.Eventually(t, "the containers are known", func() bool {
		return cliJSON[plugin.Info](t, "info").Docker == "its containers are known"
	})
	refused := func(state string) {
		t.Helper()
		testnode.Eventually(t, "the other node refuses for a container that is "+state, func() bool {
			_, errs, code := tryCLI(t, there("rm", "web")...)
			if code == 0 {
				t.Fatal("a volume with a container was removed")
			}
			return strings.Contains(errs, "by container box ("+state+")")
		})
	}
	// A reference that names its container has been seen to be in time: it is written
	// once before, and taken back should the volume be about to be removed.
	known := func(want string) {
		t.Helper()
		testnode.Eventually(t, "the reference is on the store", func() bool {
			files, err := filepath.Glob(onBrick(gv, ".glustervol/nodes/*/????????????????.json"))
			if err != nil || want == "" {
				return err == nil && len(files) == 0
			}
			return slices.ContainsFunc(files, func(file string) bool {
				data, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(data), fmt.Sprintf("%q", want))
			})
		})
	}
	docker(t, "create", "--name=box", driverFlag, "-v=web:/data", testnode.Image, "sleep", "1000000")
	known("box")
	refused("created")
	docker(t, "start", "box")
	refused("running")
	docker(t, "stop", "--time=0", "box")
	refused("exited")
	cliFails(t, []string{"rm", "web"}, "in use on this node by container box (exited)")

	d.kill()
	refused("exited")
	d.start()
	refused("exited")
	testnode.KillDocker(t)
	refused("exited")
	testnode.Docker(t)
	refused("exited")
	docker(t, "rm", "box")
	known("")
	docker(t, "volume", "rm", "web")
}

// TestSeenWithin: what one node does shows on another within 2 s.
func TestSeenWithin(t *testing.T) {
	gv, _ := startNode(t)
	_, there := startOtherNode(t, gv.Address())
	const limit = 2 * time.Second
	for _, step := range []struct {
		args []string
		want bool
	}{
		{[]string{"create", "web"}, true},
		{[]string{"rm", "web"}, false},
		{[]string{"trash", "restore", "web"}, true},
		{[]string{"rm", "--keep-data", "web"}, false},
	} {
		cli(t, there(step.args...)...)
		start := time.Now()
		for (docker(t, "volume", "ls", "--quiet") == "web") != step.want {
			if time.Since(start) > limit {
				t.Fatalf("%s does not show on the other node within %s", step.args, limit)
			}
		}
	}
}
