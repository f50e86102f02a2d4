package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"
)

// TestExplore runs what nodes may do to one volume at once, in every order of
// their file operations, and with a node killed at every point. explore_test.go
// says how.
func TestExplore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, and ten times that with the race detector: 'sudo make test' runs it")
	}
	for _, s := range scenarios {
		for _, withDeaths := range []bool{false, true} {
			if withDeaths && s.noDeaths {
				continue
			}
			name := s.doc
			if withDeaths {
				name += ", and one is killed"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e := &explorer{t: t, scenario: s, withDeaths: withDeaths}
				start := time.Now()
				if err := e.explore(); err != nil {
					t.Error(err)
				}
				t.Logf("%d states in %d runs of at most %d operations, %s", len(e.seen), e.runs, e.deepest, time.Since(start).Round(time.Millisecond))
			})
		}
	}
}

// TestExplorerFinds has nodes look before they write: the explorer must find the
// order in which that goes wrong.
func TestExplorerFinds(t *testing.T) {
	for doc, processes := range map[string][]process{
		"a user that looks before it writes":    {{"a", useSwapped}, {"b", removeIt}},
		"a remover that looks before it writes": {{"a", useIt}, {"b", removeSwapped}},
		"two removers that do not make way":     {{"a", removeAlone}, {"b", removeThenRestore}},
	} {
		t.Run(doc, func(t *testing.T) {
			e := &explorer{t: t, scenario: scenario{prepare: oneVolume("a", "b"), processes: processes, check: wholeOrTrashed}}
			err := e.explore()
			if err == nil {
				t.Fatalf("nothing was found in %d states", len(e.seen))
			}
			t.Log(err)
		})
	}
}

var scenarios = []scenario{
	{
		doc: "one uses, another removes", prepare: oneVolume("a", "b"), check: wholeOrTrashed,
		processes: []process{{"a", useIt}, {"b", removeIt}},
	},
	{
		doc: "one uses and stops, another removes", prepare: oneVolume("a", "b"), check: wholeOrTrashed,
		processes: []process{{"a", useAndStop}, {"b", removeIt}},
	},
	{
		doc: "nodes that join while they use and remove", prepare: oneVolume(), check: wholeOrTrashed, strangers: true,
		processes: []process{{"a", useIt}, {"b", removeIt}},
	},
	{
		doc: "two remove", prepare: oneVolume("a", "b"), check: wholeOrTrashed,
		processes: []process{{"a", removeIt}, {"b", removeIt}},
	},
	{
		doc: "one removes, another removes and restores", prepare: oneVolume("a", "b"), check: wholeOrTrashed, noDeaths: true,
		processes: []process{{"a", removeIt}, {"b", removeThenRestore}},
	},
	{
		doc: "each removes once, and one restores", prepare: oneVolume("a", "b"), check: wholeOrTrashed,
		processes: []process{{"a", removeOnce}, {"b", removeOnceThenRestore}},
	},
	{
		doc: "one uses, two remove", prepare: oneVolume("a", "b", "c"), check: wholeOrTrashed, noDeaths: true, switches: 3,
		processes: []process{{"a", useIt}, {"b", removeOnce}, {"c", removeOnce}},
	},
	{
		doc: "two use, one removes", prepare: oneVolume("a", "b", "c"), check: wholeOrTrashed, noDeaths: true, switches: 3,
		processes: []process{{"a", useIt}, {"b", useIt}, {"c", removeOnce}},
	},
	{
		doc: "a remover is forgotten meanwhile, another uses", prepare: oneVolume("a", "b", "c"), check: wholeOrTrashed, noDeaths: true, switches: 3,
		processes: []process{{"a", removeOnce}, {"b", useIt}, {"c", forgetFirst}},
	},
	{
		doc: "a node that was forgotten comes back and uses, another removes",
		prepare: func(w *world) error {
			if err := oneVolume("a", "b")(w); err != nil {
				return err
			}
			return newMembers(w.fs, "b").forget(context.Background(), 0)
		},
		check: wholeOrTrashed, strangers: true,
		processes: []process{{"a", useIt}, {"b", removeIt}},
	},
	{
		doc: "two create", prepare: emptyStore, check: defined,
		processes: []process{{"a", createIt}, {"b", createIt}},
	},
	{
		doc: "one creates what another removes", prepare: oneVolume("a", "b"), check: atMostOne,
		processes: []process{{"a", removeIt}, {"b", createIt}},
	},
	{
		doc: "one removes, another restores", prepare: oneVolume("a", "b"), check: wholeOrTrashed,
		processes: []process{{"a", removeIt}, {"b", restoreIt}},
	},
	{
		doc: "one removes, another purges", prepare: oneVolume("a", "b"), check: atMostOne,
		processes: []process{{"a", removeIt}, {"b", purgeIt}},
	},
	{
		doc: "two restore", prepare: removedStore, check: wholeOrTrashed,
		processes: []process{{"a", restoreIt}, {"b", restoreIt}},
	},
	{
		doc: "one restores, another purges", prepare: removedStore, check: atMostOne,
		processes: []process{{"a", restoreIt}, {"b", purgeIt}},
	},
	{
		doc: "one restores, another uses", prepare: removedStore, check: wholeOrTrashed,
		processes: []process{{"a", restoreIt}, {"b", useIt}},
	},
}

