package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/systemd"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

// TestConfiguration: what is set is set, and all else stays.
func TestConfiguration(t *testing.T) {
	for _, tt := range []struct{ doc, before, name, value, after string }{
		{"in its place", "A=1\n# about B\nGLUSTERVOL_B=2 # two\nC=3\n", "GLUSTERVOL_B", "x", "A=1\n# about B\nGLUSTERVOL_B=\"x\"\nC=3\n"},
		{"not in a comment", "#GLUSTERVOL_B=2\n", "GLUSTERVOL_B", "x", "#GLUSTERVOL_B=2\nGLUSTERVOL_B=\"x\"\n"},
		{"not in another", "GLUSTERVOL_BB=2\n", "GLUSTERVOL_B", "x", "GLUSTERVOL_BB=2\nGLUSTERVOL_B=\"x\"\n"},
		{"the last counts", "B=1\nB=2\n", "B", "3", "B=1\nB=\"3\"\n"},
		{"no line feed at the end", "A=1", "B", "2", "A=1\nB=\"2\"\n"},
		{"the same", "B='2'  # as it is\n", "B", "2", "B='2'  # as it is\n"},
		{"quotes", "", "B", `a"b\c$d`, `B="a\"b\\c$d"` + "\n"},
		{"dollars in what is replaced", "B=$1\n", "B", "$1x", "B=\"$1x\"\n"},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "glustervol")
			if err := os.WriteFile(file, []byte(tt.before), 0o640); err != nil {
				t.Fatal(err)
			}
			c, err := openConfiguration(file)
			if err == nil {
				err = c.set(tt.name, tt.value)
			}
			if err != nil {
				t.Fatal(err)
			}
			if changed, err := c.write(); err != nil || changed != (tt.before != tt.after) {
				t.Errorf("changed %t, %v", changed, err)
			}
			expectFile(t, file, tt.after, 0o640)
			if got := c.values[tt.name]; got != tt.value {
				t.Errorf("it is read as %q", got)
			}
			shell := exec.CommandContext(t.Context(), "sh", "-c", ". "+file+"; printf %s \"$"+tt.name+"\"")
			if out, err := shell.Output(); !strings.Contains(tt.value, "$") && (err != nil || string(out) != tt.value) {
				t.Errorf("a shell reads %q, %v", out, err)
			}
		})
	}
}

func expectFile(t *testing.T, file, want string, mode os.FileMode) {
	t.Helper()
	got, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(got) != want || info.Mode() != mode {
		t.Errorf("%s has %q, want %q; %v, %v", file, got, want, info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
}

// TestInit: the store is tried for real and made, and the configuration written, in the
// template's form; the second time nothing is done.
func TestInit(t *testing.T) {
	gv, store := goodStore(t)
	config := filepath.Join(t.TempDir(), "default", "glustervol")
	got := cli(t, "init", "--config="+config, "--store="+store, "--trash-retention=72h")
	expect(t, got, store+" answers, and is a store", "wrote "+config, "start the driver before Docker")
	if !exists(onBrick(gv, ".glustervol/format.json")) || exists(onBrick(gv, ".glustervol/nodes/0.json")) {
		t.Error("the store was not made, or this node has joined it")
	}
	want := strings.Replace(systemd.Default, "GLUSTERVOL_STORE=\n", "GLUSTERVOL_STORE=\""+store+"\"\n", 1) + "GLUSTERVOL_TRASH_RETENTION=\"72h0m0s\"\n"
	expectFile(t, config, want, 0o644)
	before, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--store=" + store, "--trash-retention=72h"}, {"--trash-retention=72h"}, nil} {
		expect(t, cli(t, append([]string{"init", "--config=" + config}, args...)...), "has all of it already")
	}
	if after, err := os.Stat(config); err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("it was written again: %v", err)
	}
	cli(t, "init", "--config="+config, "--log-level=debug")
	expectFile(t, config, want+"GLUSTERVOL_LOG_LEVEL=\"DEBUG\"\n", 0o644)
	s, err := readSettings(config)
	if err != nil || storeNames(s.stores) != store || s.retention.Hours() != 72 || s.logLevel.String() != "DEBUG" {
		t.Errorf("the driver would start with %+v, %v", s, err)
	}
}

