package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	for i in $(seq 3000); do mkdir d && cd d || break; done
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
	if !strings.HasPrefix(planted, "3000\n") {
		t.Errorf("depth %.10q", planted)
	}

	docker(t, "volume", "rm", "web")
	list := cliJSON[[]struct{ Entry, Name string }](t, "trash", "ls")
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
