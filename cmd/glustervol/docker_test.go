package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// TestFirstHour is the first hour of a user.
func TestFirstHour(t *testing.T) {
	startNode(t)

	docker(t, "volume", "create", "--driver=glustervol", "--opt=uid=999", "--opt=mode=0750", "web")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	if got := runScript(t, "cat /data/f", "-v=web:/data"); got != "hi" {
		t.Errorf("read %q", got)
	}
	docker(t, "volume", "rm", "web")
	cli(t, "trash", "restore", "web")
	if got := runScript(t, "cat /data/f; stat -c %u:%a /data", "-v=web:/data"); got != "hi\n999:750" {
		t.Errorf("restored: %q", got)
	}
	docker(t, "volume", "rm", "web")
	cli(t, "trash", "empty")
	if got := cli(t, "trash", "ls"); strings.Contains(got, "web") {
		t.Error(got)
	}
}

func TestDockerShowsVolume(t *testing.T) {
	gv, _ := startNode(t)
	docker(t, "volume", "create", "--driver=glustervol", "--label=tier=db", "--opt=uid=999", "--opt=on-remove=retain", "web")

	v := dockerInspect(t, "web")
	if created, err := time.Parse(time.RFC3339, v.CreatedAt); err != nil || time.Since(created).Abs() > time.Minute {
		t.Errorf("created at %q: %v", v.CreatedAt, err)
	}
	if v.Driver != driverName() || v.Scope != "global" || v.Mountpoint != "" || v.Labels["tier"] != "db" || v.Options["uid"] != "999" {
		t.Errorf("unused: %+v", v)
	}
	if v.Status.Store != gv.Address() || v.Status.Path != "volumes/web" || v.Status.OnRemove != "retain" || len(v.Status.Users) != 0 {
		t.Errorf("unused: %+v", v.Status)
	}

	startContainer(t, "box", "-v=web:/data")
	v = dockerInspect(t, "web")
	data, _ := clientProcesses()
	if len(data) != 1 || v.Status.Client.PID != data[0] || v.Status.Client.Health != "alive" || len(v.Status.Users) != 1 {
		t.Errorf("used: %+v, client %d", v.Status, data)
	}
	execScript(t, "box", "echo hi > /data/f")
	if got, err := os.ReadFile(filepath.Join(v.Mountpoint, "f")); string(got) != "hi\n" {
		t.Errorf("at the mountpoint: %q, %v", got, err)
	}
	if got := docker(t, "volume", "ls", "--format={{.Driver}} {{.Name}}"); got != driverName()+" web" {
		t.Errorf("docker volume ls: %q", got)
	}

	dockerFails(t, []string{"volume", "rm", "web"}, "volume is in use")
	docker(t, "rm", "--force", "box")
	docker(t, "volume", "rm", "web")
	dockerFails(t, []string{"volume", "inspect", "web"}, "uch volume") // "No" or "no", as the client has it
	if got := docker(t, "volume", "ls", "--quiet"); got != "" {
		t.Errorf("removed, docker volume ls: %q", got)
	}
}

func TestRunCreatesVolume(t *testing.T) {
	gv, _ := startNode(t)
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	if got, err := os.ReadFile(onBrick(gv, "volumes/web/f")); string(got) != "hi\n" {
		t.Errorf("on the brick: %q, %v", got, err)
	}
}

func TestContainersShareVolumeAndClient(t *testing.T) {
	startNode(t)
	startContainer(t, "one", "-v=web:/data", "-v=logs:/logs")
	startContainer(t, "two", "-v=web:/data", "-v=db:/db")

	execScript(t, "one", "echo from one > /data/one")
	execScript(t, "two", "echo from two > /data/two; echo more >> /data/one")
	if got := execScript(t, "two", "cat /data/one"); got != "from one\nmore" {
		t.Errorf("two reads %q", got)
	}
	if got := execScript(t, "one", "cat /data/one /data/two"); got != "from one\nmore\nfrom two" {
		t.Errorf("one reads %q", got)
	}
	if data, control := clientProcesses(); len(data) != 1 || len(control) != 0 {
		t.Errorf("clients for three volumes: %d; of the control plane: %d", data, control)
	}

	docker(t, "rm", "--force", "one")
	expectUnused := func(v string, users int) {
		t.Helper()
		if got := inspect(t, v).Users; len(got) != users {
			t.Errorf("users of %s: %q", v, got)
		}
	}
	expectUnused("web", 1)
	expectUnused("logs", 0)
	if got := execScript(t, "two", "cat /data/two"); got != "from two" {
		t.Errorf("two alone reads %q", got)
	}
}

