// Package fstest is the one suite that every implementation of gluster.FS
// passes. What it does not test, the catalog must not rely on.
package fstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
)

// Run runs the suite. open returns an empty FS and a directory of this machine
// that shows the same files, so that the suite can plant what FS itself never
// makes: symlinks, FIFOs, deep trees.
func Run(t *testing.T, open func(t *testing.T) (store gluster.FS, dir string)) {
	tests := []struct {
		name string
		run  func(t *testing.T, s suite)
	}{
		{"mkdir", testMkdir},
		{"create", testCreate},
		{"create is exclusive", testCreateExclusive},
		{"read only what is a file", testReadFile},
		{"readdir", testReadDir},
		{"rename", testRename},
		{"remove", testRemove},
		{"owner and mode", testOwner},
		{"usage", testUsage},
		{"names stay inside", testInside},
		{"remove a tree", testRemoveTree},
		{"remove a tree with symlinks", testRemoveTreeSymlinks},
		{"remove a deep tree", testRemoveTreeDeep},
		{"remove a tree that changes", testRemoveTreeChanging},
		{"deadline", testDeadline},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store, dir := open(t)
			tt.run(t, suite{FS: store, dir: dir, ctx: t.Context()})
		})
	}
}

type suite struct {
	gluster.FS
	dir string
	ctx context.Context
}

// create makes a file, and looks whether its inode number is that of the name.
func (s suite) create(t *testing.T, name string, data []byte) {
	t.Helper()
	inode, err := s.Create(s.ctx, name, data)
	must(t, err)
	if info, err := s.Lstat(s.ctx, name); err != nil || info.Inode != inode {
		t.Errorf("%s: inode %d, and by look-up %d, %v", name, inode, info.Inode, err)
	}
}

func testMkdir(t *testing.T, s suite) {
	for _, mode := range []fs.FileMode{0o755, 0o700, 0o777, 0o1777&^0o1000 | fs.ModeSticky, 0o770 | fs.ModeSetgid} {
		name := fmt.Sprintf("d%o", uint32(mode))
		must(t, s.Mkdir(s.ctx, name, mode))
		info, err := s.Lstat(s.ctx, name)
		must(t, err)
		if want := mode | fs.ModeDir; info.Mode != want {
			t.Errorf("mode of %s: %v, want %v", name, info.Mode, want)
		}
	}
	wantIs(t, "mkdir of what exists", s.Mkdir(s.ctx, "d755", 0o755), fs.ErrExist)
	wantIs(t, "mkdir without its parent", s.Mkdir(s.ctx, "no/where", 0o755), fs.ErrNotExist)
}

func testCreate(t *testing.T, s suite) {
	data := []byte("one\ntwo\n")
	s.create(t, "f", data)
	got, err := s.ReadFile(s.ctx, "f")
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("read %q, want %q", got, data)
	}
	_, err = s.Create(s.ctx, "f", []byte("x"))
	wantIs(t, "create of what exists", err, fs.ErrExist)
	s.create(t, "empty", nil)
	if got, err := s.ReadFile(s.ctx, "empty"); err != nil || len(got) != 0 {
		t.Errorf("empty file: %q, %v", got, err)
	}
	plant(t, os.Symlink("nowhere", filepath.Join(s.dir, "dangling")))
	_, err = s.Create(s.ctx, "dangling", nil)
	wantIs(t, "create through a symlink", err, fs.ErrExist)
	_, err = s.Lstat(s.ctx, "nowhere")
	wantIs(t, "look-up of a name that nobody made", err, fs.ErrNotExist)
}

func testCreateExclusive(t *testing.T, s suite) {
	for round := range 10 {
		var winners atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := s.Create(s.ctx, fmt.Sprintf("race%d", round), fmt.Appendf(nil, "writer %d", i))
				if err == nil {
					winners.Add(1)
				} else if !errors.Is(err, fs.ErrExist) {
					t.Errorf("loser: %v", err)
				}
			})
		}
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d: %d of 8 writers created the file", round, n)
		}
	}
}

func testReadFile(t *testing.T, s suite) {
	_, err := s.ReadFile(s.ctx, "absent")
	wantIs(t, "read of nothing", err, fs.ErrNotExist)

	must(t, s.Mkdir(s.ctx, "d", 0o755))
	s.create(t, "f", []byte("x"))
	plant(t, os.Symlink("f", filepath.Join(s.dir, "link")))
	plant(t, unix.Mkfifo(filepath.Join(s.dir, "fifo"), 0o600))
	plant(t, writeSynced(filepath.Join(s.dir, "huge"), make([]byte, gluster.MaxFileSize+1)))
	for _, name := range []string{"d", "link", "fifo", "huge"} {
		_, err := s.ReadFile(s.ctx, name)
		wantIs(t, "read of "+name, err, fs.ErrInvalid)
	}
}

