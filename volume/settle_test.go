package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// free is settle's lock when nobody else is in this process.
func free(string) (unlock func(), ok bool) { return func() {}, true }

// TestSettledMeanwhile has another node take an operation for left behind, at
// every point of it, and finish it or take it back. The one whose operation it
// was goes on, and must not be told that it is done when it is not.
func TestSettledMeanwhile(t *testing.T) {
	for _, tt := range crashes {
		t.Run(tt.doc, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				d := newDisk(t)
				operation := tt.prepare(t, d.catalog(t, Node{ID: "node-c"}))
				other, slow := d.catalog(t, Node{ID: "node-a"}), d.catalog(t, Node{ID: "node-b"})
				left, where := n, ""
				d.set(func(_ context.Context, op, name string) error {
					if left--; left == 0 {
						where = fmt.Sprintf("settled before operation %d (%s %s)", n, op, name)
						d.set(nil)
						must(t, other.settle(t.Context(), free))
					}
					return nil
				})
				err := operation(slow)
				if where == "" {
					must(t, err)
					break
				}
				must(t, other.settle(t.Context(), free))
				for _, leftover := range underWay(t, other) {
					t.Errorf("%s: %s is left", where, leftover)
				}
				if err := tt.check(t.Context(), other, err == nil); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			}
		})
	}
}

// TestLostAnswer has the answer to a deciding rename be lost: it is looked at
// what is there, and the operation goes on.
func TestLostAnswer(t *testing.T) {
	tests := []struct {
		doc    string // an operation of crashes
		rename string // in the target's name
	}{
		{doc: "create", rename: definitionFile("web")},
		{doc: "create by adoption", rename: definitionFile("web")},
		{doc: "remove", rename: trashDir + "/web."},
		{doc: "restore", rename: restoringSuffix},
		{doc: "restore", rename: definitionFile("web")},
	}
	for _, tt := range tests {
		t.Run(tt.doc+", "+tt.rename, func(t *testing.T) {
			i := slices.IndexFunc(crashes, func(c crash) bool { return c.doc == tt.doc })
			for n := 1; ; n++ {
				store := plainDir(t)
				operation := crashes[i].prepare(t, openCatalog(t, store, testNode(1)))
				fault := &faultFS{FS: store, n: n, outcome: after, lives: true}
				dying := newCatalog(fault, testNode(2))
				dying.lookUpsAtOnce = 1 // the same order each time
				err := operation(dying)
				if fault.op == "" {
					t.Fatal("there was no such rename")
				}
				if _, to, _ := strings.Cut(fault.op, " to "); strings.HasPrefix(fault.op, "rename") && strings.Contains(to, tt.rename) {
					must(t, err)
					return
				}
			}
		})
	}
}

// TestLateClaim: a creation fails since the store does not answer, and its claim is
// written when another attempt has made the volume and it was removed again. It must
// neither come true then nor keep the volume from being restored.
func TestLateClaim(t *testing.T) {
	c := newDisk(t).catalog(t, testNode(1))
	entry := removedVolume(t, c, "web")
	late := record{Definition: definition("web", nil), By: c.node}
	late.ID = NewID()
	_, err := c.writeRecord(t.Context(), claimFile("web"), late)
	must(t, err)
	must(t, c.whileUnderWay(t.Context(), "web", func() error {
		_, err := c.restore(t.Context(), entry, "web")
		return err
	}))
	if now, err := c.read(t.Context(), "web"); err != nil || now.ID == late.ID {
		t.Errorf("restored: %+v, %v", now, err)
	}
}

// TestCreatedAndRemoved has another node remove a volume as soon as it is there.
func TestCreatedAndRemoved(t *testing.T) {
	m, _, d := oneStore(t)
	must(t, m.stores[0].refresh(t.Context()))
	other := newNode(t, "node-b", d).start(t)
	d.set(func(ctx context.Context, op, name string) error {
		if op == "read" && name == definitionFile("web") && d.has(name) {
			d.set(nil)
			must(t, other.Remove(ctx, "web", "", false))
		}
		return nil
	})
	must(t, m.Create(t.Context(), "web", nil))
	must(t, m.stores[0].refresh(t.Context()))
	wantNames(t, "volumes", knownNames(m.stores[0]))
	wantNothingUnderWay(t, d)
}

