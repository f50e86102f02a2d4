package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
)

// testNode is this node's n-th run.
func testNode(n int) Node { return Node{ID: "node-a", Session: fmt.Sprint(n)} }

func openCatalog(t testing.TB, store gluster.FS, node Node) *catalog {
	t.Helper()
	c := newCatalog(store, node)
	c.patience = 0
	if err := c.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func definition(name string, options map[string]string) Definition {
	r, err := ParseOptions(options)
	if err != nil {
		panic(err)
	}
	return Definition{Name: name, ID: NewID(), Created: time.Unix(1e9, 0).UTC(), Options: r.Options}
}

func unusedByAnyone(context.Context) error { return nil }

// addFiles puts files into a directory of the store.
func addFiles(t *testing.T, store gluster.FS, dir string) {
	t.Helper()
	for _, name := range []string{"one", "two", "three"} {
		if _, err := store.Create(t.Context(), path.Join(dir, name), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// hasFiles tells whether a directory has all that addFiles has put there.
func hasFiles(ctx context.Context, store gluster.FS, dir string) bool {
	list, err := store.ReadDir(ctx, dir)
	return err == nil && len(list) == 3
}

// crash is an operation on the catalog that is disturbed on its way.
type crash struct {
	doc string
	// prepare makes what the operation starts from and returns the operation.
	prepare func(t *testing.T, c *catalog) func(*catalog) error
	// check looks at what a fresh driver makes of it; done tells that the
	// operation was acknowledged before the process died.
	check func(ctx context.Context, c *catalog, done bool) error
}

// crashes are the operations on the catalog, each killed at every file
// operation on its way, with every outcome of that operation.
var crashes = []crash{
	{
		doc: "create",
		prepare: func(t *testing.T, _ *catalog) func(*catalog) error {
			def := definition("web", map[string]string{"mode": "1770"})
			return func(c *catalog) error { return onlyError(c.create(t.Context(), def, false)) }
		},
		check: func(ctx context.Context, c *catalog, done bool) error {
			return checkCreated(ctx, c, done, 0o770|fs.ModeSticky|fs.ModeDir, 0)
		},
	},
	{
		doc: "create by adoption",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			must(t, c.fs.Mkdir(t.Context(), "volumes/web", 0o755))
			addFiles(t, c.fs, "volumes/web")
			def := definition("web", map[string]string{"mode": "0700"})
			return func(c *catalog) error { return onlyError(c.create(t.Context(), def, true)) }
		},
		check: func(ctx context.Context, c *catalog, done bool) error {
			if !hasFiles(ctx, c.fs, "volumes/web") {
				return errors.New("the adopted files are gone")
			}
			if _, err := c.read(ctx, "web"); errors.Is(err, ErrNotFound) && !done {
				return nil
			}
			return checkCreated(ctx, c, done, 0o700|fs.ModeDir, 3)
		},
	},
	{
		doc: "create where an undefined directory is",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			must(t, c.fs.Mkdir(t.Context(), "volumes/web", 0o755))
			addFiles(t, c.fs, "volumes/web")
			def := definition("web", nil)
			return func(c *catalog) error {
				if _, err := c.create(t.Context(), def, false); err == nil {
					return errors.New("the directory was taken over")
				}
				return nil
			}
		},
		check: func(ctx context.Context, c *catalog, _ bool) error {
			if _, err := c.read(ctx, "web"); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("the directory became a volume: %w", err)
			}
			if !hasFiles(ctx, c.fs, "volumes/web") {
				return errors.New("the directory was changed")
			}
			return nil
		},
	},
	{
		doc: "remove",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			def := definition("web", nil)
			def = mustCreate(t, c, def, false)
			addFiles(t, c.fs, "volumes/web")
			return func(c *catalog) error { return c.remove(t.Context(), def, false, unusedByAnyone) }
		},
		check: func(ctx context.Context, c *catalog, done bool) error {
			return checkEither(ctx, c, done, false)
		},
	},
	{
		doc: "remove and keep the data",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			def := definition("web", nil)
			def = mustCreate(t, c, def, false)
			addFiles(t, c.fs, "volumes/web")
			return func(c *catalog) error { return c.remove(t.Context(), def, true, unusedByAnyone) }
		},
		check: func(ctx context.Context, c *catalog, done bool) error {
			if !hasFiles(ctx, c.fs, "volumes/web") {
				return errors.New("the data is gone")
			}
			if _, err := c.read(ctx, "web"); !errors.Is(err, ErrNotFound) && (done || err != nil) {
				return fmt.Errorf("the volume: %w", err)
			}
			return nil
		},
	},
	{
		doc: "a removal that is refused",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			def := definition("web", nil)
			def = mustCreate(t, c, def, false)
			addFiles(t, c.fs, "volumes/web")
			return func(c *catalog) error {
				err := c.remove(t.Context(), def, false, func(context.Context) error { return errors.New("in use") })
				if err == nil {
					return errors.New("it was not refused")
				}
				return nil
			}
		},
		check: func(ctx context.Context, c *catalog, _ bool) error {
			return checkVolume(ctx, c)
		},
	},
	{
		doc: "restore",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			entry := removedVolume(t, c, "web")
			return func(c *catalog) error { _, err := c.restore(t.Context(), entry, "web"); return err }
		},
		check: func(ctx context.Context, c *catalog, done bool) error {
			return checkEither(ctx, c, false, done)
		},
	},
	{
		doc: "purge",
		prepare: func(t *testing.T, c *catalog) func(*catalog) error {
			entry := removedVolume(t, c, "web")
			return func(c *catalog) error { return c.purge(t.Context(), entry, nil) }
		},
		check: checkPurge,
	},
}