// TestInitRefuses: what is wrong is told, and nothing is changed.
func TestInitRefuses(t *testing.T) {
	gv, store := goodStore(t)
	otherVolume := testnode.NewGlusterVolume(t, 1, "")
	other := otherVolume.Address()
	dir := t.TempDir()
	config := filepath.Join(dir, "glustervol")
	for _, tt := range []struct {
		doc, before string
		args        []string
		code        int
		words       string
	}{
		{"no store, and nobody to ask", "", nil, exitUsage, "nobody can be asked here; say --store"},
		{"no address", "", []string{"--store=gv0"}, exitUsage, `store address "gv0"`},
		{"two that share files", "", []string{"--store=" + store, "--store=" + store + "/dir"}, exitUsage, "share files"},
		{"a space in it", "", []string{"--store=gfs1:/gv0/a b"}, exitUsage, "has a space in it"},
		{"no such Gluster volume", "", []string{"--store=gfs1:/nosuch"}, exitFailed, "nothing was written"},
		{"no such directory", "", []string{"--store=" + store + "/nosuch"}, exitFailed, "has no directory /nosuch"},
		{"no such directory, behind a good store", "", []string{"--store=" + other, "--store=" + store + "/nosuch"}, exitFailed, "has no directory /nosuch"},
		{"no server", "", []string{"--store=gfs1.invalid:/" + gv.Name}, exitFailed, "nothing was written"},
		{"a wrong setting", "", []string{"--store=" + store, "--linger=soon"}, exitUsage, "--linger"},
		{"a setting that the driver refuses", "", []string{"--store=" + store, "--control=rest"}, exitFailed, "--control is one of"},
		{"an empty one", "", []string{"--store=" + store, "--docker-socket="}, exitUsage, "GLUSTERVOL_OPTS"},
		{"one of the units", "", []string{"--store=" + store, "--managed"}, exitUsage, "unknown flag: --managed"},
		{"an argument", "", []string{store}, exitUsage, "glustervol init"},
		{"a damaged configuration", "nonsense\n", []string{"--store=" + store}, exitFailed, "line 1"},
		{"options that have the last word", "GLUSTERVOL_OPTS=--log-level=warn\n", []string{"--store=" + store, "--log-level=info"}, exitFailed, "GLUSTERVOL_OPTS has --log-level=WARN"},
		{"stores that have the last word", "GLUSTERVOL_OPTS=gfs1:/other\n", []string{"--store=" + store}, exitFailed, "GLUSTERVOL_OPTS names stores of its own"},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			_ = os.Remove(config)
			if tt.before != "" {
				if err := os.WriteFile(config, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, errs, code := tryCLI(t, append([]string{"init", "--config=" + config}, tt.args...)...)
			if code != tt.code || strings.Contains(out, "wrote") {
				t.Errorf("exit code %d, prints %q", code, out)
			}
			expect(t, errs, tt.words)
			if tt.before != "" {
				expectFile(t, config, tt.before, 0o600)
			} else if exists(config) {
				t.Error("the configuration was written")
			}
		})
	}
	for _, v := range []*testnode.GlusterVolume{gv, otherVolume} {
		if exists(onBrick(v, ".glustervol")) || exists(onBrick(v, "volumes")) {
			t.Error("a store was made")
		}
	}
}

