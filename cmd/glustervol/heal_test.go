package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// killClient kills the Gluster client of a volume.
func killClient(t testing.TB, volume string) {
	t.Helper()
	if err := syscall.Kill(inspect(t, volume).Client.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// awaitHealed waits until a script works in a container again, without its restart.
func awaitHealed(t testing.TB, container, script, want string) {
	t.Helper()
	var got string
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got, err = testnode.TryDocker("exec", container, "sh", "-c", script); err == nil && got == want {
			return
		}
	}
	t.Fatalf("%s: %q prints %q, %v; want %q\n%s", container, script, got, err, want, testnode.DockerLog())
}

// TestHealed kills the Gluster client under containers again and again.
func TestHealed(t *testing.T) {
	gv, _ := startNode(t)
	create(t, "web")
	create(t, "inner")
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "reader", "-v=web:/data:ro")
	startContainer(t, "twice", "-v=web:/a", "-v=web:/b:ro")
	startContainer(t, "nested", "-v=web:/data", "-v=inner:/data/inner", "-v=/etc/hostname:/data/hostname:ro")
	for round := range 3 {
		mark := fmt.Sprint("round ", round)
		killClient(t, "web")
		awaitHealed(t, "twice", fmt.Sprintf("echo '%s' > /a/mark && cat /b/mark", mark), mark)
		awaitHealed(t, "reader", "cat /data/mark", mark)
		awaitHealed(t, "nested", fmt.Sprintf("cat /data/mark; echo '%s' > /data/inner/own && cat /data/inner/own", mark), mark+"\n"+mark)
		h.beatsOn(t)
		for container, path := range map[string]string{"reader": "/data", "twice": "/b"} {
			if out, err := testnode.TryDocker("exec", container, "sh", "-c", "echo no > "+path+"/no"); err == nil || !strings.Contains(out, "Read-only file system") {
				t.Errorf("%s is not read-only any more: %q, %v", container, out, err)
			}
		}
		if got := execScript(t, "nested", "cat /data/hostname"); got == "" {
			t.Error("a bind mount in the volume is lost")
		}
		if got := execScript(t, "nested", "grep -c ' /data' /proc/mounts"); got != "3" {
			t.Errorf("the container has %s mounts there, want 3:\n%s", got, execScript(t, "nested", "cat /proc/mounts"))
		}
	}
	t.Log(cli(t, "inspect", "web"))
	t.Log(driverLog(t))
}
