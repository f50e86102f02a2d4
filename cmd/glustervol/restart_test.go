package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// heart is a container that writes every 10 ms.
type heart struct {
	name string
	file string // what it writes, on the brick
}

// startHeart starts a heart on a volume that has its directory to itself.
func startHeart(t testing.TB, gv *testnode.GlusterVolume, name, volume string) heart {
	t.Helper()
	const script = `
		beats=0 failures=0
		echo 0 > /tmp/failures
		while true; do
			beats=$((beats + 1))
			echo $beats > /data/beat || echo $((failures += 1)) > /tmp/failures
			usleep 10000
		done`
	docker(t, "run", "--detach", "--name="+name, "--stop-signal=KILL", driverFlag, "-v="+volume+":/data", testnode.Image, "sh", "-c", script)
	h := heart{name: name, file: onBrick(gv, "volumes/"+volume+"/beat")}
	h.beatsOn(t)
	return h
}

func (h heart) beats() int {
	text, err := os.ReadFile(h.file)
	if err != nil {
		return 0
	}
	beats, _ := strconv.Atoi(strings.TrimSpace(string(text))) // "" while it is being written
	return beats
}

// beatsOn waits for some more beats.
func (h heart) beatsOn(t testing.TB) {
	t.Helper()
	start := h.beats()
	testnode.Eventually(t, h.name+" writes", func() bool { return h.beats() > start+5 })
}

// neverFailed fails the test if one of the container's writes failed.
func (h heart) neverFailed(t testing.TB) {
	t.Helper()
	if got := execScript(t, h.name, "cat /tmp/failures"); got != "0" {
		t.Errorf("writes that failed: %s", got)
	}
}

