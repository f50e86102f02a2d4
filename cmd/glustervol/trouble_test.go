package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
)

// atOnce is a bound on answers that come from memory; a machine under load may
// need the most of it.
const atOnce = 5 * time.Second

// lookUpTime is how long an unknown name is looked for.
const lookUpTime = 10 * time.Second

func expectAtOnce(t testing.TB, what string, call func()) {
	t.Helper()
	expectWithin(t, atOnce, what, call)
}

// expectWithin fails the test if a call takes longer than it should.
func expectWithin(t testing.TB, bound time.Duration, what string, call func()) {
	t.Helper()
	start := time.Now()
	call()
	if took := time.Since(start); took > bound {
		t.Errorf("%s took %s", what, took)
	}
}

// TestGlusterVolumeStops: what needs the store fails with what to do, what is
// known is shown, and all goes on by itself when Gluster does.
func TestGlusterVolumeStops(t *testing.T) { overBoth(t, testGlusterVolumeStops) }

func testGlusterVolumeStops(t *testing.T, flag string) {
	gv, _ := startNode(t, flag)
	h := startHeart(t, gv, "heart", "web")
	gv.Stop()

	hint := "gluster volume status " + gv.Name
	expectAtOnce(t, "docker run", func() { dockerFails(t, runArgs("true", "-v=web:/data"), "mount volume web", hint) })
	expectAtOnce(t, "glustervol create", func() { cliFails(t, []string{"create", "other"}, "create volume other", hint) })
	cliFails(t, []string{"rm", "web"}, "remove volume web", hint)
	cliFails(t, []string{"trash", "ls"}, hint)
	if got := docker(t, "volume", "ls", "--quiet"); got != "web" {
		t.Errorf("docker volume ls: %q", got)
	}
	testnode.Eventually(t, "the trouble is told", func() bool {
		return strings.Contains(dockerInspect(t, "web").Status.Trouble, hint) && strings.Contains(cli(t, "info"), hint)
	})

	gv.Start()
	h.beatsOn(t)
	testnode.Eventually(t, "volumes can be made again", func() bool {
		_, _, code := tryCLI(t, "create", "other")
		return code == 0
	})
	if got := runScript(t, "ls /data", "-v=web:/data"); got != "beat" {
		t.Errorf("behind the trouble: %q", got)
	}
	testnode.Eventually(t, "the trouble is over", func() bool { return inspect(t, "web").Trouble == "" })
}

// TestAnswersFromMemory: what is known is told while the store hangs, and what
// is not known is not called absent.
func TestAnswersFromMemory(t *testing.T) { overBoth(t, testAnswersFromMemory) }

func testAnswersFromMemory(t *testing.T, flag string) {
	gv, _ := startNode(t, flag)
	create(t, "web", "uid=999")
	startContainer(t, "box", "-v=logs:/data")
	execScript(t, "box", "echo hi > /data/f")
	resume := testnode.Hang(t, gv.BrickPID())

	expectAtOnce(t, "docker volume ls", func() {
		if got := docker(t, "volume", "ls", "--quiet"); got != "logs\nweb" {
			t.Errorf("docker volume ls: %q", got)
		}
	})
	expectAtOnce(t, "docker volume inspect", func() {
		if v := dockerInspect(t, "web"); v.Options["uid"] != "999" || v.Status.Path != "volumes/web" {
			t.Errorf("%+v", v)
		}
	})
	expectAtOnce(t, "glustervol ls and inspect", func() { cli(t, "ls"); cli(t, "inspect", "web") })
	expectAtOnce(t, "glustervol info", func() { cli(t, "info") })
	expectAtOnce(t, "docker exec", func() { execScript(t, "box", "true") })
	expectAtOnce(t, "docker rm", func() { docker(t, "rm", "--force", "box") })
	if a, err := tryAsk(t.Context(), "Get", `{"Name": "unknown"}`); !errors.Is(err, errNoAnswer) {
		t.Errorf("Get of an unknown volume: %+v, %v", a, err)
	}

	resume()
	if got := runScript(t, "cat /data/f", "-v=logs:/data"); got != "hi" {
		t.Errorf("behind the trouble: %q", got)
	}
	expect(t, ask(t, "Get", `{"Name": "unknown"}`).Err, "no such volume")
}

