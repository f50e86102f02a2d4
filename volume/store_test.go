package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster/client"
)

// openStore is the store of a disk as a driver of that node has it.
func openStore(t *testing.T, n *node) *store {
	t.Helper()
	s, err := newStore(n.config.Stores[0], n.config)
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	return s
}

// knownNames are the names that a store knows without asking.
func knownNames(s *store) []string {
	names := []string{}
	for _, def := range s.list() {
		names = append(names, def.Name)
	}
	return names
}

func wantNames(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestRefreshSeesOtherNodes(t *testing.T) {
	d := newDisk(t)
	s := openStore(t, newNode(t, "node-a", d))
	must(t, s.refresh(t.Context()))
	wantNames(t, "an empty store", knownNames(s))

	other := d.catalog(t, Node{ID: "node-b"})
	web, db := definition("web", map[string]string{"mode": "0700"}), definition("db", nil)
	mustCreate(t, other, web, false)
	mustCreate(t, other, db, false)
	must(t, s.refresh(t.Context()))
	wantNames(t, "created by another node", knownNames(s), "db", "web")
	if def, _ := s.get("web"); def.ID != web.ID || def.Options.Mode != "0700" {
		t.Errorf("web is known as %+v, want %+v", def, web)
	}

	must(t, other.remove(t.Context(), db, false, unusedByAnyone))
	must(t, s.refresh(t.Context()))
	wantNames(t, "removed by another node", knownNames(s), "web")
}

// TestRefreshSeesAnotherVolumeOfTheName has a volume removed and created anew
// between two looks: the listing is the same.
func TestRefreshSeesAnotherVolumeOfTheName(t *testing.T) {
	d := newDisk(t)
	n := newNode(t, "node-a", d)
	s := openStore(t, n)
	other := d.catalog(t, Node{ID: "node-b"})
	former := definition("web", nil)
	mustCreate(t, other, former, false)
	must(t, s.refresh(t.Context()))

	must(t, other.remove(t.Context(), former, false, unusedByAnyone))
	anew := definition("web", map[string]string{"path": "srv/www"})
	mustCreate(t, other, anew, false)
	must(t, s.refresh(t.Context()))
	if def, _ := s.get("web"); def.ID != anew.ID {
		t.Errorf("web is known as %+v, want %+v", def, anew)
	}
	if def, _ := openStore(t, n).get("web"); def.ID != anew.ID {
		t.Errorf("over a restart, web is known as %+v, want %+v", def, anew)
	}
}

// TestRefreshReadsAllInTurn has more volumes than are read at a time.
func TestRefreshReadsAllInTurn(t *testing.T) {
	d := newDisk(t)
	s := openStore(t, newNode(t, "node-a", d))
	other := d.catalog(t, Node{ID: "node-b"})
	const n = 5*rereadAtOnce/2 + 1
	for i := range n {
		r := record{Definition: definition(fmt.Sprintf("v%d", i), nil)}
		mustWrite(t, other, definitionFile(r.Name), r)
	}
	must(t, s.refresh(t.Context()))
	for _, def := range s.list() {
		must(t, other.fs.Remove(t.Context(), definitionFile(def.Name)))
		def.ID = NewID()
		mustWrite(t, other, definitionFile(def.Name), record{Definition: def})
	}
	before := map[string]Definition{}
	for _, def := range s.list() {
		before[def.Name] = def
	}
	for range 3 {
		operations := d.operations.Load()
		must(t, s.refresh(t.Context()))
		if n := d.operations.Load() - operations; n > 2*rereadAtOnce+1 {
			t.Errorf("a refresh of an unchanged listing took %d operations", n)
		}
	}
	for _, def := range s.list() {
		if def.ID == before[def.Name].ID {
			t.Errorf("%s was not read again", def.Name)
		}
	}
}

// TestRefreshOfMany: who is new to a store looks into the trash once, and not for each volume; one
// whose removal is committed is not known all the same.
func TestRefreshOfMany(t *testing.T) {
	d := newDisk(t)
	s := openStore(t, newNode(t, "node-a", d))
	_, err := s.connect(t.Context())
	must(t, err)
	other := d.catalog(t, Node{ID: "node-b"})
	var want []string
	for i := range 2 * fewNames {
		r := record{Definition: definition(fmt.Sprintf("v%03d", i), nil)}
		mustWrite(t, other, definitionFile(r.Name), r)
		want = append(want, r.Name)
	}
	removed := record{Definition: definition("removed", nil), Removed: new(time.Now())}
	mustWrite(t, other, definitionFile("removed"), removed)
	mustWrite(t, other, trashFile(removed.entry()), removed)

	before := d.operations.Load()
	must(t, s.refresh(t.Context()))
	wantNames(t, "known", knownNames(s), want...)
	const besides = 3 // two listings, and whether the directory is there that "removed" was not found in
	if n := int(d.operations.Load() - before); n > len(want)+1+besides {
		t.Errorf("%d operations for %d volumes", n, len(want)+1)
	}
}

// TestRefreshTrustsNoListing has a brick down: a listing lacks a volume.
func TestRefreshTrustsNoListing(t *testing.T) {
	tests := []struct {
		doc  string
		trap trap
		want error
	}{
		{doc: "its look-up finds it", trap: nil, want: nil},
		{doc: "its look-up fails for the brick", trap: onlyFor("read", definitionFile("web"), failWith(unix.ENOTCONN)), want: ErrUnreachable},
		{doc: "the look-up of its removal fails", trap: failIf("lstat", failWith(unix.EIO)), want: ErrUnreachable},
		{doc: "the listing fails", trap: failIf("readdir", failWith(unix.ENOTCONN)), want: ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			d := newDisk(t)
			n := newNode(t, "node-a", d)
			s := openStore(t, n)
			mustCreate(t, d.catalog(t, Node{ID: "node-b"}), definition("web", nil), false)
			must(t, s.refresh(t.Context()))

			d.hide("web.json", true)
			d.set(tt.trap)
			wantIs(t, s.refresh(t.Context()), tt.want)
			wantNames(t, "known", knownNames(s), "web")
			wantNames(t, "known over a restart", knownNames(openStore(t, n)), "web")
		})
	}
}