// emptyStore is a store that two nodes have joined.
func emptyStore(w *world) error {
	c := newCatalog(w.fs, Node{ID: "first"})
	err := c.open(context.Background())
	for _, node := range []string{"a", "b"} {
		_, joinErr := newMembers(w.fs, node).join(context.Background())
		err = errors.Join(err, joinErr)
	}
	return err
}

// oneVolume is a store with the volume web, that nodes have joined.
func oneVolume(nodes ...string) func(w *world) error {
	return func(w *world) error {
		c := newCatalog(w.fs, Node{ID: "first"})
		if err := c.open(context.Background()); err != nil {
			return err
		}
		if err := c.fs.Mkdir(context.Background(), nodesDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, node := range nodes {
			if _, err := newMembers(w.fs, node).join(context.Background()); err != nil {
				return err
			}
		}
		if _, err := c.create(context.Background(), definition("web", nil), false); err != nil {
			return err
		}
		_, err := c.fs.Create(context.Background(), "volumes/web/f", []byte("data"))
		return err
	}
}

// removedStore is a store with the volume web in its trash.
func removedStore(w *world) error {
	if err := oneVolume("a", "b")(w); err != nil {
		return err
	}
	c := newCatalog(w.fs, Node{ID: "a"})
	def, err := c.read(context.Background(), "web")
	if err != nil {
		return err
	}
	return c.remove(context.Background(), def, false, unusedByAnyone)
}

// twice tries an operation again when another was in its way, and that was
// settled as far as it may.
func twice(ctx context.Context, c *catalog, operation func() error) error {
	err := operation()
	if errors.Is(err, errRemoving) || errors.Is(err, errClaimed) {
		if err := c.settle(ctx, func(string) (func(), bool) { return func() {}, true }); err != nil {
			return err
		}
		err = operation()
	}
	return err
}

func useIt(ctx context.Context, w *world, c *catalog) error {
	var def Definition
	err := twice(ctx, c, func() (err error) {
		if def, err = c.read(ctx, "web"); err == nil {
			err = c.refer(ctx, def)
		}
		return err
	})
	if err == nil {
		w.uses[c.node.ID] = def.ID
	}
	return err
}

func useAndStop(ctx context.Context, w *world, c *catalog) error {
	if err := useIt(ctx, w, c); err != nil {
		return err
	}
	id := w.uses[c.node.ID]
	if _, err := c.read(ctx, "web"); err != nil {
		return err
	}
	delete(w.uses, c.node.ID)
	return c.unrefer(ctx, id)
}

func useSwapped(ctx context.Context, w *world, c *catalog) error {
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	def, err := c.read(ctx, "web")
	if err != nil {
		return err
	}
	if err := c.lookReferred(ctx, def); err != nil {
		return err
	}
	if _, err := c.makeReference(ctx, referenceFile(number, def.ID)); err != nil {
		return err
	}
	w.uses[c.node.ID] = def.ID
	return nil
}

func removeIt(ctx context.Context, w *world, c *catalog) error {
	return twice(ctx, c, func() error { return removeOnce(ctx, w, c) })
}

func removeOnce(ctx context.Context, _ *world, c *catalog) error {
	def, err := c.read(ctx, "web")
	if err != nil {
		return err
	}
	return c.remove(ctx, def, false, unusedByAnyone)
}

// forgetFirst has the first node that joined be forgotten.
func forgetFirst(ctx context.Context, _ *world, c *catalog) error { return c.members.forget(ctx, 0) }

func removeSwapped(ctx context.Context, _ *world, c *catalog) error {
	return removeBy(ctx, c, func(def Definition, number int, write func() error) error {
		if err := c.lookRemoved(ctx, def, number, unusedByAnyone); err != nil {
			return err
		}
		return write()
	})
}

// removeAlone does not look for the tombstones of others.
func removeAlone(ctx context.Context, _ *world, c *catalog) error {
	return removeBy(ctx, c, func(def Definition, number int, write func() error) error {
		if err := write(); err != nil {
			return err
		}
		return c.defines(ctx, def)
	})
}

func removeBy(ctx context.Context, c *catalog, prepare func(def Definition, number int, write func() error) error) error {
	def, err := c.read(ctx, "web")
	if err != nil {
		return err
	}
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	r := record{Definition: def, By: c.node, Removed: new(time.Unix(1e9, 0))}
	file := tombstoneFile(def.entry(), number)
	err = prepare(def, number, func() error {
		_, err := c.writeRecord(ctx, file, r)
		return err
	})
	if err == nil {
		err = c.fs.Rename(ctx, file, trashFile(def.entry()))
	}
	if err != nil {
		return c.dropTombstone(ctx, file, err)
	}
	return c.finishRemoval(ctx, r)
}

func createIt(ctx context.Context, _ *world, c *catalog) error {
	return twice(ctx, c, func() error {
		_, err := c.create(ctx, definition("web", nil), false)
		if _, exists := errors.AsType[existsError](err); exists {
			return nil
		}
		return err
	})
}

func restoreIt(ctx context.Context, _ *world, c *catalog) error {
	list, _, err := c.trash(ctx, nil)
	if err != nil || len(list) == 0 {
		return err
	}
	return twice(ctx, c, func() error {
		_, err := c.restore(ctx, list[0].Entry, "again")
		return err
	})
}

func purgeIt(ctx context.Context, _ *world, c *catalog) error {
	list, _, err := c.trash(ctx, nil)
	if err != nil || len(list) == 0 {
		return err
	}
	return twice(ctx, c, func() error { return c.purge(ctx, list[0].Entry, nil) })
}

// removeThenRestore restores under the same name.
func removeThenRestore(ctx context.Context, w *world, c *catalog) error {
	if err := removeIt(ctx, w, c); err != nil {
		return err
	}
	return restoreSame(ctx, c)
}

func removeOnceThenRestore(ctx context.Context, w *world, c *catalog) error {
	if err := removeOnce(ctx, w, c); err != nil {
		return err
	}
	return restoreSame(ctx, c)
}

func restoreSame(ctx context.Context, c *catalog) error {
	list, _, err := c.trash(ctx, nil)
	if err != nil || len(list) == 0 {
		return err
	}
	_, err = c.restore(ctx, list[0].Entry, "web")
	return err
}

// wholeOrTrashed wants the volume web with its file, or that in the trash.
func wholeOrTrashed(w *world, c *catalog) error {
	if err := atMostOne(w, c); err != nil {
		return err
	}
	for _, file := range w.fs.files {
		if file.data == "data" {
			return nil
		}
	}
	return errors.New("the data is gone")
}

// atMostOne wants no half volume: a definition has its directory, an entry of
// the trash its data, and no data is anywhere else.
func atMostOne(w *world, c *catalog) error {
	ctx := context.Background()
	expected := map[string]bool{}
	for _, name := range []string{"web", "again"} {
		if def, err := c.read(ctx, name); err == nil {
			expected[def.Dir()] = true
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	list, damaged, err := c.trash(ctx, nil)
	if err != nil || len(damaged) > 0 {
		return fmt.Errorf("the trash has %v, %w", damaged, err)
	}
	for _, t := range list {
		if !t.Purging {
			expected[trashData(t.Entry)] = true
		}
	}
	for dir := range expected {
		if w.fs.files[dir] == nil {
			return fmt.Errorf("%s is gone", dir)
		}
	}
	for _, parent := range []string{dataDir, trashDir} {
		entries, err := c.fs.ReadDir(ctx, parent)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if name := parent + "/" + e.Name; e.Dir && !expected[name] && w.fs.files[name+purgingSuffix] == nil {
				return fmt.Errorf("%s is nobody's", name)
			}
		}
	}
	return nil
}

// defined wants the volume web, if somebody was told so.
func defined(w *world, c *catalog) error {
	if _, err := c.read(context.Background(), "web"); err != nil {
		for node, err := range w.told {
			if err == nil {
				return fmt.Errorf("node %s was told that the volume exists", node)
			}
		}
	}
	return atMostOne(w, c)
}
