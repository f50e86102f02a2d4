package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

// plant fills a volume with what a container can make to harm who removes it
// without care, and counts what it made into /data/count.
const plant = `
	cd /data
	ln -s /etc/docker etc
	ln -s $OUTSIDE outside
	ln -s ../../.. up
	ln -s ../../../../../../../../../../../.. root
	ln -s ../victim sibling
	ln -s ../../../volumes/victim sibling-from-the-trash
	ln -s . self
	ln -s dangling nowhere
	echo x > f && ln f hard && chmod 000 hard
	mkfifo fifo
	mknod null c 1 3
	mknod disk b 8 0
	mkdir odd && cd odd
	for name in ' ' '*' '$(id)' '...' '-rf' '.glustervol' 'web.json' '.restoring' \
		"$(printf 'line\nfeed')" "$(printf 'escape\033[31m')" "$(printf 'not utf-8 \377')" "$(printf '%0255d' 0)"; do
		echo x > "./$name"
	done
	mkdir /data/many && cd /data/many
	for i in $(seq 5000); do : > $i; done
	mkdir /data/deep && cd /data/deep
	for i in $(seq 400); do mkdir level-$i && cd level-$i || break; done
	echo bottom > f
	echo $i > /data/depth`

// TestRemoveHostileContent: nothing outside is touched by what a container has
// planted, and all of it comes back whole.
func TestRemoveHostileContent(t *testing.T) {
	gv, _ := startNode(t)
	outside := t.TempDir()
	canaries := []string{filepath.Join(outside, "canary"), "/etc/docker/canary"}
	for _, canary := range canaries {
		if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(canary)
	}
	runScript(t, "echo alive > /data/f", "-v=victim:/data")
	runScript(t, plant, "-v=web:/data", "--env=OUTSIDE="+outside)
	const look = "cd /data; cat depth; ls -lnA . odd; ls many | wc -l"
	planted := runScript(t, look, "-v=web:/data")
	if !strings.HasPrefix(planted, "400\n") {
		t.Errorf("depth %.10q", planted)
	}

	docker(t, "volume", "rm", "web")
	list := cliJSON[[]volume.Trashed](t, "trash", "ls")
	if len(list) != 1 || list[0].Name != "web" {
		t.Fatalf("in the trash: %+v", list)
	}
	cli(t, "trash", "restore", list[0].Entry)
	if got := runScript(t, look, "-v=web:/data"); got != planted {
		t.Errorf("restored: %s\nplanted: %s", got, planted)
	}

	docker(t, "volume", "rm", "web")
	cli(t, "trash", "empty")
	if left, err := os.ReadDir(onBrick(gv, ".glustervol/trash")); err != nil || len(left) != 0 {
		t.Errorf("left in the trash: %v, %v", left, err)
	}
	for _, canary := range canaries {
		if got, err := os.ReadFile(canary); string(got) != "alive" {
			t.Errorf("%s: %q, %v", canary, got, err)
		}
	}
	if got := runScript(t, "cat /data/f", "-v=victim:/data"); got != "alive" {
		t.Errorf("the other volume: %q", got)
	}
}

// TestSymlinkOnPath: somebody puts a symlink in the place of a directory that a
// volume's path goes through.
func TestSymlinkOnPath(t *testing.T) {
	gv, _ := startNode(t)
	dir := onStore(t, gv)
	runScript(t, "mkdir /data/sub; echo secret > /data/f", "-v=victim:/data")
	create(t, "www", "path=srv/www", "uid=999")
	// What Gluster's clients know of names may be a second old.
	retry := func(what string, call func() error) {
		t.Helper()
		testnode.Eventually(t, what, func() bool { return call() == nil })
	}
	swap := func(name, target string) {
		t.Helper()
		retry("move "+name+" away", func() error { return os.Rename(dir(name), dir(name+".away")) })
		retry("put a symlink at "+name, func() error { return os.Symlink(target, dir(name)) })
	}
	swapBack := func(name string) {
		t.Helper()
		retry("remove the symlink at "+name, func() error { return os.Remove(dir(name)) })
		retry("move "+name+" back", func() error { return os.Rename(dir(name+".away"), dir(name)) })
	}
	mount := func() string {
		a := ask(t, "Mount", `{"Name": "www", "ID": "1"}`)
		ask(t, "Unmount", `{"Name": "www", "ID": "1"}`)
		return a.Err
	}
	for _, test := range []struct{ name, target, words string }{
		{"srv", "/etc/docker", "a symlink lies on the way to its directory srv/www"},
		{"srv/www", "../volumes/victim", "srv/www on " + gv.Address() + " is not a directory"},
	} {
		swap(test.name, test.target)
		testnode.Eventually(t, "refused: "+test.words, func() bool { return strings.Contains(mount(), test.words) })
		swapBack(test.name)
		testnode.Eventually(t, "served again", func() bool { return mount() == "" })
	}

	// A volume that is only to be made does not go through one either, nor does
	// it give the owner of somebody else's directory a new one.
	if err := os.Symlink("../volumes/victim", dir("srv/link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"srv/link", "srv/link/sub", "srv/link/new"} {
		dockerFails(t, createArgs("thief", "path="+path, "uid=1000"), "srv/link", "not a directory")
	}
	if got := runScript(t, "stat -c %u /data /data/sub; ls /data", "-v=victim:/data"); got != "0\n0\nf\nsub" {
		t.Errorf("the other volume: %q", got)
	}
}