// writeSynced writes a file through the mount. On a dispersed volume other clients see its
// size of before for a moment, until it is synced.
func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func testReadDir(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "d", 0o755))
	if list, err := s.ReadDir(s.ctx, "d"); err != nil || len(list) != 0 {
		t.Errorf("empty directory: %v, %v", list, err)
	}
	want := []gluster.Entry{{Name: "a"}, {Name: "b", Dir: true}, {Name: "c"}}
	s.create(t, "d/a", nil)
	must(t, s.Mkdir(s.ctx, "d/b", 0o755))
	plant(t, os.Symlink("b", filepath.Join(s.dir, "d/c")))
	for i := range 400 { // more than one getdents(2) buffer of Go
		name := fmt.Sprintf("n%04d", i)
		plant(t, emptyFile(filepath.Join(s.dir, "d", name), 0o600))
		want = append(want, gluster.Entry{Name: name})
	}
	got, err := s.ReadDir(s.ctx, "d")
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d: %v…", len(got), len(want), got[:min(4, len(got))])
	}
	_, err = s.ReadDir(s.ctx, "absent")
	wantIs(t, "list of nothing", err, fs.ErrNotExist)
	if _, err := s.ReadDir(s.ctx, "d/a"); err == nil {
		t.Error("a file was listed")
	}
	if _, err := s.ReadDir(s.ctx, "d/c"); err == nil {
		t.Error("a symlink was followed and listed")
	}
}

func testRename(t *testing.T, s suite) {
	number, err := s.Create(s.ctx, "old", []byte("new content"))
	must(t, err)
	s.create(t, "target", []byte("old content"))
	must(t, s.Rename(s.ctx, "old", "target"))
	if got, err := s.ReadFile(s.ctx, "target"); err != nil || string(got) != "new content" {
		t.Errorf("after the rename: %q, %v", got, err)
	}
	if info, err := s.Lstat(s.ctx, "target"); err != nil || info.Inode != number {
		t.Errorf("inode %d renamed is %d, %v", number, info.Inode, err)
	}
	_, err = s.Lstat(s.ctx, "old")
	wantIs(t, "the old name", err, fs.ErrNotExist)
	wantIs(t, "rename of nothing", s.Rename(s.ctx, "old", "other"), fs.ErrNotExist)

	must(t, s.Mkdir(s.ctx, "d", 0o755))
	must(t, s.Mkdir(s.ctx, "to", 0o755))
	s.create(t, "d/f", []byte("x"))
	before, err := s.Lstat(s.ctx, "d")
	must(t, err)
	must(t, s.Rename(s.ctx, "d", "to/d"))
	if got, err := s.ReadFile(s.ctx, "to/d/f"); err != nil || string(got) != "x" {
		t.Errorf("a file in the moved directory: %q, %v", got, err)
	}
	moved, err := s.Lstat(s.ctx, "to/d")
	must(t, err)
	if seen := inode(t, filepath.Join(s.dir, "to/d")); moved.Inode != seen {
		t.Errorf("inode %d is another than a mount shows, %d", moved.Inode, seen)
	}
	must(t, s.Mkdir(s.ctx, "d", 0o755))
	if anew, err := s.Lstat(s.ctx, "d"); err != nil || moved.Inode != before.Inode || anew.Inode == moved.Inode {
		t.Errorf("inode %d moved is %d, and made anew %d, %v", before.Inode, moved.Inode, anew.Inode, err)
	}
	must(t, s.Mkdir(s.ctx, "full", 0o755))
	s.create(t, "full/f", nil)
	if err := s.Rename(s.ctx, "to/d", "full"); err == nil {
		t.Error("a rename replaced a directory with a file in it")
	}
}

func testRemove(t *testing.T, s suite) {
	s.create(t, "f", nil)
	must(t, s.Mkdir(s.ctx, "d", 0o755))
	s.create(t, "d/f", nil)
	plant(t, os.Symlink("d", filepath.Join(s.dir, "link")))
	if err := s.Remove(s.ctx, "d"); err == nil {
		t.Error("a directory with a file in it was removed")
	}
	for _, name := range []string{"f", "link", "d/f", "d"} {
		must(t, s.Remove(s.ctx, name))
		_, err := s.Lstat(s.ctx, name)
		wantIs(t, name, err, fs.ErrNotExist)
	}
	wantIs(t, "remove of nothing", s.Remove(s.ctx, "f"), fs.ErrNotExist)
}

