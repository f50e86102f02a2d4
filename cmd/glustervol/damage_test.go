package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
)

// truncate, scribble and displace are what a bad disk, or a hand that slips, makes of
// a file.
func truncate(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return os.Truncate(file, info.Size()/2)
}

func scribble(file string) error { return os.WriteFile(file, []byte("\x7fELF\x00\xff"), 0o600) }

func displace(file string) error {
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(file, "mine"), []byte("kept"), 0o600)
}

// damages are in an order: until the last, a file keeps its inode.
var damages = []struct {
	doc string
	do  func(file string) error
}{{"truncated", truncate}, {"other bytes", scribble}, {"a directory", displace}}

// forEachDamage runs a test of a file for each damage.
func forEachDamage(t *testing.T, test func(t *testing.T, damage func(file string))) {
	t.Helper()
	for _, d := range damages {
		t.Run(d.doc, func(t *testing.T) {
			test(t, func(file string) {
				if err := d.do(file); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// content is what is at a path: a file's bytes, or a directory's files; "" is nothing.
func content(path string) string {
	entries, err := os.ReadDir(path)
	if err != nil {
		data, _ := os.ReadFile(path) // nothing, if there is none
		return string(data)
	}
	text := "directory"
	for _, e := range entries {
		text += "/" + e.Name() + ":" + content(filepath.Join(path, e.Name()))
	}
	return text
}

// mend writes a good file where a damaged one is, or none.
func mend(t testing.TB, file, good string) {
	t.Helper()
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
}

// expectKept fails the test unless what was damaged is there as it was, at one of
// the paths that a pattern names.
func expectKept(t testing.TB, pattern, damaged string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	for _, path := range paths {
		if content(path) == damaged {
			return
		}
	}
	t.Errorf("what was damaged, %q, is not kept as %s: %q, %v", damaged, pattern, paths, err)
}

// expectOthersWork uses another volume from its creation to its removal.
func expectOthersWork(t testing.TB, options ...string) {
	t.Helper()
	// Docker would ask all stores for the name first, and again for 15 s if one does not answer.
	cli(t, append([]string{"create", "other"}, options...)...)
	if got := runScript(t, "echo hi > /data/f && cat /data/f", "-v=other:/data"); got != "hi" {
		t.Errorf("another volume reads %q", got)
	}
	docker(t, "volume", "rm", "other")
}

// awaitRead waits until a container reads what was written to a volume before.
func awaitRead(t testing.TB, volume string) {
	t.Helper()
	testnode.Eventually(t, "volume "+volume+" can be used again", func() bool {
		out, err := testnode.TryDocker(runArgs("cat /data/f", "-v="+volume+":/data")...)
		return err == nil && out == "hi"
	})
}

// awaitLog waits until the driver logs a line with all of the words behind the
// first skip bytes of its log.
func awaitLog(t testing.TB, skip int, words ...string) {
	t.Helper()
	testnode.Eventually(t, fmt.Sprintf("the log tells %q", words), func() bool {
		for line := range strings.Lines(driverLog(t)[skip:]) {
			found := true
			for _, word := range words {
				found = found && strings.Contains(line, word)
			}
			if found {
				return true
			}
		}
		return false
	})
}

// fileOf is the path of a store's file of a volume below a directory of its own;
// pattern has the volume's id for %s.
func fileOf(t testing.TB, pattern, volume string) string {
	t.Helper()
	return fmt.Sprintf(pattern, inspect(t, volume).ID)
}

// TestDamagedOnStore: what is damaged on the store concerns one volume.
func TestDamagedOnStore(t *testing.T) {
	gv, _ := startNode(t)
	create(t, "web")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	on := onStore(t, gv)
	t.Run("definition", func(t *testing.T) { testDamagedDefinition(t, gv, on) })
	t.Run("reference", func(t *testing.T) { testDamagedReference(t, gv, on) })
	docker(t, "volume", "rm", "web")
}

// testDamagedDefinition: its volume is refused until it is mended, and stays known.
func testDamagedDefinition(t *testing.T, gv *testnode.GlusterVolume, on func(string) string) {
	const name = ".glustervol/volumes/web.json"
	file := on(name)
	good := content(file)
	forEachDamage(t, func(t *testing.T, damage func(string)) {
		start := len(driverLog(t))
		damage(file)
		damaged := content(onBrick(gv, name))
		testnode.Eventually(t, "no container starts", func() bool { // what is on the brick by now may be in a cache
			_, err := testnode.TryDocker(runArgs("true", "-v=web:/data")...)
			return err != nil && strings.Contains(err.Error(), "mount volume web: damaged file on the store: "+name)
		})
		awaitLog(t, start, "level=ERROR", `msg="volume cannot be served; its definition is left as it is"`, "volume=web", name)
		dockerFails(t, []string{"volume", "rm", "web"}, "remove volume web", name)
		cliFails(t, []string{"rm", "--keep-data", "web"}, "remove volume web", name)
		if got := docker(t, "volume", "ls", "--quiet"); got != "web" {
			t.Errorf("docker volume ls: %q", got)
		}
		expectOthersWork(t)
		expectKept(t, onBrick(gv, name), damaged)
		mend(t, file, good)
		awaitRead(t, "web")
	})
}

// testDamagedReference: what a node uses stays used though nobody can read what for,
// and is in nobody's way when that node does not use it any more.
func testDamagedReference(t *testing.T, gv *testnode.GlusterVolume, on func(string) string) {
	mine, others := fileOf(t, ".glustervol/nodes/0/%s.json", "web"), fileOf(t, ".glustervol/nodes/1/%s.json", "web")
	if err := os.Mkdir(on(".glustervol/nodes/1"), 0o700); err != nil {
		t.Fatal(err)
	}
	mend(t, on(".glustervol/nodes/1.json"), `{"node": "other-node"}`)
	forEachDamage(t, func(t *testing.T, damage func(string)) {
		startContainer(t, "box", "-v=web:/data")
		testnode.Eventually(t, "the container is told of", func() bool { return strings.Contains(content(onBrick(gv, mine)), "box") })
		good, start := content(onBrick(gv, mine)), len(driverLog(t))
		mend(t, on(others), good)
		for _, file := range []string{mine, others} {
			damage(on(file))
		}
		damaged, otherDamaged := content(onBrick(gv, mine)), content(onBrick(gv, others))
		execScript(t, "box", "echo hi > /data/f")
		expectOthersWork(t)
		docker(t, "rm", "--force", "box")
		awaitLog(t, start, "level=ERROR", "it is kept aside", mine)
		expectKept(t, onBrick(gv, mine+".*.damaged"), damaged)
		dockerFails(t, []string{"volume", "rm", "web"}, "volume web is in use on node other-node by a reference that cannot be read")
		expectKept(t, onBrick(gv, others), otherDamaged)
		mend(t, on(others), good)
		dockerFails(t, []string{"volume", "rm", "web"}, "volume web is in use on node other-node by container box")
		if err := os.RemoveAll(on(others)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamagedFormat: the store is left alone, another one is served, and the first
// is as soon as its format is mended.
func TestDamagedFormat(t *testing.T) {
	bad, good := testnode.NewGlusterVolume(t, 1, ""), testnode.NewGlusterVolume(t, 1, "")
	d := serveDocker(t, bad.Address(), good.Address())
	create(t, "web")
	runScript(t, "echo hi > /data/f", "-v=web:/data")
	const name = ".glustervol/format.json"
	file := onStore(t, bad)(name)
	whole := content(file)
	for doc, damage := range map[string]struct {
		do   func(file string) error
		want string
	}{
		"truncated":   {truncate, name + " does not name a format"},
		"a directory": {displace, name},
		"newer": {
			func(file string) error { return os.WriteFile(file, []byte(`{"format": 2, "more": []}`), 0o600) },
			"the store has format 2, this driver knows up to 1; install a newer glustervol",
		},
	} {
		t.Run(doc, func(t *testing.T) {
			d.stop()
			if err := damage.do(file); err != nil {
				t.Fatal(err)
			}
			before := tree(t, bad)
			d.start()
			testnode.Eventually(t, "info names the store and its trouble", func() bool {
				return strings.Contains(cli(t, "info"), damage.want)
			})
			dockerFails(t, runArgs("true", "-v=web:/data"), "mount volume web", bad.Address(), damage.want)
			dockerFails(t, []string{"volume", "rm", "web"}, "remove volume web", bad.Address(), damage.want)
			expectOthersWork(t, "--opt=store="+good.Address())
			expectTree(t, bad, before)
			mend(t, file, whole)
			awaitRead(t, "web")
		})
	}
}

// stateFiles are what a node keeps for itself, with a word of what the driver says
// when it finds them damaged.
var stateFiles = map[string]string{
	"/run/glustervol/mounts/web.json":      "mounts of a volume are not known",
	"/run/glustervol/mounts/boot-id":       "from before the boot",
	"/var/lib/glustervol/known/*/web.json": "volume is not known until the store answers",
	"/var/lib/glustervol/node-id":          "glustervol node forget",
}

// TestDamagedState: what a node keeps for itself is set aside when its driver starts
// and finds it damaged, and a container that runs does not notice.
func TestDamagedState(t *testing.T) {
	gv, d := startNode(t)
	create(t, "web")
	h := startHeart(t, gv, "heart", "web")
	forEachDamage(t, func(t *testing.T, damage func(string)) {
		start := len(driverLog(t))
		d.stop()
		good, damaged, told := map[string]string{}, map[string]string{}, map[string]string{}
		for pattern, words := range stateFiles {
			file := onlyFile(t, pattern)
			good[file], told[file] = content(file), words
			damage(file)
			damaged[file] = content(file)
		}
		d.start()
		for file := range good {
			awaitLog(t, start, "level=ERROR", told[file], file+".damaged")
			expectKept(t, file+".damaged*", damaged[file])
		}
		cliFails(t, []string{"rm", "web"}, "volume web is in use on this node by unknown users (the file of its mounts was damaged)")
		interim := cliJSON[plugin.Info](t, "info").Node.ID
		expectOthersWork(t)
		h.beatsOn(t)
		d.stop()
		for file, text := range good {
			mend(t, file, text)
		}
		d.start()
		if v := inspect(t, "web"); len(v.Users) != 1 || strings.Contains(v.Users[0], "unknown") {
			t.Errorf("users of web, when all is mended: %q", v.Users)
		}
		testnode.Eventually(t, "what the node was meanwhile is forgotten", func() bool {
			_, _, code := tryCLI(t, "node", "forget", "--yes", interim)
			return code == 0
		})
	})
	h.neverFailed(t)
	docker(t, "rm", "--force", "heart")
	docker(t, "volume", "rm", "web")
}

// onlyFile is the one file that a pattern names.
func onlyFile(t testing.TB, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %q, %v", pattern, files, err)
	}
	return files[0]
}

// TestMissingDirectories: those that can be made anew are, and the others are told of.
func TestMissingDirectories(t *testing.T) {
	logs := "/var/log/glustervol/logs"
	gv, _ := startNode(t, "--log-dir="+logs)
	create(t, "web")
	h := startHeart(t, gv, "heart", "web")
	on := onStore(t, gv)
	for _, dir := range []string{on(".glustervol/tombstones"), on(".glustervol/trash"), on(".glustervol/nodes/0"), "/run/glustervol/mounts", filepath.Dir(onlyFile(t, "/var/lib/glustervol/known/*/web.json")), logs} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			testnode.Eventually(t, "volumes can be removed", func() bool { // libgfapi has it for a second
				tryCLI(t, "create", "other")
				_, _, code := tryCLI(t, "rm", "other")
				return code == 0
			})
			expectOthersWork(t, "--opt=client-options=noatime") // a client of its own
			h.beatsOn(t)
			testnode.Eventually(t, "the directory is there again", func() bool { return exists(dir) })
		})
	}
	t.Run("definitions", func(t *testing.T) {
		dir := on(".glustervol/volumes")
		if err := os.Rename(dir, dir+".lost"); err != nil {
			t.Fatal(err)
		}
		const want = "the directory .glustervol/volumes is gone"
		testnode.Eventually(t, "the trouble is told", func() bool { return strings.Contains(inspect(t, "web").Trouble, want) })
		testnode.Eventually(t, "no container starts", func() bool { // the driver has it for a second
			_, err := testnode.TryDocker(runArgs("true", "-v=web:/data")...)
			return err != nil && strings.Contains(err.Error(), "mount volume web: damaged file on the store: "+want)
		})
		cliFails(t, []string{"create", "new"}, "create volume new", ".glustervol/volumes")
		if got := docker(t, "volume", "ls", "--quiet"); got != "web" {
			t.Errorf("docker volume ls: %q", got)
		}
		h.beatsOn(t)
		if err := os.Rename(dir+".lost", dir); err != nil {
			t.Fatal(err)
		}
		testnode.Eventually(t, "the trouble is over", func() bool { return inspect(t, "web").Trouble == "" })
		expectOthersWork(t)
	})
	h.neverFailed(t)
}

// TestReadOnlyBrick: nothing half is left of what could not be written, the other
// store works, and all goes on when the brick takes writes again.
func TestReadOnlyBrick(t *testing.T) {
	disk := testnode.SmallDisk(t, 64<<20)
	bad, good := testnode.NewGlusterVolume(t, 1, disk), testnode.NewGlusterVolume(t, 1, "")
	// Every 30 s a brick writes to its disk, and ends itself when it cannot; in between is what is tested.
	testnode.RunGluster(t, "volume", "set", bad.Name, "storage.health-check-interval", "0")
	serveDocker(t, bad.Address(), good.Address())
	create(t, "web")
	startContainer(t, "box", "-v=web:/data")
	execScript(t, "box", "echo hi > /data/f")
	remount := func(flags uintptr) {
		testnode.Eventually(t, "the disk is remounted", func() bool { // not while a file is being written
			return syscall.Mount("", disk, "", syscall.MS_REMOUNT|flags, "") == nil
		})
	}
	before := tree(t, bad)
	remount(syscall.MS_RDONLY)
	hint := "a brick of Gluster volume " + bad.Name + " is read-only"
	testnode.Eventually(t, "the trouble is told", func() bool {
		return strings.Contains(inspect(t, "web").Trouble, hint) && strings.Contains(cli(t, "info"), hint)
	})
	cliFails(t, []string{"create", "new"}, "create volume new", hint)
	dockerFails(t, []string{"exec", "box", "sh", "-c", "echo no > /data/no"}, "Read-only file system")
	if got := execScript(t, "box", "cat /data/f"); got != "hi" {
		t.Errorf("the container reads %q", got)
	}
	expectOthersWork(t, "--opt=store="+good.Address())
	expectTree(t, bad, before)
	remount(0)
	testnode.Eventually(t, "the trouble is over", func() bool { return inspect(t, "web").Trouble == "" })
	execScript(t, "box", "echo more > /data/more")
	awaitRead(t, "web")
	expectOthersWork(t)
}

// TestNotMistaken: a client that has too few bricks is not a dead one.
func TestNotMistaken(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	serveDocker(t, gv.Address())
	h := startHeart(t, gv, "heart", "web")
	before, device := inspect(t, "web").Client, execScript(t, "heart", "stat -c %d /data")
	for doc, fault := range map[string]struct{ begin, end func() }{
		"lost quorum":              {func() { gv.KillBricks(gv.Bricks[1:]...) }, gv.StartBricks},
		"a stopped Gluster volume": {gv.Stop, gv.Start},
	} {
		t.Run(doc, func(t *testing.T) {
			fault.begin()
			testnode.Eventually(t, "inspect says what is missing", func() bool {
				return strings.Contains(words(cli(t, "inspect", "web")), "Trouble: too few bricks of Gluster volume "+gv.Name+" can be reached; see 'gluster volume status "+gv.Name+"'")
			})
			dockerFails(t, []string{"exec", "heart", "sh", "-c", "echo no > /data/no"}, "Transport endpoint is not connected")
			if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(table), " "+before.Mount+" ") {
				t.Errorf("the client is not mounted on %s any more, %v", before.Mount, err)
			}
			fault.end()
			h.beatsOn(t)
			testnode.Eventually(t, "the trouble is over", func() bool { return inspect(t, "web").Trouble == "" })
			v := inspect(t, "web")
			if v.Client.PID != before.PID || v.Client.Health != "alive" || len(v.Healings) > 0 || len(v.Users) != 1 {
				t.Errorf("before %+v, after %+v", before, v)
			}
			if got := execScript(t, "heart", "stat -c %d /data"); got != device {
				t.Errorf("the container has device %s, had %s", got, device)
			}
		})
	}
}