// failIf is a trap for all operations of a kind.
func failIf(op string, trap trap) trap {
	return func(ctx context.Context, o, name string) error {
		if o == op {
			return trap(ctx, o, name)
		}
		return nil
	}
}

// TestRefreshRaces has this node change a volume between the look of a refresh
// and its note of what it saw.
func TestRefreshRaces(t *testing.T) {
	tests := []struct {
		doc string
		// look is the file that the refresh is about to look for.
		look   string
		change func(ctx context.Context, m *Manager) error
		saw    error
		want   []string
	}{
		{
			doc:    "it was there, and is removed",
			look:   "lstat",
			change: func(ctx context.Context, m *Manager) error { return m.Remove(ctx, "web", "", true) },
		},
		{
			doc:  "it was not there, and is created",
			look: "read",
			change: func(ctx context.Context, m *Manager) error {
				return errors.Join(m.Remove(ctx, "web", "", true), m.Create(ctx, "web", map[string]string{"adopt": "true"}))
			},
			saw:  fs.ErrNotExist,
			want: []string{"web"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, _, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			def, _ := m.stores[0].get("web")
			looks := map[string]string{"lstat": trashFile(def.entry()), "read": definitionFile("web")}
			d.set(onlyFor(tt.look, looks[tt.look], func(ctx context.Context, _, _ string) error {
				d.set(nil)
				must(t, tt.change(ctx, m))
				return tt.saw
			}))
			must(t, m.stores[0].refresh(t.Context()))
			wantNames(t, "known", knownNames(m.stores[0]), tt.want...)
		})
	}
}

