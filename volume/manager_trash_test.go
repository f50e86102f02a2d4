package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// trashed creates a volume with a file that tells its text, and removes it.
func trashed(t *testing.T, m *Manager, d *disk, name, text string, options map[string]string) (entry string) {
	t.Helper()
	must(t, m.Create(t.Context(), name, options))
	v, err := m.Get(t.Context(), name)
	must(t, err)
	d.write(t, v.Dir()+"/f", text)
	must(t, m.Remove(t.Context(), name, "", false))
	return v.entry()
}

func TestTrash(t *testing.T) {
	m, _, one, two := twoStores(t)
	var want []string
	for i, name := range []string{"web", "db", "web"} {
		d, store := one, "gfs1:/one"
		if i == 1 {
			d, store = two, "gfs1:/two"
		}
		entry := trashed(t, m, d, name, "", map[string]string{"store": store})
		want = append(want, fmt.Sprintf("%s %s %s", entry, name, store))
	}
	two.set(failWith(unix.ENOTCONN))
	list, err := m.Trash(t.Context())
	wantIs(t, err, ErrUnreachable)
	wantNames(t, "the trash with a store down", entries(list), want[0], want[2])

	two.set(nil)
	two.write(t, trashFile("x.0123456789abcdef"), "{")
	one.write(t, trashFile("y.0123456789abcdef"), mustRead(t, one, trashFile(list[0].Entry)))
	list, err = m.Trash(t.Context())
	wantIs(t, err, ErrDamaged)
	wantText(t, err, "x.0123456789abcdef.json")
	wantText(t, err, "y.0123456789abcdef.json describes something else")
	wantNames(t, "the trash with damaged records, the oldest first", entries(list), want...)
}

func entries(list []Trashed) []string {
	names := []string{}
	for _, e := range list {
		names = append(names, fmt.Sprintf("%s %s %s", e.Entry, e.Name, e.Store))
	}
	return names
}

func mustRead(t *testing.T, d *disk, name string) string {
	t.Helper()
	data, err := os.ReadFile(d.path(name))
	must(t, err)
	return string(data)
}

