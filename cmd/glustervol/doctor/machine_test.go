package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

func TestFUSE(t *testing.T) {
	n := alone(t)
	n.fuse = filepath.Join(t.TempDir(), "fuse")
	expect(t, n.checkFUSE(t.Context()), Failure, n.fuse, "no such file", "modprobe fuse")
	n.fuse = write(t, "fuse", "")
	expect(t, n.checkFUSE(t.Context()), OK, n.fuse)
}

func TestProgram(t *testing.T) {
	tells := func(text string) string { return write(t, "glusterfs", "#!/bin/sh\necho '"+text+"'\n") }
	n := alone(t)
	for _, tt := range []struct {
		program string
		level   Level
		words   []string
	}{
		{"/nonexistent/glusterfs", Failure, []string{"/nonexistent/glusterfs", "install glusterfs-client"}},
		{tells("glusterfs 9.6"), Failure, []string{"Gluster 9.6", "too old", "install"}},
		{tells("hello"), Failure, []string{"does not tell its version", "hello"}},
		{tells("glusterfs 11.1"), OK, []string{"Gluster 11.1"}},
	} {
		n.Glusterfs = tt.program
		expect(t, n.checkProgram(t.Context()), tt.level, tt.words...)
	}
	expect(t, managed(t).checkProgram(t.Context()), Skipped, "brings its own")
}

func TestVersions(t *testing.T) {
	n := alone(t)
	n.Glusterfs = write(t, "glusterfs", "#!/bin/sh\necho 'glusterfs 10.3'\n")
	for text, want := range map[string]Level{"100000": OK, "110000": Failure, "90000": Warning, "none": Skipped} {
		n.glusterdInfo = write(t, "glusterd.info", "UUID=1\noperating-version="+text+"\n")
		expect(t, n.checkVersions(t.Context()), want)
	}
	n.glusterdInfo = "/nonexistent/glusterd.info"
	expect(t, n.checkVersions(t.Context()), Skipped, "no glusterd on this node", "gluster volume get all cluster.op-version")
	n.Glusterfs = "/nonexistent/glusterfs"
	expect(t, n.checkVersions(t.Context()), Skipped, "does not tell its version")
	expect(t, managed(t).checkVersions(t.Context()), Skipped, "cluster.op-version")
}

func TestLibrary(t *testing.T) {
	n := alone(t)
	n.LoadAPI = func() error { return errors.New("libgfapi cannot be used: gone") }
	expect(t, n.checkLibrary(t.Context()), Warning, "gone", "install")
	n.LoadAPI = func() error { return nil }
	expect(t, n.checkLibrary(t.Context()), OK)

	n, _ = running(t)
	for want, control := range map[Level]volume.ControlInfo{
		Warning: {Kind: "fuse", Why: "libgfapi cannot be used: gone"},
		OK:      {Kind: "fuse", Why: "as asked for"},
	} {
		n.info.Stores = []volume.StoreInfo{{Control: control}}
		expect(t, n.checkLibrary(t.Context()), want, "control plane fuse", control.Why)
	}
}

func TestLogs(t *testing.T) {
	n := alone(t)
	expect(t, n.checkLogs(t.Context()), OK, "files: 0")
	grow := func(name string, size int64) {
		file := filepath.Join(n.LogDir, name)
		must(t, os.WriteFile(file, nil, 0o600))
		must(t, os.Truncate(file, size))
	}
	grow("gv0-1.log", 5<<20)
	expect(t, n.checkLogs(t.Context()), OK, "files: 1", "5MiB")
	grow("gv0-2.log", 200<<20)
	expect(t, n.checkLogs(t.Context()), Warning, "files: 2", "the largest is gv0-2.log", "remove old ones")
	grow("gv0-2.log", 10<<20)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		grow(name+".log.1", 90<<20)
	}
	expect(t, n.checkLogs(t.Context()), Warning, "files: 9")
}

func TestMounts(t *testing.T) {
	testnode.Require(t)
	n, _ := running(t)
	expect(t, n.checkMounts(t.Context()), OK)
	stray := filepath.Join(n.RunDir, "clients", "stray", "mnt")
	must(t, os.MkdirAll(stray, 0o755))
	must(t, syscall.Mount("gfs1:/gv0", stray, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, syscall.Unmount(stray, 0)) })
	expect(t, n.checkMounts(t.Context()), Warning, stray, "gfs1:/gv0", "umount "+stray)
	n.info.Clients = []mount.Status{{Key: "stray"}}
	expect(t, n.checkMounts(t.Context()), OK)

	n.infoErr = errNotThere
	expect(t, n.checkMounts(t.Context()), Warning, stray, "its driver's notes are gone")
	must(t, os.WriteFile(filepath.Join(filepath.Dir(stray), "source.json"), []byte("{}"), 0o600))
	expect(t, n.checkMounts(t.Context()), OK)
}