// leave puts onto the store what operations of a node have under way. It
// returns the files, with what settle makes of each.
func leave(t *testing.T, d *disk, by Node) (files map[string]bool, tombstone string) {
	t.Helper()
	c := d.catalog(t, by)
	ctx := t.Context()
	write := func(file string, r record) {
		r.By = by
		mustWrite(t, c, file, r)
	}
	claimed := definition("claimed", nil)
	write(claimFile("claimed"), record{Definition: claimed})

	removing := definition("removing", nil)
	mustCreate(t, c, removing, false)
	tombstone = ownTombstone(t, c, removing.entry())
	write(tombstone, record{Definition: removing, Removed: new(time.Now())})

	removed := definition("removed", nil)
	mustCreate(t, c, removed, false)
	write(trashFile(removed.entry()), record{Definition: removed, Removed: new(time.Now())})

	kept := definition("kept", nil)
	write(trashFile(kept.entry()), record{Definition: kept, Removed: new(time.Now()), KeepData: true})

	restored := removedVolume(t, c, "restored")
	restoring := definition("again", nil)
	claim := record{Definition: restoring, Restores: restored}
	must(t, c.fs.Rename(ctx, trashFile(restored), restoringFile(claim)))
	write(claimFile("again"), claim)

	return map[string]bool{ // is there before, and is not when it is settled
		claimFile("claimed"):       true,
		definitionFile("claimed"):  false,
		tombstone:                  true,
		definitionFile("removing"): true,
		definitionFile("removed"):  true,
		trashData(removed.entry()): false,
		trashFile(kept.entry()):    true,
		claimFile("again"):         true,
		trashData(restored):        true,
		restoringFile(claim):       true,
		definitionFile("again"):    false,
	}, tombstone
}

// TestPatience: what another node has under way is left alone until it has not
// changed for long; what this node's last driver had is settled at once.
func TestPatience(t *testing.T) {
	const patience = settlePatience
	tests := []struct {
		doc      string
		by       Node
		patience time.Duration
	}{
		{doc: "another node", by: Node{ID: "node-b", Session: "1"}, patience: patience},
		{doc: "this node's last driver", by: Node{ID: "node-a", Session: "0"}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk(t)
				files, tombstone := leave(t, d, tt.by)
				m := newNode(t, "node-a", d).start(t)
				settle := func() { must(t, m.settle(t.Context(), m.stores[0])) }
				if tt.patience > 0 {
					settle()
					time.Sleep(tombstonePatience)
					settle()
					if d.has(tombstone) {
						t.Error("a removal that is not committed was not taken back")
					}
					delete(files, tombstone)
					before := snapshot(t, d.dir)
					const pause = 10 * time.Second
					for range (patience-tombstonePatience)/pause - 1 {
						time.Sleep(pause)
						settle()
					}
					if !sameFiles(before, snapshot(t, d.dir)) {
						t.Error("something was settled before its time")
					}
					for file, there := range files {
						if d.has(file) != there {
							t.Errorf("%s is there: %v", file, !there)
						}
					}
					time.Sleep(pause)
				}
				settle()
				for file, there := range files {
					switch settled := d.has(file) != there; {
					case file == definitionFile("removing") && settled:
						t.Error("a removal that was not committed was carried out")
					case file != definitionFile("removing") && !settled:
						t.Errorf("%s is there still: %v", file, there)
					}
				}
				wantNothingUnderWay(t, d)
				must(t, m.stores[0].refresh(t.Context()))
				wantNames(t, "volumes", knownNames(m.stores[0]), "again", "claimed", "removing")
				if !hasFiles(t.Context(), m.stores[0].catalog.fs, "volumes/again") {
					t.Error("the volume was restored without its files")
				}
			})
		})
	}
}

// TestPatienceBegins anew with each operation of the same name.
func TestPatienceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		other := d.catalog(t, Node{ID: "node-b"})
		m := newNode(t, "node-a", d).start(t)
		for range 5 {
			mustWrite(t, other, claimFile("web"), record{Definition: definition("web", nil), By: other.node})
			for range 2 {
				must(t, m.settle(t.Context(), m.stores[0]))
				time.Sleep(settlePatience - time.Second)
				if !d.has(claimFile("web")) {
					t.Fatal("the claim of a live creator is gone")
				}
				must(t, other.fs.Remove(t.Context(), claimFile("web")))
				mustWrite(t, other, claimFile("web"), record{Definition: definition("web", nil), By: other.node})
			}
			must(t, other.fs.Remove(t.Context(), claimFile("web")))
		}
	})
}