// TestInitNewerStore: a store of a newer driver is left alone.
func TestInitNewerStore(t *testing.T) {
	gv, store := goodStore(t)
	if err := os.Mkdir(onStore(t, gv)(".glustervol"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(onStore(t, gv)(".glustervol/format.json"), []byte(`{"format": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "glustervol")
	cliFails(t, []string{"init", "--config=" + config, "--store=" + store}, "nothing was written", "format 99")
	if exists(config) {
		t.Error("the configuration was written")
	}
}

// TestInitAsks: a person on a terminal is asked until the answer is an address.
func TestInitAsks(t *testing.T) {
	_, store := goodStore(t)
	config := filepath.Join(t.TempDir(), "glustervol")
	onTerminal := func(answers string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--echo", "never", "--command", testExecutable(t)+" init --config="+config, "/dev/null")
		cmd.Env = append(os.Environ(), asMain+"=1")
		cmd.Stdin = strings.NewReader(answers)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	expect(t, onTerminal("gv0\n\n"+store+"\n"), "Where are the volumes to be?", `store address "gv0"`, "wrote "+config)
	expect(t, onTerminal("\n"), "["+store+"]: ", "has all of it already")
	if s, err := readSettings(config); err != nil || storeNames(s.stores) != store {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestInitStarts: where systemd runs, the units are enabled, and the driver is started
// with what was written; again only if that has changed.
func TestInitStarts(t *testing.T) {
	_, store := goodStore(t)
	calls := startingSystemd(t)
	got := cli(t, "init", "--store="+store, "--linger=1s")
	expect(t, got, "wrote "+settingsFile, "the driver runs, and has reached its stores")
	first := cliJSON[plugin.Info](t, "info")
	if len(first.Stores) != 1 || first.Stores[0].Address != store {
		t.Errorf("%+v", first)
	}
	expect(t, calls(), "enable glustervol.socket glustervol.service", "restart glustervol.service\n")

	expect(t, cli(t, "init", "--store="+store), "has all of it already", "the driver runs already")
	if again := calls(); strings.Contains(again, "restart") || !strings.Contains(again, "enable") {
		t.Errorf("the second time: %s", again)
	}
	cli(t, "init", "--store="+store, "--linger=2s")
	if now := cliJSON[plugin.Info](t, "info"); now.PID == first.PID {
		t.Error("the driver was not restarted")
	}
}

// startingSystemd has the machine look as if systemd ran, with a systemctl that starts the
// driver as the unit does. calls returns what it was called with since it was asked last.
func startingSystemd(t *testing.T) (calls func() string) {
	t.Helper()
	for _, dir := range []string{"/run/systemd/system", "/etc/default"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("testnode", "/etc/default", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	log, pid := filepath.Join(t.TempDir(), "log"), "/run/glustervol.pid"
	end := func() {
		text, err := os.ReadFile(pid)
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(n, syscall.SIGTERM)
		testnode.Eventually(t, "the driver ends", func() bool { return testnode.Processes()[n] == "" })
	}
	t.Cleanup(func() {
		end()
		for _, name := range []string{"/run/systemd", pid, logFile, "/run/glustervol", "/var/lib/glustervol/known"} {
			_ = os.RemoveAll(name)
		}
		if err := unix.Unmount("/etc/default", 0); err != nil {
			t.Error(err)
		}
	})
	script := fmt.Sprintf(`#!/bin/sh
echo "$@" >>%[1]s
case $1 in
is-active) test -e %[2]s ;;
restart)
    if test -e %[2]s; then
        kill "$(cat %[2]s)"
        while kill -0 "$(cat %[2]s)" 2>/dev/null; do sleep 0.05; done
    fi
    set -a
    . %[3]s
    %[4]s=1 setsid %[5]s serve $GLUSTERVOL_OPTS >>%[6]s 2>&1 </dev/null &
    echo $! >%[2]s ;;
esac
`, log, pid, settingsFile, asMain, testExecutable(t), logFile)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(log)
		return string(text)
	}
}

// TestInitWithoutUnits: a node with systemd, and without the driver's units, is told so
// before anything is done.
func TestInitWithoutUnits(t *testing.T) {
	_, store := goodStore(t)
	startingSystemd(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cliFails(t, []string{"init", "--store=" + store}, "nothing was written", "glustervol.socket is not installed", "make install")
	if exists(settingsFile) {
		t.Error("the configuration was written")
	}
}