func TestRestore(t *testing.T) {
	tests := []struct {
		doc string
		// which is an entry if it is a number: that of the n-th volume.
		which, as string
		prepare   func(t *testing.T, m *Manager, d *disk)
		name      string // of the restored volume
		text      string // in its file
		want      string // in the error
	}{
		{doc: "by the volume's name", which: "db", name: "db", text: "db"},
		{doc: "by entry", which: "0", name: "web", text: "web 1"},
		{doc: "by another entry", which: "1", name: "web", text: "web 2"},
		{doc: "under another name", which: "1", as: "web2", name: "web2", text: "web 2"},
		{doc: "under the name of another in the trash", which: "0", as: "db", name: "db", text: "web 1"},
		{doc: "a name that two had", which: "web", want: "2 removed volumes had the name web, the last of them web."},
		{doc: "what is not in the trash", which: "unknown", want: `"unknown": no such entry in the trash`},
		{doc: "an entry that is not in the trash", which: "web.0123456789abcdef", want: `"web.0123456789abcdef": no such entry`},
		{doc: "what leads out of the trash", which: "../volumes/web", want: "no such entry"},
		{doc: "under a bad name", which: "0", as: "../x", want: `volume name "../x"`},
		{
			doc: "under a name that is taken", which: "db", want: "volume db exists in store gfs1:/one; restore under another name with --as NAME",
			prepare: func(t *testing.T, m *Manager, _ *disk) { must(t, m.Create(t.Context(), "db", nil)) },
		},
		{
			doc: "under a name that is taken in another store", which: "db", want: "volume db exists in store gfs1:/two",
			prepare: func(t *testing.T, m *Manager, _ *disk) {
				must(t, m.Create(t.Context(), "db", map[string]string{"store": "gfs1:/two"}))
			},
		},
		{
			doc: "over a directory without a volume", which: "db", want: "directory volumes/db is on the store without a volume",
			prepare: func(t *testing.T, _ *Manager, d *disk) { d.write(t, "volumes/db/f", "mine") },
		},
		{
			doc: "what is being purged", which: "db", want: "no such entry",
			prepare: func(t *testing.T, _ *Manager, d *disk) {
				for _, e := range mustGlob(t, d, trashDir, "db.", recordSuffix) {
					must(t, os.Rename(d.path(trashFile(e)), d.path(trashData(e)+purgingSuffix)))
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, _, d, _ := twoStores(t)
			all := []string{
				trashed(t, m, d, "web", "web 1", map[string]string{"mode": "0711"}),
				trashed(t, m, d, "web", "web 2", map[string]string{"mode": "0711"}),
				trashed(t, m, d, "db", "db", map[string]string{"mode": "0711"}),
			}
			if tt.prepare != nil {
				tt.prepare(t, m, d)
			}
			which := tt.which
			if n := strings.IndexAny("012", which); len(which) == 1 && n >= 0 {
				which = all[n]
			}
			before, err := m.Trash(t.Context())
			must(t, err)
			name, err := m.Restore(t.Context(), which, tt.as)
			wantNothingUnderWay(t, d)
			after, listErr := m.Trash(t.Context())
			must(t, listErr)
			if tt.want != "" {
				wantText(t, err, tt.want)
				wantNames(t, "the trash", entries(after), entries(before)...)
				return
			}
			must(t, err)
			v, err := m.Get(t.Context(), name)
			if err != nil || name != tt.name || v.Options.Mode != "0711" || slices.Contains(all, v.entry()) {
				t.Errorf("restored: %+v, %v", v, err)
			}
			if text := mustRead(t, d, "volumes/"+name+"/f"); text != tt.text {
				t.Errorf("its file has %q, want %q", text, tt.text)
			}
			if len(after) != len(before)-1 {
				t.Errorf("the trash has %q, had %q", entries(after), entries(before))
			}
			_, err = m.Restore(t.Context(), which, tt.as)
			wantText(t, err, "no such entry")
			_, err = m.Mount(t.Context(), name, "a")
			must(t, err)
		})
	}
}

// mustGlob are the names in a directory of the store between a prefix and a
// suffix, with the prefix.
func mustGlob(t *testing.T, d *disk, dir, prefix, suffix string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(d.path(dir))
	must(t, err)
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

func TestEmptyTrash(t *testing.T) {
	tests := []struct {
		doc   string
		which []string // numbers are entries
		purge []int    // what goes
		want  string   // in the error
	}{
		{doc: "all", purge: []int{0, 1, 2}},
		{doc: "an entry", which: []string{"1"}, purge: []int{1}},
		{doc: "a name", which: []string{"web"}, purge: []int{0, 1}},
		{doc: "a name and one of its entries", which: []string{"web", "0"}, purge: []int{0, 1}},
		{doc: "several", which: []string{"db", "1"}, purge: []int{1, 2}},
		{doc: "one that is not there, among others", which: []string{"db", "unknown"}, want: `"unknown": no such entry`},
		{doc: "what leads out", which: []string{"../volumes"}, want: "no such entry"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, _, one, two := twoStores(t)
			all := []string{
				trashed(t, m, one, "web", "1", nil), trashed(t, m, one, "web", "2", nil),
				trashed(t, m, two, "db", "3", map[string]string{"store": "gfs1:/two"}),
			}
			var which []string
			for _, w := range tt.which {
				if n := strings.IndexAny("012", w); len(w) == 1 {
					w = all[n]
				}
				which = append(which, w)
			}
			var reports []Progress
			err := m.EmptyTrash(t.Context(), which, func(p Progress) { reports = append(reports, p) })
			if tt.want != "" {
				wantText(t, err, tt.want)
			} else {
				must(t, err)
			}
			list, err := m.Trash(t.Context())
			must(t, err)
			for i, entry := range all {
				d := []*disk{one, one, two}[i]
				gone := slices.Contains(tt.purge, i)
				if listed := slices.ContainsFunc(list, func(l Trashed) bool { return l.Entry == entry }); listed == gone || d.has(trashData(entry)) == gone {
					t.Errorf("entry %d is listed: %v; its data is there: %v", i, listed, d.has(trashData(entry)))
				}
				// The directory and its file; the first report says that it begins.
				ofIt := slices.DeleteFunc(slices.Clone(reports), func(p Progress) bool { return p.Entry != entry })
				if gone && (len(ofIt) < 2 || ofIt[0].Removed != 0 || ofIt[len(ofIt)-1].Removed < 2) || !gone && len(ofIt) > 0 {
					t.Errorf("entry %d was reported as %+v", i, ofIt)
				}
			}
			for _, p := range reports {
				if p.Number < 1 || p.Number > p.Total {
					t.Errorf("reported: %+v", p)
				}
			}
		})
	}
}

// TestEmptyTrashGoesOn has a purge fail, and one that somebody else has begun.
func TestEmptyTrashGoesOn(t *testing.T) {
	m, _, d := oneStore(t)
	bad, good := trashed(t, m, d, "bad", "", nil), trashed(t, m, d, "good", "", nil)
	d.set(onlyFor("remove tree", trashData(bad), failWith(unix.EBUSY)))
	err := m.EmptyTrash(t.Context(), nil, nil)
	wantIs(t, err, unix.EBUSY)
	wantText(t, err, "purge "+bad)
	list, err := m.Trash(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].Entry != bad || !list[0].Purging || d.has(trashData(good)) {
		t.Errorf("the trash has %+v", list)
	}
	d.set(nil)
	must(t, m.EmptyTrash(t.Context(), []string{"bad"}, nil))
	if left := mustGlob(t, d, trashDir, "", ""); len(left) > 0 {
		t.Errorf("the trash has %q", left)
	}
}

// TestEmptyTrashStops has the person leave in the middle: what still comes back
// from the store is not reported any more, since nobody listens.
func TestEmptyTrashStops(t *testing.T) {
	m, _, d := oneStore(t)
	entry := trashed(t, m, d, "web", "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var late func(n int)
	d.removeTree = func(ctx context.Context, removed func(int)) error {
		late = removed
		removed(3)
		removed(4)
		cancel()
		return hang(ctx, "remove tree", trashData(entry))
	}
	var reports []int
	err := m.EmptyTrash(ctx, nil, func(p Progress) { reports = append(reports, p.Removed) })
	wantIs(t, err, context.Canceled)
	late(5)
	if !slices.Equal(reports, []int{0, 3, 7}) {
		t.Errorf("reported %v", reports)
	}
	d.removeTree = nil
	must(t, m.EmptyTrash(t.Context(), nil, nil))
	if d.has(trashData(entry)) {
		t.Error("it does not go on")
	}
}

// TestPurgeStalls has a purge go on for long, and then not any more: it ends, tells so,
// and leaves the entry to another.
func TestPurgeStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, d := oneStore(t)
		entry := trashed(t, m, d, "web", "", nil)
		begin := time.Now()
		const working = 2 * purgePatience
		d.removeTree = func(ctx context.Context, removed func(int)) error {
			for time.Since(begin) < working {
				time.Sleep(purgePatience / 2)
				removed(1)
			}
			removed(0) // a removal of what is gone is none
			return hang(ctx, "remove tree", trashData(entry))
		}
		err := m.EmptyTrash(t.Context(), nil, nil)
		wantIs(t, err, errStalled)
		if took := time.Since(begin); took != working+purgePatience {
			t.Errorf("it took %s", took)
		}
		d.removeTree = nil
		must(t, m.EmptyTrash(t.Context(), nil, nil))
		if d.has(trashData(entry)) {
			t.Error("it does not go on")
		}
	})
}