// TestCrash has a driver die at every point of every operation, and a fresh
// one settle what is left: every volume is whole or absent, in the trash whole
// or not at all, and nothing is left under way.
func TestCrash(t *testing.T) { everywhere(t, false) }

// TestFailure is TestCrash, but the driver lives on: one file operation fails.
func TestFailure(t *testing.T) { everywhere(t, true) }

func everywhere(t *testing.T, lives bool) {
	t.Helper()
	for _, tt := range crashes {
		t.Run(tt.doc, func(t *testing.T) {
			t.Parallel()
			points := 0
			for n := 1; ; n++ {
				died := false
				for _, outcome := range []outcome{before, torn, after} {
					died = crashAt(t, tt, n, outcome, lives) || died
				}
				if !died {
					break
				}
				points++
			}
			if points < 3 {
				t.Errorf("the operation has only %d file operations; does the test reach it?", points)
			}
			t.Logf("%d points of death, 3 outcomes each", points)
		})
	}
}

func crashAt(t *testing.T, tt crash, n int, outcome outcome, lives bool) (died bool) {
	t.Helper()
	store := plainDir(t)
	operation := tt.prepare(t, openCatalog(t, store, testNode(1)))
	fault := &faultFS{FS: store, n: n, outcome: outcome, lives: lives}
	dying := newCatalog(fault, testNode(2))
	dying.lookUpsAtOnce = 1 // the same order each time
	dying.patience = 0
	err := operation(dying)
	died = fault.op != ""
	if !died && err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	// What was acknowledged must hold. A refusal is acknowledged by any error,
	// so the operations of the table turn it into nil themselves.
	done := err == nil
	fault.n = -1 // spent, though it may not have come to that
	where := fmt.Sprintf("died at operation %d (%s, outcome %d)", n, fault.op, outcome)

	fresh := dying
	if !lives {
		fresh = openCatalog(t, store, testNode(3))
	}
	for range 2 { // the second run finds nothing to do
		if err := fresh.settle(t.Context(), func(string) (func(), bool) { return func() {}, true }); err != nil {
			t.Errorf("%s: settle: %v", where, err)
		}
	}
	for _, leftover := range underWay(t, fresh) {
		t.Errorf("%s: %s is left", where, leftover)
	}
	if err := tt.check(t.Context(), fresh, done); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	return died
}

// underWay are the files that no settled store has.
func underWay(t *testing.T, c *catalog) (left []string) {
	t.Helper()
	leftovers, err := c.leftovers(t.Context())
	must(t, err)
	for file := range leftovers {
		if strings.HasSuffix(file, claimSuffix) || strings.HasSuffix(file, restoringSuffix) || path.Dir(file) == tombstoneDir {
			left = append(left, file)
		}
	}
	return left
}