func testOwner(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "d", 0o755))
	before, err := s.Lstat(s.ctx, "d")
	must(t, err)
	must(t, s.Chmod(s.ctx, "d", 0o750|fs.ModeSetgid))
	if os.Getuid() == 0 {
		must(t, s.Chown(s.ctx, "d", 1234, -1))
		must(t, s.Chown(s.ctx, "d", -1, 999))
		before.UID, before.GID = 1234, 999
	} else {
		must(t, s.Chown(s.ctx, "d", before.UID, -1))
	}
	must(t, s.Chmod(s.ctx, "d", 0o750|fs.ModeSetgid)) // chown may take setgid off
	want := gluster.Info{Mode: 0o750 | fs.ModeSetgid | fs.ModeDir, UID: before.UID, GID: before.GID, Inode: before.Inode}
	if got, err := s.Lstat(s.ctx, "d"); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	plant(t, os.Symlink("d", filepath.Join(s.dir, "link")))
	if err := s.Chmod(s.ctx, "link", 0o777); err == nil {
		t.Error("chmod followed a symlink")
	}
	must(t, s.Chown(s.ctx, "link", before.UID, before.GID))
	if got, err := s.Lstat(s.ctx, "d"); err != nil || got != want {
		t.Errorf("changed through a symlink: %+v, %v; want %+v", got, err, want)
	}
	wantIs(t, "chmod of nothing", s.Chmod(s.ctx, "absent", 0o755), fs.ErrNotExist)
	wantIs(t, "chown of nothing", s.Chown(s.ctx, "absent", 0, 0), fs.ErrNotExist)
}

func testUsage(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "d", 0o755))
	usage, err := s.Usage(s.ctx, "d")
	must(t, err)
	if usage.Total == 0 || usage.Free > usage.Total || usage.Inodes == 0 || usage.FreeInodes > usage.Inodes {
		t.Errorf("usage %+v", usage)
	}
	_, err = s.Usage(s.ctx, "absent")
	wantIs(t, "usage of nothing", err, fs.ErrNotExist)
}

func testInside(t *testing.T, s suite) {
	outside := t.TempDir()
	plant(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	plant(t, os.Symlink(outside, filepath.Join(s.dir, "out")))
	plant(t, os.Symlink("/", filepath.Join(s.dir, "rootlink")))
	for _, name := range []string{"out/secret", "../secret", "rootlink" + outside + "/secret", outside + "/secret"} {
		if got, err := s.ReadFile(s.ctx, name); err == nil {
			t.Errorf("read %q from %s", got, name)
		}
		if _, err := s.Create(s.ctx, name+"2", nil); err == nil {
			t.Errorf("created %s", name+"2")
		}
		if err := s.Remove(s.ctx, name); err == nil {
			t.Errorf("removed %s", name)
		}
		if err := s.RemoveTree(s.ctx, filepath.Dir(name), nil); err == nil {
			t.Errorf("removed all of %s", filepath.Dir(name))
		}
	}
	if got, err := os.ReadDir(outside); err != nil || len(got) != 1 {
		t.Errorf("outside of the store: %v, %v; want the one file that was there", got, err)
	}
}

func testRemoveTree(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "tree", 0o755))
	s.create(t, "tree2", nil)
	made := 1
	for i := range 5 {
		dir := filepath.Join(s.dir, "tree", fmt.Sprintf("d%d", i), "e")
		plant(t, os.MkdirAll(dir, 0o755))
		made += 2
		files := 300 // more than RemoveTree takes at once
		if i > 0 {
			files = 5
		}
		for j := range files {
			plant(t, emptyFile(filepath.Join(dir, fmt.Sprint(j)), 0o400))
			made++
		}
	}
	plant(t, unix.Mkfifo(filepath.Join(s.dir, "tree/fifo"), 0o600))
	plant(t, os.WriteFile(filepath.Join(s.dir, "tree", "odd \n\x01\xff name"), nil, 0o600))
	made += 2

	ctx, cancel := context.WithCancelCause(s.ctx)
	stop := errors.New("enough")
	err := s.RemoveTree(ctx, "tree", func(int) { cancel(stop) })
	wantIs(t, "a stopped removal", err, stop)
	var removed atomic.Int64
	must(t, s.RemoveTree(s.ctx, "tree", func(n int) { removed.Add(int64(n)) }))
	if n := removed.Load(); n == 0 || n >= int64(made) {
		t.Errorf("the second removal counts %d of %d entries", n, made)
	}
	_, err = s.Lstat(s.ctx, "tree")
	wantIs(t, "the tree", err, fs.ErrNotExist)
	wantIs(t, "removal of nothing", s.RemoveTree(s.ctx, "tree", nil), fs.ErrNotExist)
	if err := s.RemoveTree(s.ctx, "tree2", nil); err == nil {
		t.Error("a file was removed as a tree")
	}
}

