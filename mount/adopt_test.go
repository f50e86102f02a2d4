package mount_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/mount"
)

func testAdopt(t *testing.T, n *node) {
	source := n.with("noatime")
	c := n.use(source, "a")
	pid := c.PID()
	wantFile(t, filepath.Join(c.Path(), "f"))
	must(t, n.restart())
	if n.Hold("no client", "a") {
		t.Error("a client was held that there never was")
	}
	if !n.Hold(source.Key(), "a") {
		t.Error("the client was not adopted")
	}
	n.EndIdle()
	adopted := n.use(source, "b")
	if adopted.PID() != pid || adopted.Path() != c.Path() {
		t.Errorf("process %d at %s, was %d at %s", adopted.PID(), adopted.Path(), pid, c.Path())
	}
	wantList(t, n, source, adopted, "a", "b")
	if got := n.Status(source.Key()).Source; got.Key() != source.Key() || got.String() != source.String() || got.Options != source.Options {
		t.Errorf("adopted as %+v, was %+v", got, source)
	}
	n.Release(source.Key(), "a")
	n.Release(source.Key(), "b")
	n.awaitEnd(c, pid)
}

func testAdoptIdle(t *testing.T, n *node) {
	other := n.with("noatime")
	idle, used := n.use(n.source, "a"), n.use(other, "a")
	idlePID, usedPID := idle.PID(), used.PID()
	must(t, n.restart())
	n.Hold(other.Key(), "a")
	if list := n.List(); len(list) != 2 {
		t.Errorf("adopted %+v", list)
	}
	n.EndIdle()
	n.awaitEnd(idle, idlePID)
	if status := n.Status(other.Key()); status.PID != usedPID || status.Health != "alive" {
		t.Errorf("the used client: %+v", status)
	}
	wantFile(t, filepath.Join(used.Path(), "f"))
}

// testAdoptDead kills clients while no driver is there to see it.
func testAdoptDead(t *testing.T, n *node) {
	other := n.with("noatime")
	used, idle := n.use(n.source, "a"), n.use(other, "a")
	pids := []int{used.PID(), idle.PID()}
	for _, pid := range pids {
		n.kill(pid, unix.SIGKILL)
	}
	n.eventually("the clients are gone", func() bool { return len(n.processes()) == 0 })
	must(t, n.restart())
	for _, source := range []mount.Source{n.source, other} {
		if status := n.Status(source.Key()); status.Health != "dead" || status.PID != 0 {
			t.Errorf("adopted as %+v", status)
		}
	}
	n.Hold(n.source.Key(), "a")
	n.EndIdle()
	n.awaitEnd(idle, pids[1])
	fresh := n.use(n.source, "a")
	if fresh.Path() != used.Path() || slices.Contains(pids, fresh.PID()) {
		t.Errorf("process %d at %s, want a new one at %s", fresh.PID(), fresh.Path(), used.Path())
	}
	wantFile(t, filepath.Join(fresh.Path(), "f"))
}

