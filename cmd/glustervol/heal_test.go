package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		asked := time.Now()
		if got, err = testnode.TryDocker("exec", container, "sh", "-c", script); err == nil && got == want {
			return
		}
		testnode.Pause(asked)
	}
	t.Fatalf("%s: %q prints %q, %v; want %q\n%s", container, script, got, err, want, testnode.DockerLog())
}

// abortClient has the kernel end the connection to the Gluster client of a volume.
func abortClient(t testing.TB, volume string) {
	t.Helper()
	control := t.TempDir()
	if err := syscall.Mount("none", control, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(control, 0) }() // else the tests tell
	var stat syscall.Stat_t
	if err := syscall.Stat(inspect(t, volume).Client.Mount, &stat); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("%s/%d/abort", control, unix.Minor(stat.Dev)), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestHealed ends the Gluster client under containers again and again.
func TestHealed(t *testing.T) {
	gv, _ := startNode(t)
	create(t, "web")
	create(t, "inner")
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "reader", "-v=web:/data:ro")
	startContainer(t, "twice", "-v=web:/a", "-v=web:/b:ro")
	startContainer(t, "nested", "-v=web:/data", "-v=inner:/data/inner", "-v=/etc/hostname:/data/hostname:ro")
	for round, end := range []func(testing.TB, string){killClient, killClient, abortClient} {
		mark := fmt.Sprint("round ", round)
		end(t, "web")
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
	for container, path := range map[string]string{"heart": "/data", "reader": "/data", "nested": "/data", "twice": "/b"} {
		healed := 0
		for _, healing := range inspect(t, "web").Healings {
			if healing.Container == container && healing.Path == path && healing.Error == "" {
				healed++
			}
		}
		if healed != 1 {
			t.Errorf("inspect tells %d times that %s is healed:\n%s", healed, container, cli(t, "inspect", "web"))
		}
		if !strings.Contains(driverLog(t), fmt.Sprintf(`level=WARN msg="container was healed: it has a new mount; files that it had open on the dead one are lost to it" volume=web container=%s path=%s`, container, path)) {
			t.Errorf("the log does not tell of %s", container)
		}
	}
	docker(t, "rm", "--force", "heart", "reader", "twice", "nested")
	expectUnused(t, "web", "inner")
}

// TestToBeRestarted: a container with a file system in its volume that cannot be
// mounted anew is told of until it was restarted, and the others are healed.
func TestToBeRestarted(t *testing.T) {
	gv, _ := startNode(t)
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "box", "-v=web:/data", "--tmpfs=/data/scratch")
	killClient(t, "web")
	h.beatsOn(t)
	testnode.Eventually(t, "inspect names the container", func() bool {
		return strings.Contains(words(cli(t, "inspect", "web")), "To be restarted: box at /data (/data/scratch, which is mounted in it, cannot be mounted anew: its file system, of type tmpfs, is mounted nowhere else)")
	})
	if !strings.Contains(driverLog(t), `level=ERROR msg="container has to be restarted: its mount is dead and could not be replaced" volume=web container=box path=/data`) {
		t.Error("the log does not tell of the container")
	}
	if out, err := testnode.TryDocker("exec", "box", "ls", "/data"); err == nil || !strings.Contains(out, "not connected") {
		t.Errorf("the container sees %q, %v", out, err)
	}
	docker(t, "restart", "--time=0", "box")
	execScript(t, "box", "echo hi > /data/hi && touch /data/scratch/f && cat /data/beat")
	if text := words(cli(t, "inspect", "web")); strings.Contains(text, "To be restarted") || !strings.Contains(text, "Healed: heart at /data") {
		t.Errorf("inspect, when it was restarted:\n%s", text)
	}
}

// words is a text with single spaces.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestClientDiesWithDriver: the next driver heals what has died before its start, be
// it in the middle of a healing.
func TestClientDiesWithDriver(t *testing.T) {
	gv, d := startNode(t)
	h := startHeart(t, gv, "heart", "web")
	for _, end := range []func(){
		func() {
			pid := inspect(t, "web").Client.PID
			d.kill()
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			gv.Stop() // so that the healing does not come to its end
			killClient(t, "web")
			testnode.Eventually(t, "the healing is under way", func() bool {
				return strings.Contains(driverLog(t), `msg="containers whose client died cannot be healed yet"`)
			})
			d.kill()
			gv.Start()
		},
	} {
		former := inspect(t, "web").Client.PID
		end()
		d.start()
		h.beatsOn(t)
		if v := inspect(t, "web"); v.Client.Health != "alive" || v.Client.PID == former || len(v.Users) != 1 {
			t.Errorf("%+v", v)
		}
	}
}

// TestClientDiesWithoutBricks: the containers are healed when there is something to
// mount again.
func TestClientDiesWithoutBricks(t *testing.T) {
	gv, _ := startNode(t)
	h := startHeart(t, gv, "heart", "web")
	gv.Stop()
	killClient(t, "web")
	testnode.Eventually(t, "the log says that it has to wait", func() bool {
		return strings.Contains(driverLog(t), `msg="containers whose client died cannot be healed yet"`)
	})
	gv.Start()
	h.beatsOn(t)
}

// TestStartedMeanwhile starts containers while clients die: each of them writes to
// the volume, or does not start.
func TestStartedMeanwhile(t *testing.T) {
	gv, _ := startNode(t)
	startContainer(t, "keeper", "-v=web:/data")
	end := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			if client := inspect(t, "web").Client; client.PID != 0 {
				_ = syscall.Kill(client.PID, syscall.SIGKILL) // it may have gone by itself
			}
			select {
			case <-end:
				return
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	started := 0
	for i := range 15 {
		name := fmt.Sprint("box", i)
		out, err := testnode.TryDocker("run", "--detach", "--name="+name, driverFlag, "-v=web:/data", testnode.Image, "sleep", "1000000")
		if err == nil {
			started++
		} else if out == "" {
			t.Errorf("container %d fails and says nothing", i)
		}
	}
	close(end)
	killer.Wait()
	for i := range 15 {
		name := fmt.Sprint("box", i)
		if state, _ := testnode.TryDocker("inspect", "--format={{.State.Running}}", name); state != "true" {
			continue
		}
		awaitHealed(t, name, "echo here > /data/"+name+" && cat /data/"+name, "here")
		if _, err := os.Stat(onBrick(gv, "volumes/web/"+name)); err != nil {
			t.Errorf("%s has written elsewhere: %v", name, err)
		}
	}
	t.Logf("%d of 15 started", started)
	if started == 0 {
		t.Error("no container started")
	}
}
