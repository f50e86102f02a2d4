package gluster_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/fstest"
	"github.com/glustervol/glustervol/hack/testnode"
)

// TestAPI runs the suite on real Gluster volumes over libgfapi.
func TestAPI(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.doc, func(t *testing.T) {
			gv := testnode.NewGlusterVolume(t, kind.bricks, "", kind.args...)
			// What the suite plants through a mount has to be seen there at once too.
			testnode.RunGluster(t, "volume", "set", gv.Name, "performance.stat-prefetch", "off")
			mountPoint := mountVolume(t, gv)
			n := 0
			fstest.Run(t, func(t *testing.T) (gluster.FS, string) {
				n++
				name := fmt.Sprintf("store%d", n)
				run(t, "mkdir", filepath.Join(mountPoint, name))
				return openAPI(t, gv.Address()+"/"+name), filepath.Join(mountPoint, name)
			})
		})
	}
}

// openAPI connects to a store. It is left open: to end it takes 9 s, and the
// process ends soon.
func openAPI(t *testing.T, store string) *gluster.API {
	t.Helper()
	api := newAPI(t, store)
	must(t, api.Connect(t.Context()))
	return api
}

func newAPI(t *testing.T, store string, keep ...string) *gluster.API {
	t.Helper()
	address, err := gluster.ParseAddress(store)
	must(t, err)
	api, err := gluster.NewAPI(address, filepath.Join(t.TempDir(), "log"), keep...)
	must(t, err)
	return api
}

// TestAPIFresh has one node change files and the other look at once.
func TestAPIFresh(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	a, b := openAPI(t, gv.Address()), openAPI(t, gv.Address())
	must(t, a.Mkdir(t.Context(), "d", 0o755))
	for i := range 200 {
		text := fmt.Sprint(i)
		_, err := a.Create(t.Context(), "d/new", []byte(text))
		must(t, err)
		must(t, a.Rename(t.Context(), "d/new", "d/f"))
		if got, err := b.ReadFile(t.Context(), "d/f"); err != nil || string(got) != text {
			t.Fatalf("round %d: the other node reads %q, %v", i, got, err)
		}
		must(t, b.Remove(t.Context(), "d/f"))
		if _, err := a.Lstat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: a removed file is seen: %v", i, err)
		}
	}
}

// TestAPIKept: a directory whose handle is kept is removed, and perhaps made anew, by
// another node. What is made in it goes to the one that is there.
func TestAPIKept(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	api, other := newAPI(t, gv.Address(), "d"), openAPI(t, gv.Address())
	must(t, api.Connect(t.Context()))
	data := []byte("text")
	for name, change := range map[string]func() error{
		"create": func() error { _, err := api.Create(t.Context(), "d/new", data); return err },
		"mkdir":  func() error { return api.Mkdir(t.Context(), "d/new", 0o755) },
		"rename": func() error { return api.Rename(t.Context(), "file", "d/new") },
	} {
		t.Run(name, func(t *testing.T) {
			keep := func() { // its handle
				must(t, other.Mkdir(t.Context(), "d", 0o755))
				if _, err := api.Lstat(t.Context(), "d/new"); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("a file that nobody has made: %v", err)
				}
				must(t, other.Remove(t.Context(), "d"))
			}
			if name == "rename" {
				_, err := api.Create(t.Context(), "file", data)
				must(t, err)
			}
			keep()
			if err := change(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in a directory that was removed: %v", err)
			}
			keep()
			must(t, other.Mkdir(t.Context(), "d", 0o755))
			must(t, change())
			if _, err := other.Lstat(t.Context(), "d/new"); err != nil {
				t.Errorf("another node: %v", err)
			}
			must(t, other.Remove(t.Context(), "d/new"))
			must(t, other.Remove(t.Context(), "d"))
		})
	}
}

// TestAlwaysThere: a file that is replaced again and again is never missed.
func TestAlwaysThere(t *testing.T) { overBothPlanes(t, testAlwaysThere) }

// overBothPlanes runs a test of a reader of either kind and a writer.
func overBothPlanes(t *testing.T, test func(t *testing.T, reader, writer gluster.FS)) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	writer := openAPI(t, gv.Address())
	t.Run("gfapi", func(t *testing.T) { test(t, openAPI(t, gv.Address()), writer) })
	t.Run("fuse", func(t *testing.T) {
		reader, err := gluster.OpenDir(t.Context(), mountVolume(t, gv))
		must(t, err)
		t.Cleanup(func() { must(t, reader.Close()) })
		test(t, reader, writer)
	})
}