// run runs a driver's background work until stop.
func run(t *testing.T, m *Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { m.Run(ctx); close(stopped) }()
	return func() { cancel(); <-stopped }
}

// TestRunPurges what was removed with on-remove=delete, and what an interrupted
// purge has left, whatever else lies in the trash.
func TestRunPurges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, d := oneStore(t)
		kept := trashed(t, m, d, "kept", "", nil)
		interrupted := trashed(t, m, d, "interrupted", "", nil)
		must(t, os.Rename(d.path(trashFile(interrupted)), d.path(trashData(interrupted)+purgingSuffix)))
		d.write(t, trashFile("damaged.0123456789abcdef"), "{")
		defer run(t, m)()
		synctest.Wait()
		wantNames(t, "at the start it leaves", mustGlob(t, d, trashDir, "", ""),
			"damaged.0123456789abcdef.json", kept, kept+".json")

		trashed(t, m, d, "gone", "", map[string]string{"on-remove": "delete"})
		synctest.Wait() // no time passes
		wantNames(t, "after a removal it leaves", mustGlob(t, d, trashDir, "", ""),
			"damaged.0123456789abcdef.json", kept, kept+".json")

		// A purge that fails is told of, and goes on later.
		busy := true
		d.set(func(_ context.Context, op, name string) error {
			if op == "remove tree" && busy {
				return &fs.PathError{Op: op, Path: name, Err: unix.EBUSY}
			}
			return nil
		})
		entry := trashed(t, m, d, "busy", "", map[string]string{"on-remove": "delete"})
		synctest.Wait()
		if lines := n.logs.with("level=WARN", "purge goes on later", entry); len(lines) != 1 {
			t.Errorf("logged %q", lines)
		}
		d.mu.Lock()
		busy = false
		d.mu.Unlock()
		time.Sleep(settlePause + 2*refreshPause)
		wantNames(t, "later it leaves", mustGlob(t, d, trashDir, "", ""),
			"damaged.0123456789abcdef.json", kept, kept+".json")
	})
}

