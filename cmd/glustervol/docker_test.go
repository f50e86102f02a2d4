package main

import (
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// TestDocker is the first hour of a user.
func TestDocker(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.Docker(t)
	startDriver(t, gv.Address())
	docker := func(args ...string) string { t.Helper(); return testnode.RunDocker(t, args...) }

	docker("volume", "create", "-d", "glustervol", "-o", "uid=999", "-o", "gid=999", "-o", "mode=0750", "web")
	docker("run", "--rm", "-v", "web:/data", "--volume-driver", "glustervol", testnode.Image, "sh", "-c", "echo hi > /data/f")
	if got := docker("run", "--rm", "-v", "web:/data", testnode.Image, "sh", "-c", "cat /data/f; stat -c %u:%g:%a /data"); got != "hi\n999:999:750" {
		t.Errorf("%q", got)
	}
	t.Log(docker("volume", "inspect", "web"))
	t.Log(docker("volume", "ls"))
	t.Log(cli(t, "inspect", "web"))
	t.Log(cli(t, "info"))
	docker("volume", "rm", "web")
	t.Log(cli(t, "trash", "ls"))
	cli(t, "trash", "restore", "web")
	if got := docker("run", "--rm", "-v", "web:/data", "--volume-driver", "glustervol", testnode.Image, "cat", "/data/f"); got != "hi" {
		t.Errorf("restored: %q", got)
	}
	docker("volume", "rm", "web")
	t.Log(cli(t, "trash", "empty"))
	if got := cli(t, "trash", "ls"); strings.Contains(got, "web") {
		t.Error(got)
	}
}