// TestHungStoreBlocksNoOther: of two stores, one hangs.
func TestHungStoreBlocksNoOther(t *testing.T) { overBoth(t, testHungStoreBlocksNoOther) }

func testHungStoreBlocksNoOther(t *testing.T, flag string) {
	good, bad := testnode.NewGlusterVolume(t, 1, ""), testnode.NewGlusterVolume(t, 1, "")
	serveDocker(t, flag, good.Address(), bad.Address())
	create(t, "old")
	create(t, "elsewhere", "store="+bad.Address())
	runScript(t, "echo hi > /data/f", "-v=old:/data", "-v=elsewhere:/elsewhere")
	create(t, "trashed")
	docker(t, "volume", "rm", "trashed")
	resume := testnode.Hang(t, bad.BrickPID())

	expectAtOnce(t, "docker run on the other store", func() {
		if got := runScript(t, "cat /data/f", "-v=old:/data"); got != "hi" {
			t.Errorf("read %q", got)
		}
	})
	var wg sync.WaitGroup
	each := func(what string, call func()) {
		wg.Go(func() { expectWithin(t, lookUpTime+atOnce, what, call) })
	}
	each("glustervol create", func() {
		cliFails(t, []string{"create", "new"}, bad.Address(), "may be there already", "-o store=")
	})
	each("glustervol create in a store", func() { cli(t, "create", "new-in-store", "-o", "store="+good.Address()) })
	each("docker volume rm", func() { docker(t, "volume", "rm", "old") })
	each("glustervol trash ls", func() {
		out, errs, code := tryCLI(t, "trash", "ls")
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		expect(t, out, "trashed")
		expect(t, errs, bad.Address())
	})
	each("Get of an unknown volume", func() {
		if a, err := tryAsk(t.Context(), "Get", `{"Name": "unknown"}`); !errors.Is(err, errNoAnswer) {
			t.Errorf("%+v, %v", a, err)
		}
	})
	wg.Wait()
	resume()
}

// hangMount has the volume web mounted by the id first, and then its client
// hang, until resume or the end of the test.
func hangMount(t testing.TB) (resume func()) {
	t.Helper()
	cli(t, "create", "web")
	if a := ask(t, "Mount", `{"Name": "web", "ID": "first"}`); a.Err != "" {
		t.Fatal(a.Err)
	}
	return testnode.Hang(t, inspect(t, "web").Client.PID)
}

// TestMountGivenUp: a Mount that Docker does not wait for any more, since the
// client hangs, leaves nothing: no Unmount will follow.
func TestMountGivenUp(t *testing.T) {
	startAlone(t)
	resume := hangMount(t)
	ctx, giveUp := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := tryAsk(ctx, "Mount", `{"Name": "web", "ID": "second"}`)
		answered <- err
	}()
	testnode.Eventually(t, "the mount is under way", func() bool { return len(inspect(t, "web").Users) == 2 })
	giveUp()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("answered: %v", err)
	}
	testnode.Eventually(t, "the user is not counted", func() bool { return slices.Equal(inspect(t, "web").Users, []string{"first"}) })
	expectAtOnce(t, "the unmount of the other user", func() { ask(t, "Unmount", `{"Name": "web", "ID": "first"}`) })
	resume()
	expectUnused(t, "web")
	cli(t, "rm", "web")
}

// TestClientsDie: what is started next is served by new ones.
func TestClientsDie(t *testing.T) { overBoth(t, testClientsDie) }

func testClientsDie(t *testing.T, flag string) {
	startNode(t, flag)
	startContainer(t, "box", "-v=web:/data")
	old := inspect(t, "web").Client.PID
	_, control := clientProcesses()
	for _, pid := range append(control, old) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	create(t, "other")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	docker(t, "restart", "box")
	if got := execScript(t, "box", "cat /data/f"); got != "hi" {
		t.Errorf("the restarted container reads %q", got)
	}
	if v := inspect(t, "web"); v.Client.PID == old || v.Client.Health != "alive" || len(v.Users) != 1 {
		t.Errorf("%+v", v)
	}
	docker(t, "rm", "--force", "box")
	expectUnused(t, "web")
}

