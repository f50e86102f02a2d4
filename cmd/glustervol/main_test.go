package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

// asMain makes the test binary the program itself, so that what the tests run
// is built, and instrumented, as they are.
const asMain = "GLUSTERVOL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" || filepath.Base(os.Args[0]) == "glustervol" { // in the plugin
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

// tryCLI runs the program and returns what it prints and its exit code.
func tryCLI(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // more than a request may take
	defer cancel()
	var out, errs bytes.Buffer
	cmd := command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimRight(out.String(), "\n"), strings.TrimRight(errs.String(), "\n"), cmd.ProcessState.ExitCode()
}

// cli runs the program and returns its output; the test ends if it fails.
func cli(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, code := tryCLI(t, args...)
	if code != 0 {
		t.Fatalf("glustervol %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// cliFails runs the program, which has to fail with words in its error.
func cliFails(t testing.TB, args []string, words ...string) {
	t.Helper()
	_, errs, code := tryCLI(t, args...)
	if code != exitFailed {
		t.Errorf("glustervol %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	expect(t, errs, words...)
}

// cliJSON runs the program with --json and decodes what it prints.
func cliJSON[T any](t testing.TB, args ...string) (value T) {
	t.Helper()
	decodeStrictly(t, cli(t, append(args, "--json")...), &value)
	return value
}

// decodeStrictly decodes one JSON value that has no field that value lacks.
func decodeStrictly(t testing.TB, text string, value any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one JSON value: %s", text)
	}
}

// inspect is what the driver knows of a volume.
func inspect(t testing.TB, volume string) plugin.VolumeInfo {
	t.Helper()
	return cliJSON[[]plugin.VolumeInfo](t, "inspect", volume)[0]
}

// expect fails the test for each of the words that text lacks.
func expect(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
}

// driver is a driver at the paths that it has on a real machine.
type driver struct {
	t testing.TB
	// binary is the program, that of the tests if it is "", and wrapper what it is
	// run by.
	binary  string
	wrapper []string
	args    []string
	daemon  *testnode.Daemon
}

// logFile has what all drivers of a test have logged.
const logFile = "/run/glustervol.out"

// startDriver starts the driver; it is stopped with the test.
func startDriver(t testing.TB, args ...string) *driver {
	t.Helper()
	d := &driver{t: t, args: append([]string{"serve", "--linger=100ms", "--boot-wait=0s", "--log-level=debug"}, args...)}
	t.Cleanup(func() {
		d.stop()
		log := driverLog(t)
		if strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
			t.Error("the driver has a data race, or panicked")
		}
		if t.Failed() {
			t.Logf("driver:\n%s", log)
		}
		for _, dir := range []string{logFile, "/run/glustervol", "/var/lib/glustervol/known", pluginState + "/glustervol/known"} {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
	})
	d.start()
	return d
}

// driverLog is what all drivers of a test have logged.
func driverLog(t testing.TB) string {
	t.Helper()
	if managed {
		return pluginLog(t)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Error(err)
	}
	return string(log)
}

// start starts the driver unless it runs.
func (d *driver) start() {
	d.t.Helper()
	if err := d.tryStart(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *driver) tryStart() (err error) {
	if managed {
		return d.enable()
	}
	if d.daemon != nil {
		return nil
	}
	ready := func() error { return command(context.Background(), "info").Run() }
	args := slices.Concat([]string{asMain + "=1"}, d.wrapper, []string{cmp.Or(d.binary, testExecutable(d.t))}, d.args)
	d.daemon, err = testnode.StartDaemon(logFile, ready, "env", args...)
	return err
}

// testExecutable is this test binary, for other processes.
func testExecutable(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// stop has the driver end as systemd does.
func (d *driver) stop() {
	d.t.Helper()
	if managed {
		d.disable()
		return
	}
	if d.daemon != nil && !d.daemon.Stop() {
		d.t.Error("the driver did not end when told to")
	}
	d.daemon = nil
}

// kill ends the driver as a crash does.
func (d *driver) kill() {
	if managed {
		d.killPlugin()
		return
	}
	d.daemon.Kill()
	d.daemon = nil
}
