package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

func TestStore(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	onBrick := func(name, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(gv.Bricks[0], name)), 0o755))
		must(t, os.WriteFile(filepath.Join(gv.Bricks[0], name), []byte(text), 0o600))
	}
	expect(t, checkStore(look(t, gv.Address())), OK, "no driver has made a store of it yet")
	if entries, err := os.ReadDir(gv.Bricks[0]); err != nil || len(entries) != 1 { // Gluster's own
		t.Errorf("the look has left on the store: %v, %v", entries, err)
	}
	for _, dir := range []string{"volumes", "tombstones", "trash", "nodes"} {
		must(t, os.MkdirAll(filepath.Join(gv.Bricks[0], ".glustervol", dir), 0o700))
	}
	onBrick(".glustervol/format.json", `{"format": 1}`)
	onBrick(".glustervol/trash/old.0123456789abcdef.json", "{}") // removed, which is no operation under way
	report := look(t, gv.Address())
	expect(t, checkStore(report), OK, "format 1")
	expect(t, checkUnfinished(report, false), OK)

	onBrick(".glustervol/tombstones/web.0123456789abcdef.0.json", "{}")
	expect(t, checkUnfinished(look(t, gv.Address()), false), Warning, "1 operations", "tombstones/web.0123456789abcdef.0.json", "start the driver")
	onBrick(".glustervol/format.json", `{"format": 99}`)
	newer := look(t, gv.Address())
	expect(t, checkStore(newer), Failure, "format 99", "install a newer glustervol")
	expect(t, checkSpace(newer), Skipped)
	expect(t, checkUnfinished(newer, false), Skipped)
	onBrick(".glustervol/format.json", `nonsense`)
	expect(t, checkStore(look(t, gv.Address())), Failure, "damaged")
	expect(t, checkStore(look(t, "gfs1:/nosuch")), Failure, "nosuch")
}

// TestUnfinished: a running driver knows for how long.
func TestUnfinished(t *testing.T) {
	report := volume.StoreReport{Leftovers: []volume.Leftover{{File: ".glustervol/tombstones/web.1.0.json", Seconds: 20}}}
	expect(t, checkUnfinished(report, true), OK, "1 operations are under way")
	report.Leftovers[0].Seconds = int(volume.SettledWithin.Seconds()) + 1
	expect(t, checkUnfinished(report, true), Warning, "not settled", "web.1.0.json", "log")
}

// TestSpace fills a brick.
func TestSpace(t *testing.T) {
	disk := testnode.SmallDisk(t, 64<<20)
	gv := testnode.NewGlusterVolume(t, 1, disk)
	fill := filepath.Join(disk, "fill")
	percent := func(n int64) []Finding {
		must(t, os.WriteFile(fill, make([]byte, 64<<20*n/100), 0o600))
		return checkSpace(look(t, gv.Address()))
	}
	expectAmong(t, percent(50), OK, "space")
	expectAmong(t, percent(94), Warning, "space", "trash empty")
	for _, f := range percent(94) {
		if f.Check == "inodes" && f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
	expectAmong(t, percent(98), Failure, "space", "trash empty")
}

// TestInodes uses them up, and leaves space.
func TestInodes(t *testing.T) {
	testnode.Require(t)
	disk := t.TempDir()
	must(t, syscall.Mount("doctor", disk, "tmpfs", 0, "size=64m,nr_inodes=1000"))
	t.Cleanup(func() { must(t, syscall.Unmount(disk, 0)) })
	gv := testnode.NewGlusterVolume(t, 1, disk)
	leave := func(inodes uint64) []Finding {
		for i := 0; ; i++ {
			var s syscall.Statfs_t
			must(t, syscall.Statfs(disk, &s))
			if s.Ffree <= inodes {
				return checkSpace(look(t, gv.Address()))
			}
			must(t, os.WriteFile(filepath.Join(disk, fmt.Sprint("file", inodes, ".", i)), nil, 0o600))
		}
	}
	expectAmong(t, leave(1000), OK, "inodes")
	expectAmong(t, leave(80), Warning, "inodes", "trash empty")
	full := leave(10)
	expectAmong(t, full, Failure, "inodes", "trash empty")
	expectAmong(t, full, OK, "space")
}

// TestNoSecrets: what lets a client write to the bricks is in no report.
func TestNoSecrets(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	info, err := os.ReadFile("/var/lib/glusterd/vols/" + gv.Name + "/info")
	must(t, err)
	text, err := json.Marshal(look(t, gv.Address()))
	must(t, err)
	for _, key := range []string{"username", "password"} {
		_, rest, _ := strings.Cut(string(info), "\n"+key+"=")
		secret, _, _ := strings.Cut(rest, "\n")
		if secret == "" || strings.Contains(string(text), secret) || strings.Contains(string(text), key) {
			t.Errorf("%s %q is in %s", key, secret, text)
		}
	}
}

// TestNoStore: somebody who has configured nothing is told how.
func TestNoStore(t *testing.T) {
	testnode.Require(t)
	n := alone(t)
	found := n.Examine(t.Context())
	expectAmong(t, found, Failure, "stores", "no store is configured", "glustervol init")
	expectAmong(t, found, Failure, "driver", errNotThere.Error())
	expectAmong(t, found, OK, "fuse")
}

// TestDriversReports: the driver's own look goes before that of this process.
func TestDriversReports(t *testing.T) {
	testnode.Require(t)
	n, driver := running(t)
	n.info.Stores = []volume.StoreInfo{{Address: "gfs1:/gv0"}}
	n.Report = func(_ context.Context, address gluster.Address) volume.StoreReport {
		return volume.StoreReport{Address: address.String(), Trouble: "seen by itself: " + address.String()}
	}
	driver.reports = []volume.StoreReport{{Address: "gfs1:/gv0", Trouble: "seen by the driver"}}
	expectAmong(t, n.Examine(t.Context()), Failure, "seen by the driver")
	driver.err = errors.New("it is older")
	driver.reports = nil
	expectAmong(t, n.Examine(t.Context()), Failure, "seen by itself")
	driver.err, n.StoresGiven, n.Stores = nil, true, []gluster.Address{parse(t, "gfs1:/other")}
	expectAmong(t, n.Examine(t.Context()), Failure, "seen by itself: gfs1:/other")
}
