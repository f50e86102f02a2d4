package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

// asMain makes the test binary the program itself, so that what the tests run
// is built, and instrumented, as they are.
const asMain = "GLUSTERVOL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	testnode.Main(m)
}

// command is the program with arguments, as a process.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	return cmd
}

// cli runs the program and returns its output; the test ends if it fails.
func cli(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("glustervol %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimRight(string(out), "\n")
}

// driver is a running driver, at the paths that it has on a real machine.
type driver struct {
	t      *testing.T
	args   []string
	daemon *testnode.Daemon
}

// logFile has what all drivers of a test have logged.
const logFile = "/run/glustervol.out"

// startDriver starts the driver for stores; it is stopped with the test.
func startDriver(t *testing.T, args ...string) *driver {
	t.Helper()
	d := &driver{t: t, args: append([]string{"serve", "--linger=100ms", "--log-level=debug"}, args...)}
	d.start()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			log, _ := os.ReadFile(logFile)
			t.Logf("driver:\n%s", log)
		}
		for _, dir := range []string{logFile, "/run/glustervol", "/var/lib/glustervol/known"} {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func (d *driver) start() {
	d.t.Helper()
	exe, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		d.t.Fatal(err)
	}
	ready := func() error { return command(d.t.Context(), "info").Run() }
	d.daemon, err = testnode.StartDaemon(logFile, ready, "env", append([]string{asMain + "=1", exe}, d.args...)...)
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *driver) stop() {
	d.t.Helper()
	if !d.daemon.Stop() {
		d.t.Error("the driver did not end when told to")
	}
}