func TestDamagedDefinition(t *testing.T) {
	good, err := record{Definition: definition("bad", nil)}.encode()
	must(t, err)
	write := func(data string) func(*testing.T, string) {
		return func(t *testing.T, file string) { must(t, os.WriteFile(file, []byte(data), 0o600)) }
	}
	tests := []struct {
		doc   string
		plant func(t *testing.T, file string)
	}{
		{doc: "nothing in it", plant: write("")},
		{doc: "half of it", plant: write(string(good[:len(good)/2]))},
		{doc: "something else", plant: write("\x7fELF")},
		{doc: "too much", plant: write(string(good) + strings.Repeat(" ", 1<<20))},
		{doc: "another name in it", plant: write(strings.ReplaceAll(string(good), `"bad"`, `"web"`))},
		{doc: "a path that leads out", plant: write(strings.Replace(string(good), `"on-remove"`, `"path": "../../etc", "on-remove"`, 1))},
		{doc: "the catalog for a path", plant: write(strings.Replace(string(good), `"on-remove"`, `"path": ".glustervol", "on-remove"`, 1))},
		{doc: "a directory in its place", plant: func(t *testing.T, file string) { must(t, os.Mkdir(file, 0o700)) }},
		{doc: "a FIFO in its place", plant: func(t *testing.T, file string) { must(t, unix.Mkfifo(file, 0o600)) }},
		{doc: "a symlink in its place", plant: func(t *testing.T, file string) {
			target := filepath.Join(t.TempDir(), "secret")
			must(t, os.WriteFile(target, good, 0o600))
			must(t, os.Symlink(target, file))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			tt.plant(t, d.path(definitionFile("bad")))
			before := snapshot(t, d.dir)

			s := m.stores[0]
			for range 3 {
				must(t, s.refresh(t.Context()))
				must(t, m.settle(t.Context(), s))
			}
			wantNames(t, "served", knownNames(s), "web")
			if lines := n.logs.with("level=ERROR", "volume=bad"); len(lines) != 1 {
				t.Errorf("it was told %d times: %q", len(lines), lines)
			}
			if lines := n.logs.with("level=ERROR"); len(lines) != 1 {
				t.Errorf("more was told: %q", lines)
			}

			_, err := m.Get(t.Context(), "bad")
			wantIs(t, err, ErrDamaged)
			_, err = m.Mount(t.Context(), "bad", "id")
			wantIs(t, err, ErrDamaged)
			wantIs(t, m.Create(t.Context(), "bad", nil), ErrDamaged)
			wantIs(t, m.Create(t.Context(), "bad", map[string]string{"adopt": "true"}), ErrDamaged)
			wantIs(t, m.Remove(t.Context(), "bad", "", false), ErrDamaged)
			if after := snapshot(t, d.dir); !sameFiles(before, after) {
				t.Errorf("the store was changed:\nfrom %v\nto   %v", before, after)
			}

			must(t, os.RemoveAll(d.path(definitionFile("bad"))))
			must(t, os.WriteFile(d.path(definitionFile("bad")), good, 0o600))
			must(t, s.refresh(t.Context()))
			wantNames(t, "served when it was mended", knownNames(s), "bad", "web")
		})
	}
}

// sameFiles compares snapshots without the times of directories, which files
// that came and went have changed.
func sameFiles(a, b map[string]string) bool {
	strip := func(files map[string]string) map[string]string {
		stripped := map[string]string{}
		for path, file := range files {
			if strings.HasPrefix(file, "d") {
				file, _, _ = strings.Cut(file, " ")
			}
			stripped[path] = file
		}
		return stripped
	}
	return maps.Equal(strip(a), strip(b))
}

// TestRefusedFormat has a store that this driver does not know how to read.
func TestRefusedFormat(t *testing.T) {
	tests := []struct {
		doc    string
		format string
		want   string // in the error
	}{
		{doc: "a newer one", format: `{"format": 2}`, want: "format 2, this driver knows up to 1; install a newer glustervol"},
		{doc: "a much newer one, with more in it", format: `{"format": 99, "layout": {"x": []}}`, want: "format 99"},
		{doc: "none", format: `{}`, want: "does not name a format"},
		{doc: "nothing", format: ``, want: "does not name a format"},
		{doc: "half of it", format: `{"form`, want: "does not name a format"},
		{doc: "zero", format: `{"format": 0}`, want: "does not name a format"},
		{doc: "a negative one", format: `{"format": -1}`, want: "does not name a format"},
		{doc: "a text", format: `{"format": "1"}`, want: "does not name a format"},
		{doc: "a fraction", format: `{"format": 1.5}`, want: "does not name a format"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			d := newDisk(t)
			web := definition("web", nil)
			other := d.catalog(t, Node{ID: "node-a"}) // its own leftovers would be settled at once
			mustCreate(t, other, web, false)
			entry := removedVolume(t, d.catalog(t, Node{ID: "node-a"}), "db")
			mustWrite(t, other, ownTombstone(t, other, web.entry()), record{Definition: web, By: other.node})
			mustWrite(t, other, claimFile("claimed"), record{Definition: definition("claimed", nil), By: other.node})
			d.write(t, formatFile, tt.format)
			before := snapshot(t, d.dir)

			m := newNode(t, "node-a", d).start(t)
			ctx := t.Context()
			s := m.stores[0]
			_, getErr := m.Get(ctx, "web")
			_, mountErr := m.Mount(ctx, "web", "id")
			_, trashErr := m.Trash(ctx)
			_, restoreErr := m.Restore(ctx, entry, "")
			for call, err := range map[string]error{
				"get": getErr, "mount": mountErr, "trash": trashErr, "restore": restoreErr, "refresh": s.refresh(ctx), "settle": m.settle(ctx, s),
				"create": m.Create(ctx, "new", nil), "remove": m.Remove(ctx, "web", "", false), "empty": m.EmptyTrash(ctx, nil, nil),
			} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "gfs1:/one") {
					t.Errorf("%s: error %v, want %q and the store in it", call, err, tt.want)
				}
				if errors.Is(err, ErrNotFound) {
					t.Errorf("%s: error %v tells that something does not exist", call, err)
				}
			}
			if after := snapshot(t, d.dir); !maps.Equal(before, after) {
				t.Errorf("the store was changed:\nfrom %v\nto   %v", before, after)
			}
		})
	}
}

