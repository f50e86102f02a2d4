package testnode

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Image is an image of the machine's Docker: a static busybox with a shell, and
// files of uid 1000 in /seed. No registry is needed for it.
const Image = "busybox"

// Docker has dockerd running on the machine, with Image loaded.
func Docker(t testing.TB) {
	t.Helper()
	Require(t)
	daemons.Lock()
	running := daemons.running["dockerd"] != nil
	daemons.Unlock()
	if running {
		return
	}
	StartDocker(t)
	loadImage(t)
}

// StartDocker starts dockerd; args are further arguments for it.
func StartDocker(t testing.TB, args ...string) {
	t.Helper()
	d, err := StartDaemon("/run/dockerd.out", func() error { return exec.Command("docker", "version").Run() },
		"dockerd", append([]string{"--host=unix:///run/docker.sock", "--group=root"}, args...)...)
	must(t, err)
	daemons.Lock()
	defer daemons.Unlock()
	daemons.running["dockerd"] = d
}

// KillDocker ends dockerd with SIGKILL; containers go on until it comes back.
func KillDocker(t testing.TB) { takeDocker(t).Kill() }

// StopDocker ends dockerd, and its containers with it.
func StopDocker(t testing.TB) {
	t.Helper()
	if !takeDocker(t).Stop() {
		t.Error("dockerd did not end when told to")
	}
}

func takeDocker(t testing.TB) *Daemon {
	t.Helper()
	daemons.Lock()
	defer daemons.Unlock()
	d := daemons.running["dockerd"]
	if d == nil {
		t.Fatal("dockerd does not run")
	}
	delete(daemons.running, "dockerd")
	return d
}

// DockerLog is what dockerd has said last.
func DockerLog() string { return tail("/run/dockerd.out") }

func loadImage(t testing.TB) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "tmp", "seed", "etc"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	must(t, os.WriteFile(filepath.Join(root, "seed", "from-the-image"), []byte("seed\n"), 0o640))
	for _, name := range []string{"seed", "seed/from-the-image"} {
		must(t, os.Chown(filepath.Join(root, name), 1000, 1000))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	script := fmt.Sprintf(`set -e
		busybox=$(command -v busybox) && cp "$busybox" %[1]s/bin/busybox
		chroot %[1]s /bin/busybox --install -s /bin
		tar -C %[1]s -c . | docker import --change 'CMD ["/bin/sh"]' --change 'ENV PATH=/bin' - %[2]s`, root, Image)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("make the image: %v: %s", err, out)
	}
}

// RunDocker runs the docker command and returns its output without the line
// feed at its end; the test ends if the command fails.
func RunDocker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := TryDocker(args...)
	if err != nil {
		t.Fatalf("%v\ndockerd: %s", err, DockerLog())
	}
	return out
}

// TryDocker is RunDocker for what may fail.
func TryDocker(args ...string) (string, error) {
	out, err := exec.Command("docker", args...).CombinedOutput()
	text := strings.TrimRight(string(out), "\n")
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, err
}

// Eventually waits until what holds, and fails the test when it does not in time.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for asked := time.Now(); !holds(); asked = time.Now() {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		Pause(asked)
	}
}

// Pause waits until it is time to ask again, who asked last. A question can be a process
// or two: who asks all the time keeps the machine from what is waited for.
func Pause(asked time.Time) {
	time.Sleep(min(max(10*time.Millisecond, 2*time.Since(asked)), 500*time.Millisecond))
}