// TestTornClaim is what a creator leaves that was killed in the middle of a write.
func TestTornClaim(t *testing.T) {
	good, err := record{Definition: definition("web", nil), By: Node{ID: "node-b"}}.encode()
	must(t, err)
	for doc, data := range map[string]string{
		"nothing":             "",
		"half of it":          string(good[:len(good)/2]),
		"of another volume":   strings.Replace(string(good), `"web"`, `"db"`, 1),
		"of a volume outside": strings.Replace(string(good), `"web"`, `"../web"`, 1),
	} {
		t.Run(doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, d := oneStore(t)
				must(t, m.stores[0].refresh(t.Context()))
				d.write(t, claimFile("web"), data)
				start := time.Now()
				must(t, m.Create(t.Context(), "web", nil))
				if waited := time.Since(start); waited < tornPatience || waited > tornPatience+2*retryPause {
					t.Errorf("created after %s, want %s", waited, tornPatience)
				}
				wantNothingUnderWay(t, d)
				if d.has("volumes/db") || d.has(definitionFile("db")) {
					t.Error("another volume was made of it")
				}
			})
		})
	}
}

// TestWaitForOtherNode has an operation of another node under way on the same
// name: this node's waits for its end, or for its own deadline.
func TestWaitForOtherNode(t *testing.T) {
	create := func(ctx context.Context, m *Manager) error { return m.Create(ctx, "web", nil) }
	remove := func(ctx context.Context, m *Manager) error { return m.Remove(ctx, "web", "", false) }
	mountIt := func(ctx context.Context, m *Manager) error { _, err := m.Mount(ctx, "web", "a"); return err }
	tests := []struct {
		doc string
		// begin begins the other node's operation and returns its end.
		begin func(t *testing.T, c *catalog) (end func() error)
		call  func(context.Context, *Manager) error
		want  error // once the other has ended
		text  string
		// deadline of a call that gives up, and the time in which the other ends:
		// together less than it may stand still.
		deadline, ends time.Duration
	}{
		{doc: "create, and the other creates", begin: creation(true), call: create, text: "another creation of this volume is under way", deadline: 50 * time.Second, ends: 20 * time.Second},
		{doc: "create, and the other gives up", begin: creation(false), call: create, text: "another creation", deadline: 50 * time.Second, ends: 20 * time.Second},
		{doc: "create, and the other's removal is committed", begin: removal(true), call: create, text: "a removal of this volume is under way", deadline: 50 * time.Second, ends: 20 * time.Second},
		{doc: "remove, and the other removes", begin: removal(false), call: remove, want: ErrNotFound, text: "a removal", deadline: 5 * time.Second, ends: 3 * time.Second},
		{doc: "remove, and the other is refused", begin: refusal, call: remove, text: "a removal", deadline: 5 * time.Second, ends: 3 * time.Second},
		{doc: "mount, and the other removes", begin: removal(false), call: mountIt, want: ErrNotFound, text: "a removal", deadline: 5 * time.Second, ends: 3 * time.Second},
		{doc: "mount, and the other is refused", begin: refusal, call: mountIt, text: "a removal", deadline: 5 * time.Second, ends: 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk(t)
				end := tt.begin(t, d.catalog(t, Node{ID: "node-b"}))
				m := newNode(t, "node-a", d).start(t)

				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				err := tt.call(ctx, m)
				wantText(t, err, tt.text)
				wantText(t, err, "does not end (context deadline exceeded)")
				if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNotFound) {
					t.Errorf("error %v tells something else of a store that has answered", err)
				}

				ended := make(chan error)
				start := time.Now()
				time.AfterFunc(tt.ends, func() { ended <- end() })
				wantIs(t, tt.call(t.Context(), m), tt.want)
				if waited := time.Since(start); waited < tt.ends || waited > tt.ends+retryPause {
					t.Errorf("waited %s", waited)
				}
				must(t, <-ended)
				wantNothingUnderWay(t, d)
			})
		})
	}
}