// TestFormatThatCannotBeRead: not to know is not to make an empty store.
func TestFormatThatCannotBeRead(t *testing.T) {
	d := newDisk(t)
	d.set(onlyFor("read", formatFile, failWith(unix.EIO)))
	s := openStore(t, newNode(t, "node-a", d))
	wantIs(t, s.refresh(t.Context()), unix.EIO)
	if files := snapshot(t, d.dir); len(files) != 1 {
		t.Errorf("the store was changed: %v", files)
	}
}

// TestEmptyStore has two nodes find a directory that was never a store.
func TestEmptyStore(t *testing.T) {
	d := newDisk(t)
	one, two := openStore(t, newNode(t, "node-a", d)), openStore(t, newNode(t, "node-b", d))
	errs := make(chan error)
	for _, s := range []*store{one, two} {
		go func() { errs <- s.refresh(t.Context()) }()
	}
	must(t, errors.Join(<-errs, <-errs))
	var names []string
	for path := range snapshot(t, d.dir) {
		names = append(names, strings.TrimPrefix(path, d.dir))
	}
	slices.Sort(names)
	wantNames(t, "a new store", names,
		"", "/.glustervol", "/.glustervol/format.json", "/.glustervol/news", "/.glustervol/nodes",
		"/.glustervol/nodes/0", "/.glustervol/nodes/0.json", "/.glustervol/nodes/1", "/.glustervol/nodes/1.json", "/.glustervol/tombstones", "/.glustervol/trash", "/.glustervol/volumes", "/volumes")
	for dir, want := range map[string]os.FileMode{dataDir: 0o755, controlDir: 0o700, trashDir: 0o700} {
		info, err := os.Stat(d.path(dir))
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("mode of %s: %v, want %v", dir, info.Mode().Perm(), want)
		}
	}
}

func TestCache(t *testing.T) {
	d := newDisk(t)
	n := newNode(t, "node-a", d)
	s := openStore(t, n)
	other := d.catalog(t, Node{ID: "node-b"})
	web, db := definition("web", map[string]string{"uid": "999"}), definition("db", nil)
	mustCreate(t, other, web, false)
	mustCreate(t, other, db, false)
	must(t, s.refresh(t.Context()))
	must(t, other.remove(t.Context(), db, false, unusedByAnyone))
	must(t, s.refresh(t.Context()))

	d.set(failWith(unix.ENOTCONN))
	n.config.Stores[0].Servers = []string{"gfs9"} // the servers do not make the store
	s = openStore(t, n)
	wantIs(t, s.refresh(t.Context()), ErrUnreachable)
	wantNames(t, "known while Gluster is down", knownNames(s), "web")
	if def, _ := s.get("web"); def.ID != web.ID || *def.Options.UID != 999 {
		t.Errorf("web is known as %+v, want %+v", def, web)
	}

	n.config.Stores[0].Subdir = "sub"
	wantNames(t, "known of another directory", knownNames(openStore(t, n)))
}