// TestDriverRestart: containers do not notice when the driver dies, or is
// stopped, and the next one counts on.
func TestDriverRestart(t *testing.T) {
	for name, end := range map[string]func(*driver){"killed": (*driver).kill, "stopped": (*driver).stop} {
		t.Run(name, func(t *testing.T) {
			gv, d := startNode(t)
			h := startHeart(t, gv, "heart", "web")
			startContainer(t, "other", "-v=web:/data", "-v=logs:/logs")
			before := inspect(t, "web")

			end(d)
			h.beatsOn(t)
			d.start()
			h.beatsOn(t)
			h.neverFailed(t)
			after := inspect(t, "web")
			if after.Client.PID != before.Client.PID || after.Client.PID == 0 || after.Mountpoint != before.Mountpoint {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if strings.Join(after.Users, " ") != strings.Join(before.Users, " ") {
				t.Errorf("users %q, before %q", after.Users, before.Users)
			}
			cliFails(t, []string{"rm", "web"}, "in use")

			docker(t, "rm", "--force", "heart")
			if v := inspect(t, "web"); len(v.Users) != 1 {
				t.Errorf("one container is left, users %q", v.Users)
			}
			docker(t, "rm", "--force", "other")
			expectUnused(t, "web", "logs")
			docker(t, "volume", "rm", "web")
		})
	}
}

// TestDriverReplacedUnderWriters: no write of twenty containers fails while the
// driver is killed, stopped and replaced by another version, and each version knows
// what the one before has counted.
func TestDriverReplacedUnderWriters(t *testing.T) {
	const version = "next"
	next := filepath.Join(t.TempDir(), "glustervol")
	build := exec.Command("go", "build", "-ldflags=-X main.version="+version, "-o", next, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build another version: %v: %s", err, out)
	}
	gv, d := startNode(t)
	hearts := make([]heart, 20)
	var wg sync.WaitGroup
	for i := range hearts {
		wg.Go(func() { hearts[i] = startHeart(t, gv, fmt.Sprint("heart", i), fmt.Sprint("web", i)) })
	}
	wg.Wait()
	client := inspect(t, "web0").Client.PID
	for _, replace := range []func(){
		d.kill,
		d.stop,
		func() { d.stop(); d.binary = next },
		func() { d.kill(); d.binary = "" },
	} {
		replace()
		hearts[0].beatsOn(t)
		d.start()
		for _, h := range hearts {
			h.beatsOn(t)
		}
		if v := inspect(t, "web7"); v.Client.PID != client || len(v.Users) != 1 {
			t.Errorf("%+v", v)
		}
	}
	if !strings.Contains(driverLog(t), "version="+version) {
		t.Error("the other version has not served")
	}
	for _, h := range hearts {
		h.neverFailed(t)
	}
}

// TestStartWithoutDriver: dockerd waits a while for a driver that is not there.
func TestStartWithoutDriver(t *testing.T) {
	_, d := startNode(t)
	startContainer(t, "box", "-v=web:/data")
	docker(t, "stop", "box")
	d.stop()
	started := make(chan error, 1)
	go func() {
		_, err := testnode.TryDocker("start", "box")
		started <- err
	}()
	testnode.Eventually(t, "dockerd tries to reach the driver", func() bool {
		return strings.Contains(testnode.DockerLog(), "retrying in")
	})
	d.start()
	if err := <-started; err != nil {
		t.Error(err)
	}
	if v := inspect(t, "web"); len(v.Users) != 1 {
		t.Errorf("users %q", v.Users)
	}
}

// TestDockerStartsBeforeDriver: a container of restart=always comes up when Docker
// starts first and the driver comes while it waits.
func TestDockerStartsBeforeDriver(t *testing.T) {
	gv, d := startNode(t)
	h := startHeart(t, gv, "heart", "web")
	docker(t, "update", "--restart=always", "heart")
	testnode.StopDocker(t)
	d.stop()
	come := make(chan error, 1)
	go func() {
		for !strings.Contains(testnode.DockerLog(), "retrying in") && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		come <- d.tryStart()
	}()
	testnode.StartDocker(t)
	if err := <-come; err != nil {
		t.Fatal(err)
	}
	testnode.Eventually(t, "the container is started", func() bool {
		return docker(t, "inspect", "--format={{.State.Running}}", "heart") == "true"
	})
	h.beatsOn(t)
	if v := inspect(t, "web"); len(v.Users) != 1 {
		t.Errorf("users %q", v.Users)
	}
}

// restartDocker has another dockerd run until the end of the test, with
// arguments of its own, after end has ended the former one.
func restartDocker(t *testing.T, end func(testing.TB), args ...string) {
	t.Helper()
	end(t)
	testnode.StartDocker(t, args...)
	if len(args) > 0 {
		t.Cleanup(func() { restartDocker(t, testnode.StopDocker) })
	}
}

// TestDockerKilledUnderLiveRestore: the container goes on, and dockerd finds
// its mount id again.
func TestDockerKilledUnderLiveRestore(t *testing.T) {
	gv, _ := startNode(t)
	restartDocker(t, testnode.StopDocker, "--live-restore")
	h := startHeart(t, gv, "heart", "web")
	before := inspect(t, "web")

	restartDocker(t, testnode.KillDocker, "--live-restore")
	h.beatsOn(t)
	h.neverFailed(t)
	if after := inspect(t, "web"); strings.Join(after.Users, " ") != strings.Join(before.Users, " ") {
		t.Errorf("users %q, before %q", after.Users, before.Users)
	}
	docker(t, "restart", "heart")
	h.beatsOn(t)
	if v := inspect(t, "web"); len(v.Users) != 1 {
		t.Errorf("restarted, users %q", v.Users)
	}
	docker(t, "rm", "--force", "heart")
	expectUnused(t, "web")
	docker(t, "volume", "rm", "web")
}

// TestDockerKilled: without live-restore the next dockerd ends the containers of
// the one that died, and never unmounts their volumes. What they have left
// keeps a volume from being removed until it cannot be a container any more
// that is about to start.
func TestDockerKilled(t *testing.T) {
	gv, d := startNode(t)
	h := startHeart(t, gv, "heart", "web")
	startContainer(t, "other", "-v=logs:/data")
	restartDocker(t, testnode.KillDocker)
	if got := docker(t, "ps", "--quiet"); got != "" {
		t.Errorf("containers that live on: %s", got)
	}

	startAgain(t, "heart") // mounts with the id that it had
	h.beatsOn(t)
	docker(t, "rm", "--force", "heart", "other")
	for _, volume := range []string{"web", "logs"} {
		dockerFails(t, []string{"volume", "rm", volume}, "volume "+volume+" is in use on this node by")
	}

	d.stop()
	ageMounts(t)
	d.start()
	docker(t, "volume", "rm", "web", "logs")
	expectUnused(t)
}

// ageMounts makes all mounts an hour older. No driver runs meanwhile.
func ageMounts(t testing.TB) {
	t.Helper()
	files, err := filepath.Glob("/run/glustervol/mounts/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("mounts: %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		aged := regexp.MustCompile(`"since":\d+`).ReplaceAllFunc(text, func(field []byte) []byte {
			since, _ := strconv.ParseInt(strings.TrimPrefix(string(field), `"since":`), 10, 64)
			return fmt.Appendf(nil, `"since":%d`, since-time.Hour.Nanoseconds())
		})
		if err := os.WriteFile(file, aged, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDockerRestartsWhileGlusterIsDown: dockerd asks for all volumes when it
// starts, and forgets labels and options of those that it is told are not there.
func TestDockerRestartsWhileGlusterIsDown(t *testing.T) {
	gv, d := startNode(t)
	docker(t, "volume", "create", "--driver=glustervol", "--label=tier=db", "--opt=uid=999", "web")
	gv.Stop()
	restartDocker(t, testnode.StopDocker)
	if v := dockerInspect(t, "web"); v.Labels["tier"] != "db" || v.Options["uid"] != "999" {
		t.Errorf("Docker restarted: %+v", v)
	}
	testnode.StopDocker(t)
	d.stop()
	d.start()
	testnode.StartDocker(t)
	if v := dockerInspect(t, "web"); v.Labels["tier"] != "db" || v.Options["uid"] != "999" {
		t.Errorf("Docker and driver restarted: %+v", v)
	}
	gv.Start()
	testnode.Eventually(t, "the volume can be removed", func() bool {
		_, err := testnode.TryDocker("volume", "rm", "web")
		return err == nil
	})
}

// TestDriverStartsWhileGlusterIsDown: it knows the volumes, says what the
// trouble is, and serves them as soon as Gluster is there.
func TestDriverStartsWhileGlusterIsDown(t *testing.T) {
	gv, d := startNode(t)
	create(t, "web", "uid=999")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	d.stop()
	gv.Stop()
	d.start()

	if got := docker(t, "volume", "ls", "--quiet"); got != "web" {
		t.Errorf("docker volume ls: %q", got)
	}
	if v := inspect(t, "web"); *v.Options.UID != 999 {
		t.Errorf("%+v", v)
	}
	dockerFails(t, runArgs("true", "-v=web:/data"), "mount volume web", "gluster volume status "+gv.Name)
	gv.Start()
	testnode.Eventually(t, "the volume can be mounted again", func() bool {
		out, err := testnode.TryDocker(runArgs("cat /data/f", "-v=web:/data")...)
		return err == nil && out == "hi"
	})
}

// TestStopWaitsForRequests: what Docker has asked for is answered before the
// driver ends.
func TestStopWaitsForRequests(t *testing.T) {
	_, d := startAlone(t)
	resume := hangMount(t)
	mounted := make(chan error, 1)
	go func() {
		a, err := tryAsk(t.Context(), "Mount", `{"Name": "web", "ID": "second"}`)
		mounted <- errors.Join(err, a.err())
	}()
	testnode.Eventually(t, "the mount is under way", func() bool { return len(inspect(t, "web").Users) == 2 })
	d.daemon.Signal(syscall.SIGTERM)
	select {
	case <-d.daemon.Exited():
		t.Error("the driver has ended under a request")
	case <-time.After(500 * time.Millisecond):
	}
	resume()
	if err := <-mounted; err != nil {
		t.Error(err)
	}
	d.stop()
	d.start()
	if got := inspect(t, "web").Users; !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("users %q", got)
	}
	for _, id := range []string{"first", "second"} {
		ask(t, "Unmount", `{"Name": "web", "ID": "`+id+`"}`)
	}
	expectUnused(t, "web")
}

// TestSocketActivation: systemd keeps the plugin socket, and requests wait in
// it while no driver runs.
func TestSocketActivation(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	if err := os.MkdirAll(filepath.Dir(pluginSocket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", pluginSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for range 5 { // each is stopped in the middle of what it does in the background
		answers := make(chan error, 1)
		go func() {
			a, err := tryAsk(t.Context(), "Create", `{"Name": "web"}`)
			answers <- errors.Join(err, a.err())
		}()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" serve "$@"`, testExecutable(t), gv.Address())
		cmd.Env = append(os.Environ(), asMain+"=1", "LISTEN_FDS=1")
		cmd.ExtraFiles = []*os.File{socket}
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := <-answers; err != nil {
			t.Error(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, log.String())
		}
		if !exists(pluginSocket) {
			t.Error("the driver took systemd's socket with it")
		}
	}
}
