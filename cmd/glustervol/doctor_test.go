package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/cmd/glustervol/doctor"
	"github.com/glustervol/glustervol/hack/testnode"
)

// examine is what doctor finds, and its exit code.
func examine(t *testing.T, args ...string) ([]doctor.Finding, int) {
	t.Helper()
	out, errs, code := tryCLI(t, append([]string{"doctor", "--json"}, args...)...)
	if errs != "" {
		t.Errorf("doctor says %s", errs)
	}
	var found []doctor.Finding
	decodeStrictly(t, out, &found)
	return found, code
}

// expectFinding wants a line of a check, of a level, with words in it.
func expectFinding(t *testing.T, found []doctor.Finding, check string, level doctor.Level, words ...string) {
	t.Helper()
	for _, f := range found {
		if f.Check == check && f.Level == level && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(f.Text+"; "+f.Advice, w) }) {
			return
		}
	}
	t.Errorf("no %s of %s with %q in:\n%s", level, check, words, listed(found))
}

func listed(found []doctor.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%+v\n", f)
	}
	return b.String()
}

// goodStore is one that doctor has nothing to say about.
func goodStore(t *testing.T) (gv *testnode.GlusterVolume, store string) {
	t.Helper()
	gv = testnode.NewGlusterVolume(t, 3, testnode.SmallDisk(t, 256<<20), "replica", "3")
	return gv, "gfs1,gfs2,gfs3:/" + gv.Name
}

// TestDoctorWell: all is well on a real node, on either control plane, with a container
// that writes, and with a managed plugin.
func TestDoctorWell(t *testing.T) {
	_, store := goodStore(t)
	serveDocker(t, store)
	testDoctorWell(t, store)
}

func TestDoctorWellOverFUSE(t *testing.T) {
	_, store := goodStore(t)
	serveDocker(t, "--control=fuse", store)
	testDoctorWell(t, store)
}

func testDoctorWell(t *testing.T, store string) {
	awaitReached(t)
	startContainer(t, "box", "-v=web:/data")
	found, code := examine(t)
	if code != 0 || slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Level != doctor.OK && f.Level != doctor.Skipped }) {
		t.Errorf("exit code %d:\n%s", code, listed(found))
	}
	expectFinding(t, found, "driver", doctor.OK, "version devel")
	expectFinding(t, found, "docker", doctor.OK, "sees the driver glustervol")
	expectFinding(t, found, "store", doctor.OK, "format 1")
	expectFinding(t, found, "replication", doctor.OK, "replica 3")
	for brick := range 3 {
		expectFinding(t, found, "bricks", doctor.OK, fmt.Sprintf("brick%d is connected", brick))
	}
	got := cli(t, "doctor")
	if strings.Count(got, "\n")+1 < 20 || !strings.Contains(got, "replication "+store) {
		t.Errorf("the table is\n%s", got)
	}
	before := len(testnode.Processes())
	if _, code := examine(t, store); code != 0 { // by itself, and beside the driver
		t.Errorf("with the store named: exit code %d", code)
	}
	testnode.Eventually(t, "nothing is left", func() bool { return len(testnode.Processes()) <= before })
}