// removedVolume makes a volume with files and removes it.
func removedVolume(t *testing.T, c *catalog, name string) (entry string) {
	t.Helper()
	def := definition(name, nil)
	mustCreate(t, c, def, false)
	addFiles(t, c.fs, def.Dir())
	must(t, c.remove(t.Context(), def, false, unusedByAnyone))
	return def.entry()
}

func onlyError(_ Definition, err error) error { return err }

// checkCreated wants a volume that is whole, or absent so that the same name
// can be created anew.
func checkCreated(ctx context.Context, c *catalog, done bool, mode fs.FileMode, files int) error {
	_, err := c.read(ctx, "web")
	if errors.Is(err, ErrNotFound) && !done {
		if _, err := c.create(ctx, definition("web", nil), false); err != nil {
			return fmt.Errorf("absent, but not to be created: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	info, err := c.fs.Lstat(ctx, "volumes/web")
	if err != nil {
		return fmt.Errorf("a definition without its directory: %w", err)
	}
	if info.Mode != mode {
		return fmt.Errorf("the directory has mode %v, want %v", info.Mode, mode)
	}
	if list, err := c.fs.ReadDir(ctx, "volumes/web"); err != nil || len(list) != files {
		return fmt.Errorf("the directory has %d files, want %d, %w", len(list), files, err)
	}
	return nil
}

// checkVolume wants the volume web with its files, and nothing in the trash.
func checkVolume(ctx context.Context, c *catalog) error {
	def, err := c.read(ctx, "web")
	if err == nil {
		err = errors.Join(c.refer(ctx, def), c.unrefer(ctx, def.ID))
	}
	if err != nil {
		return fmt.Errorf("the volume: %w", err)
	}
	if !hasFiles(ctx, c.fs, "volumes/web") {
		return errors.New("the volume has lost its files")
	}
	if list, damaged, err := c.trash(ctx, nil); len(list)+len(damaged) > 0 || err != nil {
		return fmt.Errorf("the trash has %v, %v, %w", list, damaged, err)
	}
	return nil
}

// checkEither wants the volume web whole, or in the trash whole, to be restored
// from there, and the name free. What was acknowledged has to be the one or the
// other.
func checkEither(ctx context.Context, c *catalog, removed, restored bool) error {
	_, err := c.read(ctx, "web")
	if err == nil && !removed {
		return checkVolume(ctx, c)
	}
	if !errors.Is(err, ErrNotFound) || restored {
		return fmt.Errorf("the volume: %w, removed %v, restored %v", err, removed, restored)
	}
	list, damaged, err := c.trash(ctx, nil)
	if len(list) != 1 || len(damaged) > 0 || err != nil {
		return fmt.Errorf("the trash has %v, %v, %w; want one entry", list, damaged, err)
	}
	if _, err := c.create(ctx, definition("web", nil), false); err != nil {
		return fmt.Errorf("the name is not free: %w", err)
	}
	if files, err := c.fs.ReadDir(ctx, "volumes/web"); err != nil || len(files) > 0 {
		return fmt.Errorf("a new volume of that name has %v, %w", files, err)
	}
	if _, err := c.restore(ctx, list[0].Entry, "again"); err != nil {
		return fmt.Errorf("not to be restored: %w", err)
	}
	if !hasFiles(ctx, c.fs, "volumes/again") {
		return errors.New("restored without its files")
	}
	return nil
}

// checkPurge wants the entry whole, or going and gone with the next purge.
func checkPurge(ctx context.Context, c *catalog, _ bool) error {
	list, _, err := c.trash(ctx, nil)
	if err != nil {
		return err
	}
	if len(list) == 1 && !list[0].Purging {
		return checkEither(ctx, c, true, false)
	}
	for _, t := range list {
		if _, err := c.restore(ctx, t.Entry, "web"); err == nil {
			return errors.New("half a volume was restored")
		}
		if err := c.purge(ctx, t.Entry, nil); err != nil {
			return fmt.Errorf("the purge does not go on: %w", err)
		}
	}
	if left, err := c.fs.ReadDir(ctx, trashDir); err != nil || len(left) > 0 {
		return fmt.Errorf("the trash has %v, %w", left, err)
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