func testAlwaysThere(t *testing.T, reader, writer gluster.FS) {
	if err := writer.Remove(t.Context(), "file"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	_, err := writer.Create(t.Context(), "file", []byte("file"))
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		for range 1000 {
			_, err := writer.Create(t.Context(), "draft", []byte("file"))
			if err = errors.Join(err, writer.Rename(t.Context(), "draft", "file")); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for {
		if data, err := reader.ReadFile(t.Context(), "file"); err != nil || string(data) != "file" {
			t.Fatalf("read: %q, %v", data, err)
		}
		_, err := reader.Lstat(t.Context(), "file")
		must(t, err)
		select {
		case err := <-ended:
			must(t, err)
			return
		default:
		}
	}
}

// residentSize is the memory of this process in bytes, after a collection.
func residentSize(t *testing.T) int {
	t.Helper()
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	must(t, err)
	var total, resident int
	if _, err := fmt.Sscan(string(data), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplaced: who uses a file that somebody else replaces or removes again and
// again finds one of them or none, and never one that is gone.
func TestReplaced(t *testing.T) { overBothPlanes(t, testReplaced) }

func testReplaced(t *testing.T, reader, writer gluster.FS) {
	const rounds = 150
	ended := make(chan error, 1)
	go func() {
		for range rounds {
			for _, step := range []func() error{
				func() error { _, err := writer.Create(t.Context(), "draft", []byte("file")); return err },
				func() error { return writer.Rename(t.Context(), "draft", "file") },
				func() error { _, err := writer.Create(t.Context(), "draft", []byte("file")); return err },
				func() error { return writer.Rename(t.Context(), "draft", "file") },
				func() error { return writer.Remove(t.Context(), "file") },
			} {
				if err := step(); err != nil {
					ended <- err
					return
				}
			}
		}
		ended <- nil
	}()
	found, missed := 0, 0
	for {
		data, readErr := reader.ReadFile(t.Context(), "file")
		chownErr := reader.Chown(t.Context(), "file", 7, -1)
		for _, err := range []error{readErr, chownErr} {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		switch {
		case readErr != nil:
			missed++
		case string(data) != "file":
			t.Fatalf("half a file: %q", data)
		default:
			found++
		}
		select {
		case err := <-ended:
			must(t, err)
			if found == 0 || missed == 0 {
				t.Errorf("the file was found %d times and missed %d times", found, missed)
			}
			return
		default:
		}
	}
}

// TestAPITornRename has the bricks of a replica disagree about a file, as they do when the
// machine that was replacing it dies between two of them: Gluster marks nothing then
// (cluster.optimistic-change-log), and says EIO for ever unless it is told who is right.
func TestAPITornRename(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	for torn := range gv.Bricks {
		dir := fmt.Sprint("dir", torn)
		writer := openAPI(t, gv.Address())
		must(t, writer.Mkdir(t.Context(), dir, 0o755))
		for _, file := range []string{"file", "draft"} {
			_, err := writer.Create(t.Context(), dir+"/"+file, []byte(file))
			must(t, err)
		}
		must(t, os.Rename(filepath.Join(gv.Bricks[torn], dir, "draft"), filepath.Join(gv.Bricks[torn], dir, "file")))

		api := openAPI(t, gv.Address())
		if data, err := api.ReadFile(t.Context(), dir+"/file"); err != nil || string(data) != "file" {
			t.Errorf("brick %d has the new one: it reads %q, %v", torn, data, err)
		}
		_, err := api.Create(t.Context(), dir+"/again", []byte("again"))
		must(t, err)
		if err := api.Rename(t.Context(), dir+"/again", dir+"/file"); err != nil {
			t.Errorf("brick %d has the new one: %v", torn, err)
		}
		if data, err := api.ReadFile(t.Context(), dir+"/file"); err != nil || string(data) != "again" {
			t.Errorf("replaced, it reads %q, %v", data, err)
		}
		if err := api.RemoveTree(t.Context(), dir, nil); err != nil {
			t.Errorf("brick %d has the new one: %v", torn, err)
		}
	}
}

// TestAPIRemoveTreeTogether has three nodes remove the same tree at once.
func TestAPIRemoveTreeTogether(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 3, "", "replica", "3")
	nodes := []*gluster.API{openAPI(t, gv.Address()), openAPI(t, gv.Address()), openAPI(t, gv.Address())}
	for round := range 15 {
		must(t, nodes[0].Mkdir(t.Context(), "tree", 0o755))
		for i := range 3 {
			dir := fmt.Sprint("tree/", i)
			must(t, nodes[0].Mkdir(t.Context(), dir, 0o755))
			_, err := nodes[0].Create(t.Context(), dir+"/file", nil)
			must(t, err)
		}
		var wg sync.WaitGroup
		for i, node := range nodes {
			wg.Go(func() {
				if err := node.RemoveTree(t.Context(), "tree", nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("round %d, node %d: %v", round, i, err)
				}
			})
		}
		wg.Wait()
		if _, err := nodes[0].Lstat(t.Context(), "tree"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: the tree is there: %v", round, err)
		}
	}
}
