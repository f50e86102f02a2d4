package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// driverFlag has docker run make its volumes with the driver.
const driverFlag = "--volume-driver=glustervol"

// startNode has Gluster, Docker and the driver run, with flags and a Gluster
// volume of the test's own as the store. Containers and volumes are removed with
// the test.
func startNode(t testing.TB, flags ...string) (*testnode.GlusterVolume, *driver) {
	t.Helper()
	gv := testnode.NewGlusterVolume(t, 1, "")
	return gv, serveDocker(t, append(flags, gv.Address())...)
}

// overBoth runs a test over each kind of control plane. The flag is the driver's.
func overBoth(t *testing.T, test func(t *testing.T, flag string)) {
	t.Helper()
	for _, kind := range []string{volume.ControlAPI, volume.ControlFUSE} {
		t.Run(kind, func(t *testing.T) { test(t, "--control="+kind) })
	}
}

// serveDocker has Docker run, and the driver with arguments.
func serveDocker(t testing.TB, args ...string) *driver {
	t.Helper()
	testnode.Docker(t)
	d := startDriver(t, args...)
	t.Cleanup(func() {
		testnode.Docker(t)
		d.start()
		cleanDocker(t)
	})
	return d
}

// cleanDocker removes all containers and volumes: dockerd, when it starts,
// waits 15 s for each volume that it remembers of a driver that is not there.
func cleanDocker(t testing.TB) {
	t.Helper()
	if containers := docker(t, "ps", "--all", "--quiet"); containers != "" {
		docker(t, append([]string{"rm", "--force", "--volumes"}, strings.Fields(containers)...)...)
	}
	if volumes := docker(t, "volume", "ls", "--quiet"); volumes != "" {
		docker(t, append([]string{"volume", "rm"}, strings.Fields(volumes)...)...)
	}
}

// docker runs the docker command and returns its output; the test ends if it
// fails.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	return testnode.RunDocker(t, args...)
}

// dockerFails runs the docker command, which has to fail with words in its error.
func dockerFails(t testing.TB, args []string, words ...string) {
	t.Helper()
	out, err := testnode.TryDocker(args...)
	if err == nil {
		t.Errorf("docker %s: no error: %s", strings.Join(args, " "), out)
		return
	}
	expect(t, err.Error(), words...)
}

// runScript runs a shell script in a container that is gone afterwards. The
// flags are docker run's.
func runScript(t testing.TB, script string, flags ...string) string {
	t.Helper()
	return docker(t, runArgs(script, flags...)...)
}

func runArgs(script string, flags ...string) []string {
	args := append([]string{"run", "--rm", driverFlag}, flags...)
	return append(args, testnode.Image, "sh", "-c", script)
}

// startContainer starts a container that does nothing for ever. The flags are
// docker run's.
func startContainer(t testing.TB, name string, flags ...string) {
	t.Helper()
	args := append([]string{"run", "--detach", "--name=" + name, "--stop-signal=KILL", driverFlag}, flags...)
	docker(t, append(args, testnode.Image, "sleep", "1000000")...)
}

// execScript runs a shell script in a running container.
func execScript(t testing.TB, container, script string) string {
	t.Helper()
	return docker(t, "exec", container, "sh", "-c", script)
}

// dockerVolume is what docker volume inspect shows.
type dockerVolume struct {
	CreatedAt, Driver, Mountpoint, Name, Scope string
	Labels, Options                            map[string]string
	Status                                     dockerStatus
}

type dockerStatus struct {
	Store  string
	Path   string
	Client struct {
		PID    int
		Health string
	}
	Users    []string
	OnRemove string `json:"on-remove"`
	Trouble  string
}

// dockerInspect is what Docker knows of a volume.
func dockerInspect(t testing.TB, volume string) dockerVolume {
	t.Helper()
	var list []dockerVolume
	if err := json.Unmarshal([]byte(docker(t, "volume", "inspect", volume)), &list); err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// clientProcesses are the ids of the Gluster clients that the driver has
// started: those for data, and those of the control plane.
func clientProcesses() (data, control []int) {
	for pid, args := range testnode.Processes() {
		switch {
		case !strings.Contains(args, "/run/glustervol/clients/"):
		case strings.Contains(args, "--attribute-timeout=0"):
			control = append(control, pid)
		default:
			data = append(data, pid)
		}
	}
	return data, control
}

// expectUnused waits until nobody on this node uses the volumes, nor a client
// for their data.
func expectUnused(t testing.TB, volumes ...string) {
	t.Helper()
	for _, v := range volumes {
		testnode.Eventually(t, "volume "+v+" has no user", func() bool { return len(inspect(t, v).Users) == 0 })
	}
	testnode.Eventually(t, "no client is left behind the linger", func() bool {
		data, _ := clientProcesses()
		return len(data) == 0
	})
}

// awaitReached waits until the driver has made a store of its Gluster volume.
func awaitReached(t testing.TB) {
	t.Helper()
	testnode.Eventually(t, "the store is reached", func() bool {
		return cliJSON[plugin.Info](t, "info").Stores[0].Reached
	})
}

// onBrick is the path of a store's file on the brick of its Gluster volume.
func onBrick(gv *testnode.GlusterVolume, name string) string {
	return filepath.Join(gv.Bricks[0], name)
}

// exists tells whether there is a file, and does not follow a symlink.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tree describes all files of a store by what its brick has of them: path,
// type, permission, owner, and the content of files or the target of links.
func tree(t testing.TB, gv *testnode.GlusterVolume) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := gv.Bricks[0]
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root+"/")
		if strings.HasPrefix(name, ".glusterfs") || name == ".glustervol/nodes" || name == ".glustervol/news" { // Gluster's own; what nodes say in their own time
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var content []byte
		switch info.Mode().Type() {
		case 0:
			content, err = os.ReadFile(path)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(path)
			content = []byte(target)
		}
		stat := info.Sys().(*syscall.Stat_t)
		files[name] = fmt.Sprintf("%s %d:%d %q", info.Mode(), stat.Uid, stat.Gid, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// expectTree fails the test if the files of a store are not what they were.
func expectTree(t testing.TB, gv *testnode.GlusterVolume, want map[string]string) {
	t.Helper()
	got := tree(t, gv)
	for name := range got {
		if want[name] == "" {
			t.Errorf("new on the store: %s %s", name, got[name])
		}
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("on the store, %s was %s, and is %q", name, want[name], got[name])
		}
	}
}

// onStore mounts a store beside the driver, as a person does who looks after
// it, and returns what makes a path below it of a name.
func onStore(t testing.TB, gv *testnode.GlusterVolume) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "glusterfs", gv.Address(), dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return func(name string) string { return filepath.Join(dir, name) }
}