// testAdoptDirectory finds what a driver leaves that is killed before it has
// started a client, or after it has ended one.
func testAdoptDirectory(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	data, err := os.ReadFile(filepath.Join(filepath.Dir(c.Path()), "source.json"))
	must(t, err)
	pid := c.PID()
	n.Release(n.source.Key(), "a")
	n.awaitEnd(c, pid)
	tests := []struct {
		doc   string
		files []string
	}{
		{doc: "all of it", files: []string{"source.json"}},
		{doc: "without the source", files: nil},
		{doc: "with half of the source", files: []string{"source.json.tmp"}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			must(t, os.MkdirAll(c.Path(), 0o700))
			for _, name := range tt.files {
				must(t, os.WriteFile(filepath.Join(filepath.Dir(c.Path()), name), data, 0o600))
			}
			must(t, n.restart())
			if list := n.List(); len(list) != 0 {
				t.Errorf("adopted %+v", list)
			}
			if left := glob(t, filepath.Join(n.config.RunDir, "*")); len(left) != 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// testAdoptBroken adopts what is good beside what is not, which it names and
// leaves alone.
func testAdoptBroken(t *testing.T, n *node) {
	other := n.with("noatime")
	good, broken := n.use(n.source, "a"), n.use(other, "a")
	if good.Path() < broken.Path() { // the broken one is to be met first
		other, good, broken = n.source, broken, good
	}
	pid, brokenPID := good.PID(), broken.PID()
	file := filepath.Join(filepath.Dir(broken.Path()), "source.json")
	tests := []struct {
		doc  string
		data string
	}{
		{doc: "cut off", data: `{"servers":["gfs1"],"vol`},
		{doc: "empty", data: ""},
		{doc: "of another source", data: `{"servers":["gfs1"],"volume":"other"}`},
		{doc: "no source", data: `[]`},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			must(t, os.WriteFile(file, []byte(tt.data), 0o600))
			err := n.restart()
			if err == nil || !strings.Contains(err.Error(), filepath.Dir(file)) {
				t.Errorf("error %v does not name %s", err, filepath.Dir(file))
			}
			if list := n.List(); len(list) != 1 || list[0].PID != pid || list[0].Health != "alive" {
				t.Errorf("adopted %+v", list)
			}
			n.verify(good)
		})
	}
	wantFile(t, filepath.Join(broken.Path(), "f"))
	fresh := n.use(other, "a") // who needs it gets a new one
	n.eventually("the old client ends", func() bool { return !slices.Contains(n.processes(), brokenPID) })
	wantFile(t, filepath.Join(fresh.Path(), "f"))
}

// testAdoptCovered has something else mounted over a client.
func testAdoptCovered(t *testing.T, n *node) {
	good, covered := n.use(n.source, "a"), n.use(n.with("noatime"), "a")
	if good.Path() < covered.Path() { // the covered one is to be met first
		good, covered = covered, good
	}
	pid := good.PID()
	must(t, unix.Mount("test", covered.Path(), "tmpfs", 0, ""))
	must(t, os.WriteFile(filepath.Join(covered.Path(), "precious"), nil, 0o600))
	err := n.restart()
	if err == nil || !strings.Contains(err.Error(), covered.Path()) || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("error %v does not name the mount", err)
	}
	if list := n.List(); len(list) != 1 || list[0].PID != pid {
		t.Errorf("adopted %+v", list)
	}
	if _, err := os.Stat(filepath.Join(covered.Path(), "precious")); err != nil {
		t.Error(err)
	}
	n.unmount(covered.Path())
	must(t, n.restart())
	if list := n.List(); len(list) != 2 {
		t.Errorf("adopted %+v", list)
	}
}

// testAdoptUnmounted has somebody unmount a client that a container still has
// bound, and the driver restart: the container must not lose its files.
func testAdoptUnmounted(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	pid := c.PID()
	target, unbind := n.bind(c.Path())
	n.unmount(c.Path())
	must(t, n.restart())
	if list := n.List(); len(list) != 0 {
		t.Errorf("adopted %+v", list)
	}
	wantFile(t, filepath.Join(target, "f"))
	fresh := n.use(n.source, "a")
	wantFile(t, filepath.Join(target, "g"))
	if fresh.PID() == pid {
		t.Error("the old client was taken for the new one")
	}
	unbind()
	n.eventually("the old client ends", func() bool { return !slices.Contains(n.processes(), pid) })
}

// testAdoptStarting kills the driver while a client waits for its server.
func testAdoptStarting(t *testing.T, n *node) {
	n.source.Servers = []string{muteHost}
	first := n.Clients
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	used := make(chan error, 1)
	go func() {
		_, err := first.Use(ctx, n.source, "a")
		used <- err
	}()
	n.eventually("the client has mounted", func() bool { return len(n.mounts()) == 1 })
	must(t, n.restart())
	if left := append(n.mounts(), glob(t, filepath.Join(n.config.RunDir, "*"))...); len(left) > 0 || len(n.processes()) > 0 || len(n.List()) > 0 {
		t.Errorf("left behind: %v, processes %v, clients %+v", left, n.processes(), n.List())
	}
	if err := <-used; err == nil || ctx.Err() != nil {
		t.Errorf("the first driver's mount: %v, and only at its deadline: %v", err, ctx.Err())
	}
}