// TestDoctorWithoutDriver: the store is looked at all the same, as the configuration
// names it, and without libgfapi, too.
func TestDoctorWithoutDriver(t *testing.T) {
	gv, store := goodStore(t)
	testnode.Docker(t)
	config := filepath.Join(t.TempDir(), "glustervol")
	if err := os.WriteFile(config, []byte("# a comment\nGLUSTERVOL_STORE='"+store+"'\nGLUSTERVOL_OPTS=\"--log-dir=/var/log/elsewhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func() []doctor.Finding {
		t.Helper()
		found, code := examine(t, "--config="+config)
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		expectFinding(t, found, "driver", doctor.Failure, "does not run on this node", "systemctl start glustervol")
		expectFinding(t, found, "plugin socket", doctor.Failure, "there is no "+pluginSocket)
		expectFinding(t, found, "logs", doctor.OK, "/var/log/elsewhere")
		expectFinding(t, found, "store", doctor.OK, "no driver has made a store of it yet")
		expectFinding(t, found, "bricks", doctor.OK, "brick2 is connected")
		for _, f := range found {
			if f.Level == doctor.Failure && f.Check != "driver" && f.Check != "plugin socket" {
				t.Errorf("%+v", f)
			}
		}
		return found
	}
	before, temporary := len(testnode.Processes()), temporaries(t)
	expectFinding(t, check(), "libgfapi", doctor.OK)
	hideLibrary(t)
	expectFinding(t, check(), "libgfapi", doctor.Warning, "cannot be used")
	if left := tree(t, gv); len(left) > 1 { // the brick's directory itself
		t.Errorf("doctor has left on the store: %v", left)
	}
	testnode.Eventually(t, "no client is left", func() bool { return len(testnode.Processes()) <= before })
	if now := temporaries(t); !slices.Equal(now, temporary) {
		t.Errorf("left: %q, before %q", now, temporary)
	}
}

func temporaries(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(os.TempDir(), "glustervol-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestDoctorWarns: warnings alone have an exit code of their own.
func TestDoctorWarns(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, testnode.SmallDisk(t, 256<<20))
	serveDocker(t, gv.Address())
	awaitReached(t)
	found, code := examine(t)
	if code != exitWarned {
		t.Errorf("exit code %d:\n%s", code, listed(found))
	}
	expectFinding(t, found, "replication", doctor.Warning, "on one brick only")
	expectFinding(t, found, "servers", doctor.Warning, "names one server")
}

// TestDoctorBroken: several things are broken, and each has its line.
func TestDoctorBroken(t *testing.T) {
	gv, store := goodStore(t)
	d := serveDocker(t, store)
	awaitReached(t)
	testnode.RunGluster(t, "volume", "set", gv.Name, "network.ping-timeout", "100")
	testnode.RunGluster(t, "volume", "set", gv.Name, "cluster.quorum-type", "none")
	gv.KillBricks(gv.Bricks[0])
	testnode.Filter(t, "198.51.100.2", "24007", "REJECT")
	stray := "/run/glustervol/clients/stray/mnt"
	mountStray(t, stray)
	testnode.Eventually(t, "doctor sees all of it", func() bool {
		found, _ := examine(t)
		return len(ofLevel(found, doctor.Failure)) >= 3
	})
	found, code := examine(t)
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	expectFinding(t, found, "bricks", doctor.Failure, gv.Bricks[0], "NOT connected, its server is there")
	expectFinding(t, found, "bricks", doctor.OK, gv.Bricks[1])
	expectFinding(t, found, "quorum", doctor.Failure, "cluster.quorum-type")
	expectFinding(t, found, "volume options", doctor.Failure, "network.ping-timeout", "gluster volume set "+gv.Name)
	expectFinding(t, found, "servers", doctor.Warning, "gfs2", "refused")
	expectFinding(t, found, "mounts", doctor.Warning, "umount "+stray)
	expectFinding(t, found, "store", doctor.OK)

	d.kill()
	found, _ = examine(t, store)
	expectFinding(t, found, "plugin socket", doctor.Failure, "nobody serves it")
	expectFinding(t, found, "docker", doctor.Skipped, "nobody serves")
	testnode.StopDocker(t)
	found, _ = examine(t, store)
	expectFinding(t, found, "docker", doctor.Failure, "dockerd does not answer")
}

func ofLevel(found []doctor.Finding, level doctor.Level) (list []doctor.Finding) {
	for _, f := range found {
		if f.Level == level {
			list = append(list, f)
		}
	}
	return list
}

// TestDoctorHungStore: what needs the bricks is told to hang, and the rest shows, with the
// driver and without.
func TestDoctorHungStore(t *testing.T) {
	gv, store := goodStore(t)
	d := serveDocker(t, store)
	awaitReached(t)
	for _, brick := range gv.Bricks {
		gv.HangBrick(brick)
	}
	check := func(words string, args ...string) {
		t.Helper()
		expectWithin(t, 35*time.Second, "doctor", func() {
			found, code := examine(t, args...)
			if code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			expectFinding(t, found, "store", doctor.Failure, words)
			expectFinding(t, found, "servers", doctor.OK, "gfs1")
			expectFinding(t, found, "fuse", doctor.OK)
			expectFinding(t, found, "space", doctor.Skipped)
			if len(args) == 0 { // the driver has the volume file, and nobody has to be asked for it
				expectFinding(t, found, "replication", doctor.OK)
			}
		})
	}
	check("no answer in time")
	d.kill()
	check("did not answer in time", store)
}

// TestDoctorHungDriver: a driver that does not answer is told of.
func TestDoctorHungDriver(t *testing.T) {
	_, store := goodStore(t)
	d := serveDocker(t, store)
	awaitReached(t)
	resume := testnode.Hang(t, d.daemon.PID())
	found, code := examine(t, store)
	resume()
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	expectFinding(t, found, "driver", doctor.Failure, "does not answer within")
	expectFinding(t, found, "store", doctor.OK)
}

// TestDoctorConfiguration: a driver that does not start for its configuration is the first
// that somebody asks the doctor about.
func TestDoctorConfiguration(t *testing.T) {
	testnode.Require(t)
	if _, errs, code := tryCLI(t, "doctor", "gv0"); code != exitUsage || !strings.Contains(errs, `store address "gv0"`) {
		t.Errorf("exit code %d: %s", code, errs)
	}
	config := filepath.Join(t.TempDir(), "glustervol")
	for text, word := range map[string]string{
		"nonsense": "line 1", "GLUSTERVOL_STORE=gv0": `store address "gv0"`, "GLUSTERVOL_OPTS=--frob": "--frob", "GLUSTERVOL_LINGER=soon\n": "GLUSTERVOL_LINGER",
	} {
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		found, code := examine(t, "--config="+config)
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		expectFinding(t, found, "configuration", doctor.Failure, config, word, "does not start with it")
		expectFinding(t, found, "fuse", doctor.OK)
	}
}

// mountStray mounts something that no driver knows.
func mountStray(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("stray", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// TestDoctorSilentNode: a node that hangs while it uses a volume, seen by another.
func TestDoctorSilentNode(t *testing.T) {
	gv, _ := startNode(t)
	other, there := startOtherNode(t, gv.Address())
	create(t, "web")
	cli(t, there("mount", "web")...)
	found, _ := examine(t)
	expectFinding(t, found, "nodes", doctor.OK, "2")
	resume := testnode.Hang(t, other.PID())
	testnode.Eventually(t, "doctor tells of the node", func() bool {
		found, _ = examine(t)
		return slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Check == "nodes" && f.Level == doctor.Warning })
	})
	expectFinding(t, found, "nodes", doctor.Warning, "other-node is silent", "uses 1 volumes", "glustervol node forget other-node")
	resume()
	cli(t, there("unmount", "web")...)
	testnode.Eventually(t, "the volume can be removed", func() bool {
		_, _, code := tryCLI(t, "rm", "web")
		return code == 0
	})
}