// TestUnknownGlusterVolume: the driver serves, and says what is wrong.
func TestUnknownGlusterVolume(t *testing.T) {
	testnode.Gluster(t)
	serveDocker(t, "gfs1:/nosuch")
	if got := docker(t, "volume", "ls", "--quiet"); got != "" {
		t.Errorf("docker volume ls: %q", got)
	}
	testnode.Eventually(t, "info tells the trouble", func() bool {
		return strings.Contains(cli(t, "info"), `the servers know no Gluster volume "nosuch"`)
	})
	cliFails(t, []string{"create", "web"}, "create volume web", "gfs1:/nosuch", `the servers know no Gluster volume "nosuch"`, "gluster volume list")
}

// TestServerAppears: a server that cannot be reached is told of, or waited for
// while the machine boots.
func TestServerAppears(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	mend := testnode.Filter(t, "198.51.100.3", "24007", "REJECT")
	store := "gfs3:/" + gv.Name
	d := serveDocker(t, store)
	testnode.Eventually(t, "info tells the trouble", func() bool {
		return strings.Contains(cli(t, "info"), "no glusterd answers on gfs3, port 24007")
	})
	cliFails(t, []string{"create", "web"}, "create volume web", store, "no glusterd answers on gfs3, port 24007")

	d.stop()
	d.args = append(d.args, "--boot-wait=1000000h")
	d.start()
	attempts := testnode.Filtered(t, "198.51.100.3")
	created := make(chan error, 1)
	go func() {
		a, err := tryAsk(t.Context(), "Create", `{"Name": "web"}`)
		created <- errors.Join(err, a.err())
	}()
	testnode.Eventually(t, "the driver tries on", func() bool { return testnode.Filtered(t, "198.51.100.3") > attempts+2 })
	select {
	case err := <-created:
		t.Errorf("not waited for: %v", err)
	default:
	}
	mend()
	if err := <-created; err != nil {
		t.Error(err)
	}
}

// TestFullBrick: nothing half is left of what had no room, and room is all that
// is needed to go on.
func TestFullBrick(t *testing.T) { overBoth(t, testFullBrick) }

func testFullBrick(t *testing.T, flag string) {
	gv := testnode.NewGlusterVolume(t, 1, testnode.SmallDisk(t, 32<<20))
	serveDocker(t, flag, gv.Address())
	create(t, "web")
	dockerFails(t, runArgs("dd if=/dev/zero of=/data/big bs=1M", "-v=web:/data"), "No space left on device")
	// Behind the container its reference goes, which leaves room for another file.
	testnode.Eventually(t, "the volume has no reference", func() bool {
		files, err := filepath.Glob(onBrick(gv, ".glustervol/nodes/*/????????????????.json"))
		return err == nil && len(files) == 0
	})
	filler, err := os.Create(filepath.Join(filepath.Dir(gv.Bricks[0]), "filler"))
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if closeErr := filler.Close(); !errors.Is(err, syscall.ENOSPC) || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	before := tree(t, gv)

	const hint = "is full; 'glustervol trash empty'"
	dockerFails(t, createArgs("other"), "create volume other", gv.Address(), hint, "no space left on device")
	dockerFails(t, []string{"volume", "rm", "web"}, "remove volume web", gv.Address(), hint)
	expectTree(t, gv, before)

	runScript(t, "rm /data/big", "-v=web:/data")
	testnode.Eventually(t, "Gluster finds that there is room", func() bool {
		_, err := testnode.TryDocker(runArgs("echo hi > /data/f", "-v=web:/data")...)
		return err == nil
	})
	create(t, "other")
	docker(t, "volume", "rm", "other", "web")
	cli(t, "trash", "restore", "web")
	if got := runScript(t, "cat /data/f", "-v=web:/data"); got != "hi" {
		t.Errorf("read %q", got)
	}
}