func TestCacheDamaged(t *testing.T) {
	good, err := record{Definition: definition("bad", nil)}.encode()
	must(t, err)
	tests := []struct {
		doc   string
		plant func(file string) error
	}{
		{doc: "half a file", plant: func(file string) error { return os.WriteFile(file, good[:len(good)/2], 0o600) }},
		{doc: "a file of another volume", plant: func(file string) error {
			return os.WriteFile(file, []byte(strings.ReplaceAll(string(good), `"bad"`, `"web"`)), 0o600)
		}},
		{doc: "a directory", plant: func(file string) error { return os.Mkdir(file, 0o700) }},
		{doc: "a symlink to nowhere", plant: func(file string) error { return os.Symlink("nowhere", file) }},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			must(t, m.Create(t.Context(), "bad", nil))
			file := filepath.Join(m.stores[0].cache.dir, "bad.json")
			must(t, os.Remove(file))
			must(t, tt.plant(file))
			damaged := snapshot(t, filepath.Dir(file))[file]

			d.set(failWith(unix.ENOTCONN))
			m = n.restart(t, m)
			wantNames(t, "known", knownNames(m.stores[0]), "web")
			if after := snapshot(t, filepath.Dir(file)); after[file] != "" || after[file+damagedSuffix] != damaged {
				t.Errorf("%q was not set aside: %q", damaged, after)
			}
			if lines := n.logs.with("level=ERROR", "volume=bad", file+damagedSuffix); len(lines) != 1 {
				t.Errorf("it was told %d times: %q", len(lines), lines)
			}
			_, err := m.Get(t.Context(), "bad")
			wantIs(t, err, ErrUnreachable)

			d.set(nil)
			must(t, m.stores[0].refresh(t.Context()))
			m = n.restart(t, m)
			wantNames(t, "known with the store back", knownNames(m.stores[0]), "bad", "web")
		})
	}
}

// TestConnectAgain has a control plane die: the next request opens another.
func TestConnectAgain(t *testing.T) {
	d := newDisk(t)
	n := newNode(t, "node-a", d)
	s := openStore(t, n)
	must(t, s.refresh(t.Context()))
	first := s.plane.(*plane)
	must(t, s.refresh(t.Context()))
	if s.plane != ControlPlane(first) {
		t.Error("a control plane that lives was opened anew")
	}
	first.dead.Store(true)
	must(t, s.refresh(t.Context()))
	if s.plane == ControlPlane(first) {
		t.Error("a dead control plane is still used")
	}
	if _, err := first.Dir.Lstat(t.Context(), "."); err == nil {
		t.Error("the dead control plane was not closed")
	}
}

// TestAwait has the cluster boot after the driver: who mounts is kept waiting
// then, and later is told at once.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		s := openStore(t, newNode(t, "node-a", d))
		d.set(failWith(unix.ENOTCONN))
		start := time.Now()
		time.AfterFunc(10*time.Second, func() { d.set(nil) })
		if _, err := s.await(t.Context()); err != nil {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if waited := time.Since(start); waited < 10*time.Second || waited > 12*time.Second {
			t.Errorf("waited %s for a store that came after 10 s", waited)
		}

		s.plane.(*plane).dead.Store(true)
		d.set(failWith(unix.ENOTCONN))
		start = time.Now()
		_, err := s.await(t.Context())
		wantIs(t, err, ErrUnreachable)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %s for a store that was lost", waited)
		}
	})
}

// TestAwaitTellsAtOnce has stores that are not worth to be waited for.
func TestAwaitTellsAtOnce(t *testing.T) {
	tests := []struct {
		doc      string
		err      error
		bootWait time.Duration
	}{
		{doc: "it refuses", err: unix.EACCES, bootWait: math.MaxInt64},
		{doc: "its servers refuse", err: &client.StartError{Err: unix.ENOTCONN, Permanent: true}, bootWait: math.MaxInt64},
		{doc: "it is down, and the machine has booted long ago", err: unix.ENOTCONN},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk(t)
				d.set(failWith(tt.err))
				n := newNode(t, "node-a", d)
				n.config.BootWait = tt.bootWait
				start := time.Now()
				_, err := openStore(t, n).await(t.Context())
				wantIs(t, err, tt.err)
				if waited := time.Since(start); waited > 0 {
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

// TestClosedStore: what still runs when the driver ends must not open a control
// plane again, that nobody would close.
func TestClosedStore(t *testing.T) {
	d := newDisk(t)
	s := openStore(t, newNode(t, "node-a", d))
	must(t, s.refresh(t.Context()))
	must(t, s.close())
	operations := d.operations.Load()
	wantIs(t, s.refresh(t.Context()), ErrUnreachable)
	if n := d.operations.Load() - operations; n > 0 {
		t.Errorf("a closed store was asked %d times", n)
	}
}