// TestCopyOutOfRunningContainer: docker cp repeats the container's mount id.
func TestCopyOutOfRunningContainer(t *testing.T) {
	startNode(t)
	startContainer(t, "box", "-v=web:/data")
	before := inspect(t, "web")
	execScript(t, "box", "echo hi > /data/f")

	dir := t.TempDir()
	docker(t, "cp", "box:/data/f", dir)
	docker(t, "cp", filepath.Join(dir, "f"), "box:/data/g")
	if got := execScript(t, "box", "cat /data/g"); got != "hi" {
		t.Errorf("copied out and in: %q", got)
	}
	if n := strings.Count(driverLog(t), `msg="volume mounted" volume=web user=`+before.Users[0]); n < 3 {
		t.Errorf("the container's id has mounted %d times; docker cp does something else than this test is about", n)
	}
	if after := inspect(t, "web"); len(after.Users) != 1 || after.Users[0] != before.Users[0] || after.Mountpoint != before.Mountpoint {
		t.Errorf("behind docker cp: %+v, before %+v", after, before)
	}
	docker(t, "stop", "box")
	expectUnused(t, "web")

	// Docker mounts for a copy out of a stopped container, too.
	docker(t, "cp", "box:/data/g", dir)
	if got, err := os.ReadFile(filepath.Join(dir, "g")); string(got) != "hi\n" {
		t.Errorf("copied out of a stopped container: %q, %v", got, err)
	}
	expectUnused(t, "web")
}

// TestImageContent: Docker fills an empty volume with what the image has there,
// and gives it the owner and mode of that directory.
func TestImageContent(t *testing.T) {
	startNode(t)
	const look = "cat /seed/from-the-image; stat -c %u:%g:%a /seed/from-the-image /seed"
	create(t, "web", "uid=999", "mode=0700")
	if got := runScript(t, look, "-v=web:/seed"); got != "seed\n1000:1000:640\n1000:1000:755" {
		t.Errorf("empty volume: %q", got)
	}
	runScript(t, "rm /seed/*; echo mine > /seed/own; chmod 711 /seed", "-v=web:/seed")
	if got := runScript(t, "ls /seed; stat -c %u:%g:%a /seed", "-v=web:/seed"); got != "own\n1000:1000:711" {
		t.Errorf("a volume with a file of its own: %q", got)
	}
	create(t, "empty", "uid=999", "mode=0700")
	if got := runScript(t, "ls /seed; stat -c %u:%g:%a /seed", "-v=empty:/seed:nocopy"); got != "999:0:700" {
		t.Errorf("nocopy: %q", got)
	}
	expectUnused(t, "web", "empty")
}

func TestReadOnlyMount(t *testing.T) {
	startNode(t)
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	startContainer(t, "writer", "-v=web:/data")
	dockerFails(t, runArgs("cat /data/f; echo no > /data/f", "-v=web:/data:ro"), "hi", "Read-only file system")
	execScript(t, "writer", "echo still >> /data/f")
	if got := execScript(t, "writer", "cat /data/f"); got != "hi\nstill" {
		t.Errorf("beside a read-only mount: %q", got)
	}
}

func TestAnonymousVolume(t *testing.T) {
	startNode(t)
	startContainer(t, "box", "-v=/data", "-v=named:/named")
	if got := docker(t, "volume", "ls", "--quiet"); len(strings.Fields(got)) != 2 {
		t.Fatalf("docker volume ls: %q", got)
	}
	docker(t, "rm", "--force", "--volumes", "box")
	if got := docker(t, "volume", "ls", "--quiet"); got != "named" {
		t.Errorf("behind docker rm -v: %q", got)
	}
}

// TestManyContainersAtOnce: 20 are started and removed at once, half of them on
// one volume.
func TestManyContainersAtOnce(t *testing.T) {
	startNode(t)
	volume := func(i int) string {
		if i%2 == 0 {
			return "shared"
		}
		return fmt.Sprintf("own%d", i)
	}
	each := func(args func(i int) []string) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if _, err := testnode.TryDocker(args(i)...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(func(i int) []string {
		script := fmt.Sprintf("echo hi > /data/%d && sleep 1000000", i)
		return []string{"run", "--detach", fmt.Sprintf("--name=c%d", i), driverFlag, "-v=" + volume(i) + ":/data", testnode.Image, "sh", "-c", script}
	})
	if data, _ := clientProcesses(); len(data) != 1 {
		t.Errorf("clients: %d", data)
	}
	if users := inspect(t, "shared").Users; len(users) != 10 {
		t.Errorf("users of the shared volume: %q", users)
	}
	each(func(i int) []string { return []string{"rm", "--force", fmt.Sprintf("c%d", i)} })

	if got := runScript(t, "ls /data | wc -l; ls /own", "-v=shared:/data", "-v=own1:/own"); got != "10\n1" {
		t.Errorf("files: %q", got)
	}
	volumes := []string{"shared"}
	for i := 1; i < 20; i += 2 {
		volumes = append(volumes, volume(i))
	}
	expectUnused(t, volumes...)
}