func testRemoveTreeSymlinks(t *testing.T, s suite) {
	outside := t.TempDir()
	plant(t, os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600))
	must(t, s.Mkdir(s.ctx, "neighbour", 0o755))
	s.create(t, "neighbour/keep", nil)
	must(t, s.Mkdir(s.ctx, "tree", 0o755))
	for i, target := range []string{outside, "/etc", "../neighbour", "..", "."} {
		plant(t, os.Symlink(target, filepath.Join(s.dir, "tree", fmt.Sprint(i))))
	}
	plant(t, os.Link(filepath.Join(s.dir, "neighbour/keep"), filepath.Join(s.dir, "tree/hard")))
	must(t, s.RemoveTree(s.ctx, "tree", nil))

	plant(t, os.Symlink(filepath.Join(s.dir, "neighbour"), filepath.Join(s.dir, "tree")))
	if err := s.RemoveTree(s.ctx, "tree", nil); err == nil {
		t.Error("a symlink was removed as a tree")
	}
	for _, kept := range []string{filepath.Join(outside, "keep"), filepath.Join(s.dir, "neighbour/keep"), "/etc/passwd"} {
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("%s is gone: %v", kept, err)
		}
	}
}

func testRemoveTreeDeep(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "tree", 0o755))
	// Longer than PATH_MAX, and deeper than any stack of descriptors. Gluster
	// itself ends at some depth, and each level costs it as much as all above.
	const levels, least = 150, 110
	dir, err := os.Open(filepath.Join(s.dir, "tree"))
	plant(t, err)
	defer func() { dir.Close() }()
	for level := range levels {
		sub, err := mkdirBelow(dir)
		if err != nil && level >= least {
			break
		}
		plant(t, err)
		must(t, dir.Close())
		dir = sub
	}
	must(t, dir.Close())
	must(t, s.RemoveTree(s.ctx, "tree", nil))
	_, err = s.Lstat(s.ctx, "tree")
	wantIs(t, "the tree", err, fs.ErrNotExist)
}

func mkdirBelow(dir *os.File) (*os.File, error) {
	const name = "a directory that has a long name"
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// testRemoveTreeChanging swaps directories of the tree for symlinks to a
// neighbour while it is removed.
func testRemoveTreeChanging(t *testing.T, s suite) {
	must(t, s.Mkdir(s.ctx, "neighbour", 0o755))
	for i := range 50 {
		s.create(t, fmt.Sprintf("neighbour/%d", i), nil)
	}
	for round := range 4 {
		tree := filepath.Join(s.dir, "tree")
		for i := range 20 {
			plant(t, os.MkdirAll(filepath.Join(tree, fmt.Sprintf("d%d/e", i)), 0o755))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 20 {
				d := filepath.Join(tree, fmt.Sprintf("d%d", i))
				// Either may come too late, which is the point of the race.
				_ = os.Rename(d, filepath.Join(s.dir, fmt.Sprintf("away%d-%d", round, i)))
				_ = os.Symlink("../neighbour", d)
			}
		})
		err := s.RemoveTree(s.ctx, "tree", nil)
		wg.Wait()
		if err != nil {
			must(t, s.RemoveTree(s.ctx, "tree", nil))
		}
	}
	if list, err := s.ReadDir(s.ctx, "neighbour"); err != nil || len(list) != 50 {
		t.Errorf("the neighbour has %d of its 50 files, %v", len(list), err)
	}
}

func testDeadline(t *testing.T, s suite) {
	ctx, cancel := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancel()
	wantIs(t, "mkdir", s.Mkdir(ctx, "d", 0o755), context.DeadlineExceeded)
	_, err := s.ReadDir(ctx, ".")
	wantIs(t, "readdir", err, context.DeadlineExceeded)
	_, err = s.Lstat(s.ctx, "d")
	wantIs(t, "what a late mkdir made", err, fs.ErrNotExist)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inode is what a directory's inode number is to who looks at dir.
func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	plant(t, unix.Lstat(path, &stat))
	return stat.Ino
}

// emptyFile makes a file in one operation, where opening it to write takes several.
func emptyFile(path string, mode uint32) error { return unix.Mknod(path, unix.S_IFREG|mode, 0) }

// plant is must for what the suite does behind the FS's back.
func plant(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal("set-up: ", err)
	}
}

func wantIs(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		text := strings.TrimSpace(fmt.Sprint(err))
		t.Errorf("%s: error %q, want %q", what, text, target)
	}
}