// creation begins to create the volume web.
func creation(goesWell bool) func(*testing.T, *catalog) func() error {
	return func(t *testing.T, c *catalog) func() error {
		r := record{Definition: definition("web", nil), By: c.node}
		_, err := c.claim(t.Context(), r)
		must(t, err)
		return func() error {
			if !goesWell {
				return c.dropClaim(t.Context(), r, nil)
			}
			_, err := c.makeDir(t.Context(), r, false)
			return errors.Join(err, c.define(t.Context(), r))
		}
	}
}

// removal begins to remove the volume web, up to the commit.
func removal(committed bool) func(*testing.T, *catalog) func() error {
	return func(t *testing.T, c *catalog) func() error {
		r := record{Definition: definition("web", nil), By: c.node, Removed: new(time.Now())}
		mustCreate(t, c, r.Definition, false)
		mustWrite(t, c, ownTombstone(t, c, r.entry()), r)
		commit := func() error {
			return c.fs.Rename(t.Context(), ownTombstone(t, c, r.entry()), trashFile(r.entry()))
		}
		if committed {
			must(t, commit())
			return func() error { return c.finishRemoval(t.Context(), r) }
		}
		return func() error { return errors.Join(commit(), c.finishRemoval(t.Context(), r)) }
	}
}

// refusal begins to remove the volume web, and finds that it is in use.
func refusal(t *testing.T, c *catalog) func() error {
	r := record{Definition: definition("web", nil), By: c.node, Removed: new(time.Now())}
	mustCreate(t, c, r.Definition, false)
	mustWrite(t, c, ownTombstone(t, c, r.entry()), r)
	return func() error { return c.dropTombstone(t.Context(), ownTombstone(t, c, r.entry()), nil) }
}

// TestSettleLeavesOwnOperations: an operation of this process is no leftover.
func TestSettleLeavesOwnOperations(t *testing.T) {
	d := newDisk(t)
	files, _ := leave(t, d, Node{ID: "node-a", Session: "1"})
	m := newNode(t, "node-a", d).start(t)
	for _, name := range []string{"claimed", "removing", "removed", "kept", "again", "restored"} {
		unlock, err := m.names.lock(t.Context(), name)
		must(t, err)
		defer unlock()
	}
	must(t, m.settle(t.Context(), m.stores[0]))
	for file, there := range files {
		if d.has(file) != there {
			t.Errorf("%s is there: %v", file, !there)
		}
	}
}

// TestNodesRace has two nodes create, remove and restore the same volumes at
// once. Each volume is whole or absent whenever somebody looks, and at the end
// nothing is left under way.
func TestNodesRace(t *testing.T) {
	d := newDisk(t)
	nodes := []*Manager{newNode(t, "node-a", d).start(t), newNode(t, "node-b", d).start(t)}
	must(t, nodes[0].stores[0].refresh(t.Context()))
	names := []string{"web", "db"}
	var wg sync.WaitGroup
	for _, m := range nodes {
		for range 4 {
			wg.Go(func() {
				for range 10 {
					name := names[rand.IntN(len(names))]
					switch rand.IntN(4) {
					case 0, 1:
						if err := m.Create(t.Context(), name, nil); err != nil {
							t.Errorf("create: %v", err)
						}
					case 2:
						if err := m.Remove(t.Context(), name, "", false); err != nil && !errors.Is(err, ErrNotFound) {
							t.Errorf("remove: %v", err)
						}
					case 3:
						if _, err := m.stores[0].lookUp(t.Context(), name); err != nil && !errors.Is(err, ErrNotFound) {
							t.Errorf("look up: %v", err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	wantNothingUnderWay(t, d)
	for _, m := range nodes {
		must(t, m.stores[0].refresh(t.Context()))
		for _, name := range names {
			_, err := m.Get(t.Context(), name)
			if (err == nil) != d.has(definitionFile(name)) || (err == nil) != d.has("volumes/"+name) {
				t.Errorf("%s: %v; its definition is there: %v, its directory: %v", name, err, d.has(definitionFile(name)), d.has("volumes/"+name))
			}
		}
	}
	if a, b := knownNames(nodes[0].stores[0]), knownNames(nodes[1].stores[0]); !slices.Equal(a, b) {
		t.Errorf("one node knows %q, the other %q", a, b)
	}
	list, err := nodes[0].Trash(t.Context())
	must(t, err)
	for _, entry := range list {
		if !d.has(trashData(entry.Entry)) {
			t.Errorf("%s is in the trash without its data", entry.Entry)
		}
	}
}
