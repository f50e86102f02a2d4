package mount_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

// testShown has a client's mount on a second path, which dockerd takes away when it
// likes; what the client has there ends with it.
func testShown(t *testing.T, n *node) {
	n.config.ShowDir = filepath.Join(n.dir, "shown")
	n.Clients = mount.NewClients(n.config)
	shown := filepath.Join(n.config.ShowDir, n.source.Key())
	c := n.use(n.source, "a")
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	sees := func() {
		t.Helper()
		if _, err := n.Mount(t.Context(), n.source, mount.Dir{Path: "d"}, "a"); err != nil {
			t.Error(err)
		}
		if inodeOf(t, filepath.Join(shown, "d")) != inodeOf(t, filepath.Join(c.Path(), "d")) {
			t.Error("another directory is shown")
		}
		wantMounts(t, shown, 1)
	}
	sees()
	sees()
	must(t, unix.Unmount(shown, unix.MNT_DETACH))
	sees()

	pid := c.PID()
	must(t, unix.Kill(pid, unix.SIGKILL))
	n.eventually("the client's end", func() bool { return c.PID() == 0 })
	sees()
	if c.PID() == pid {
		t.Error("the client was not started anew")
	}

	f, err := os.Open(filepath.Join(shown, "d"))
	must(t, err)
	pid = c.PID()
	n.Release(n.source.Key(), "a")
	n.eventually("an attempt to end it", func() bool {
		found, err := n.log.find("client cannot be ended, trying again")
		return found && errors.Is(err, mount.ErrBusy)
	})
	if c.PID() != pid {
		t.Error("the client was torn from under a file that is open where it is shown")
	}
	must(t, f.Close())
	n.awaitEnd(c, pid)
	n.eventually("nothing is shown", func() bool { _, err := os.Stat(shown); return os.IsNotExist(err) })
}

func wantMounts(t *testing.T, path string, want int) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if got := strings.Count(string(table), " "+path+" "); got != want {
		t.Errorf("%d mounts on %s, want %d", got, path, want)
	}
}

// TestLeaveGroups has a client leave the control groups that it is started in.
func TestLeaveGroups(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	n := newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name})
	const machine = "/sys/fs/cgroup"
	group := filepath.Join(machine, "pids", "glustervol-test")
	if _, err := os.Stat(filepath.Join(machine, "cgroup.controllers")); err == nil {
		group = filepath.Join(machine, "glustervol-test")
	}
	must(t, os.Mkdir(group, 0o755))
	t.Cleanup(func() {
		n.eventually("the group is empty", func() bool { return os.Remove(group) == nil })
	})
	// The shell is in the group, and so is what it becomes.
	binary := filepath.Join(n.dir, "glusterfs")
	program, err := exec.LookPath("glusterfs")
	must(t, err)
	script := fmt.Sprintf("#!/bin/sh\necho $$ > %s/cgroup.procs && exec %s \"$@\"\n", group, program)
	must(t, os.WriteFile(binary, []byte(script), 0o755))
	n.config.Binary = binary

	within := func(groups string) bool {
		t.Helper()
		n.config.ControlGroups = groups
		n.Clients = mount.NewClients(n.config)
		c := n.use(n.source, "a")
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID()))
		must(t, err)
		pid := c.PID()
		n.Release(n.source.Key(), "a")
		n.awaitEnd(c, pid)
		return strings.Contains(string(text), "/glustervol-test\n")
	}
	if !within("") {
		t.Error("the client is not in the group; the test is about nothing")
	}
	if within(machine) {
		t.Error("the client has not left the group")
	}
}