// TestPurgeIsGentle in the background, and as fast as it can be when somebody waits.
func TestPurgeIsGentle(t *testing.T) {
	const files, each = 1000, 2 * time.Millisecond
	tests := []struct {
		doc   string
		purge func(*testing.T, *Manager, *disk)
		want  time.Duration
	}{
		{"by hand", func(t *testing.T, m *Manager, d *disk) {
			trashed(t, m, d, "web", "", nil)
			must(t, m.EmptyTrash(t.Context(), nil, nil))
		}, files * each},
		{"in the background", func(t *testing.T, m *Manager, d *disk) {
			defer run(t, m)()
			trashed(t, m, d, "web", "", map[string]string{"on-remove": "delete"})
			time.Sleep(time.Minute)
		}, files * each * purgeShare},
		{"by a person, when it has begun in the background", func(t *testing.T, m *Manager, d *disk) {
			defer run(t, m)()
			entry := trashed(t, m, d, "web", "", map[string]string{"on-remove": "delete"})
			time.Sleep(each)
			if err := m.EmptyTrash(t.Context(), []string{entry}, nil); err != nil && !errors.Is(err, ErrNotInTrash) {
				t.Error(err)
			}
		}, files * each},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, d := oneStore(t)
				var took time.Duration
				d.removeTree = func(_ context.Context, removed func(int)) error {
					begin := time.Now()
					for range files {
						time.Sleep(each)
						if removed != nil {
							removed(1)
						}
					}
					took = time.Since(begin)
					return nil
				}
				tt.purge(t, m, d)
				if took < tt.want*9/10 || took > tt.want*11/10 {
					t.Errorf("it took %s, want %s", took, tt.want)
				}
			})
		})
	}
}

// TestRunTellsOfTrouble when it begins and when it ends.
func TestRunTellsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, d := oneStore(t)
		must(t, m.Create(t.Context(), "web", nil))
		m.stores[0].plane.(*plane).dead.Store(true)
		d.set(failWith(unix.ENOTCONN))
		defer run(t, m)()
		time.Sleep(5 * time.Minute)
		if lines := n.logs.with("level=ERROR"); len(lines) != 1 || len(n.logs.with("store cannot be served", "store=gfs1:/one")) != 1 {
			t.Errorf("in five minutes of trouble it told %q", lines)
		}
		v, err := m.Get(t.Context(), "web")
		if err != nil || !strings.Contains(v.Trouble, "not connected") {
			t.Errorf("got %+v, %v", v, err)
		}
		if info := m.Stores()[0]; !strings.Contains(info.Trouble, "not connected") || !info.Reached || info.Volumes != 1 {
			t.Errorf("store: %+v", info)
		}
		d.set(nil)
		time.Sleep(5 * time.Minute)
		if lines := n.logs.with("store is served again"); len(lines) != 1 {
			t.Errorf("of its end it told %q", lines)
		}
		if v, err := m.Get(t.Context(), "web"); err != nil || v.Trouble != "" {
			t.Errorf("got %+v, %v", v, err)
		}
	})
}

// TestRunSettlesBesideTrouble has some definitions that no brick can read: all
// else is settled, and purged.
func TestRunSettlesBesideTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, d := oneStore(t)
		must(t, m.stores[0].refresh(t.Context()))
		for _, name := range []string{"split1", "split2", "split3"} {
			d.write(t, definitionFile(name), "{}")
		}
		d.set(func(_ context.Context, op, name string) error {
			if op == "read" && strings.Contains(name, "split") {
				return &fs.PathError{Op: op, Path: name, Err: unix.EIO}
			}
			return nil
		})
		mustWrite(t, d.catalog(t, Node{ID: "node-a"}), claimFile("web"), record{Definition: definition("web", nil), By: Node{ID: "node-a"}})
		entry := trashed(t, m, d, "gone", "", map[string]string{"on-remove": "delete"})
		defer run(t, m)()
		time.Sleep(5 * time.Minute)
		wantNames(t, "known", knownNames(m.stores[0]), "web")
		if d.has(trashData(entry)) {
			t.Error("nothing was purged")
		}
		if lines := n.logs.with("level=ERROR"); len(lines) != 1 || len(n.logs.with("split1", "split2", "split3")) != 1 {
			t.Errorf("logged %q", lines)
		}
	})
}

// TestRunEnds at once, also with all stores hung.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, one, two := twoStores(t)
		one.set(hang)
		stop := run(t, m)
		time.Sleep(time.Minute)
		two.set(hang)
		time.Sleep(time.Minute)
		start := time.Now()
		stop()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %s", took)
		}
	})
}

// TestRestoreBesideHungStore says after a while why it cannot.
func TestRestoreBesideHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, one, two := twoStores(t)
		entry := trashed(t, m, one, "web", "text", nil)
		two.set(hang)
		start := time.Now()
		_, err := m.Restore(t.Context(), entry, "")
		wantIs(t, err, ErrUnreachable)
		if took := time.Since(start); took > 2*lookUpTime {
			t.Errorf("it took %s", took)
		}
		if errors.Is(err, ErrNotInTrash) || !one.has(trashData(entry)) {
			t.Errorf("error %v", err)
		}
	})
}
