package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/mount"
)

func TestNewRefusesOverlappingStores(t *testing.T) {
	tests := []struct {
		doc    string
		stores []string
		want   string // in the error; "" for none
	}{
		{doc: "one store", stores: []string{"gfs1:/gv0"}},
		{doc: "two Gluster volumes", stores: []string{"gfs1:/gv0", "gfs1:/gv1"}},
		{doc: "two directories", stores: []string{"gfs1:/gv0/a", "gfs1:/gv0/ab"}},
		{doc: "the same twice", stores: []string{"gfs1:/gv0", "gfs1:/gv0"}, want: "stores gfs1:/gv0 and gfs1:/gv0 share files"},
		{doc: "the same by other servers", stores: []string{"gfs1:/gv0", "gfs2:/gv0"}, want: "gfs1:/gv0 and gfs2:/gv0"},
		{doc: "one inside the other", stores: []string{"gfs1:/gv1", "gfs1:/gv0/a/b", "gfs1:/gv0/a"}, want: "gfs1:/gv0/a/b and gfs1:/gv0/a"},
		{doc: "one around the other", stores: []string{"gfs1:/gv0", "gfs1:/gv1", "gfs1:/gv0/a"}, want: "gfs1:/gv0 and gfs1:/gv0/a"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			n := newNode(t, "node-a")
			for _, text := range tt.stores {
				address, err := gluster.ParseAddress(text)
				must(t, err)
				n.config.Stores = append(n.config.Stores, address)
			}
			_, err := New(n.config)
			if tt.want == "" {
				must(t, err)
			} else {
				wantText(t, err, tt.want)
			}
		})
	}
}

func TestCreate(t *testing.T) {
	full := map[string]string{"uid": fmt.Sprint(os.Getuid()), "mode": "2750", "on-remove": "retain", "client-options": "ro,acl"}
	tests := []struct {
		doc     string
		name    string
		prepare func(t *testing.T, d *disk)
		options map[string]string
		want    string // in the error; "" for success
		dir     string // of the volume
		mode    fs.FileMode
	}{
		{doc: "by name alone", name: "web", dir: "volumes/web", mode: 0o755},
		{doc: "with options", name: "web", options: full, dir: "volumes/web", mode: 0o750 | fs.ModeSetgid},
		{doc: "in a path that is not there", name: "web", options: map[string]string{"path": "a/b/c"}, dir: "a/b/c", mode: 0o755},
		{
			doc: "in a path that is there", name: "web", options: map[string]string{"path": "srv"},
			prepare: func(t *testing.T, d *disk) { must(t, os.Mkdir(d.path("srv"), 0o700)) }, dir: "srv", mode: 0o700,
		},
		{
			doc: "in a path that is there, with a mode", name: "web", options: map[string]string{"path": "srv", "mode": "0711"},
			prepare: func(t *testing.T, d *disk) { must(t, os.Mkdir(d.path("srv"), 0o700)) }, dir: "srv", mode: 0o711,
		},
		{
			doc: "over a directory without a volume", name: "web",
			prepare: func(t *testing.T, d *disk) { d.write(t, "volumes/web/index.html", "hello") },
			want:    "volumes/web is on the store without a volume; take it over with '-o adopt=true'",
		},
		{
			doc: "by adoption", name: "web", options: map[string]string{"adopt": "true"},
			prepare: func(t *testing.T, d *disk) { d.write(t, "volumes/web/index.html", "hello") }, dir: "volumes/web", mode: 0o755,
		},
		{
			doc: "by adoption of a file", name: "web", options: map[string]string{"adopt": "true"},
			prepare: func(t *testing.T, d *disk) { d.write(t, "volumes/web", "hello") }, want: "volumes/web on the store is not a directory",
		},
		{
			doc: "by adoption of a symlink", name: "web", options: map[string]string{"path": "srv", "uid": fmt.Sprint(os.Getuid())},
			prepare: func(t *testing.T, d *disk) { must(t, os.Symlink("/etc", d.path("srv"))) }, want: "srv on the store is not a directory",
		},
		{
			doc: "with a symlink on the way that leads out", name: "web", options: map[string]string{"path": "srv/www"},
			prepare: func(t *testing.T, d *disk) { must(t, os.Symlink("/tmp", d.path("srv"))) }, want: "srv on the store is not a directory",
		},
		{
			doc: "with a symlink on the way that leads to another volume", name: "web", options: map[string]string{"path": "srv/www"},
			prepare: func(t *testing.T, d *disk) { must(t, os.Symlink("volumes", d.path("srv"))) }, want: "srv on the store is not a directory",
		},
		{doc: "a bad name", name: "../web", want: `volume name "../web"`},
		{doc: "a bad option", name: "web", options: map[string]string{"size": "1G"}, want: `volume web: option "size" is not one of`},
		{doc: "in a store that is not served", name: "web", options: map[string]string{"store": "gfs1:/gv9"}, want: "store gfs1:/gv9 is not one of those that this driver serves: gfs1:/one"},
		{doc: "in a store that is no address", name: "web", options: map[string]string{"store": "gv0"}, want: `store address "gv0"`},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, d := oneStore(t)
			must(t, m.stores[0].refresh(t.Context()))
			if tt.prepare != nil {
				tt.prepare(t, d)
			}
			err := m.Create(t.Context(), tt.name, tt.options)
			wantNothingUnderWay(t, d)
			if tt.want != "" {
				wantText(t, err, tt.want)
				if list := slices.Collect(m.List()); len(list) > 0 || d.has(definitionFile("web")) {
					t.Errorf("it left %+v", list)
				}
				return
			}
			must(t, err)
			v, err := m.Get(t.Context(), tt.name)
			if err != nil || v.Dir() != tt.dir || v.Store != "gfs1:/one" || len(v.Users) > 0 || v.Mountpoint != "" {
				t.Errorf("got %+v, %v", v, err)
			}
			info, err := os.Lstat(d.path(tt.dir))
			must(t, err)
			if info.Mode() != tt.mode|fs.ModeDir {
				t.Errorf("mode %v, want %v", info.Mode(), tt.mode|fs.ModeDir)
			}
			if lines := n.logs.with("volume created", "volume="+tt.name, "id="+v.ID); len(lines) != 1 {
				t.Errorf("logged %q", lines)
			}
		})
	}
}

// wantNothingUnderWay wants no leftover of an operation on the store.
func wantNothingUnderWay(t *testing.T, d *disk) {
	t.Helper()
	c := d.catalog(t, Node{ID: "observer"})
	for _, file := range underWay(t, c) {
		t.Errorf("%s is left", file)
	}
}

// TestCreateAgain has a volume that is there asked for once more.
func TestCreateAgain(t *testing.T) {
	has := map[string]string{"mode": "0750", "path": "srv", "client-options": "acl,ro"}
	tests := []struct {
		doc     string
		options map[string]string
		want    string // the error; "" for success
	}{
		{doc: "by name alone", options: nil},
		{doc: "with an empty map", options: map[string]string{}},
		{doc: "with the same options", options: has},
		{doc: "with the same options, written differently", options: map[string]string{"mode": "750", "path": "/srv/", "client-options": "ro,acl", "on-remove": "trash"}},
		{doc: "with its store named by other servers", options: map[string]string{"mode": "0750", "path": "srv", "client-options": "acl,ro", "store": "gfs7,gfs8:/one"}},
		{
			doc: "with some of them", options: map[string]string{"path": "srv"},
			want: `volume web exists with other options: client-options is "acl,ro", not the default, mode is "0750", not the default; use it with its own, or another name`,
		},
		{
			doc: "with others", options: map[string]string{"mode": "0755", "path": "srv", "client-options": "acl", "uid": "0", "on-remove": "retain"},
			want: `volume web exists with other options: client-options is "acl,ro", not "acl", mode is "0750", not "0755", on-remove is "trash", not "retain", uid is the default, not "0"; use it with its own, or another name`,
		},
		{
			doc: "in another store", options: map[string]string{"mode": "0750", "path": "srv", "client-options": "acl,ro", "store": "gfs1:/two"},
			want: `volume web exists with other options: store is "gfs1:/one", not "gfs1:/two"; use it with its own, or another name`,
		},
	}
	for _, tt := range tests {
		for _, other := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, on another node %v", tt.doc, other), func(t *testing.T) {
				m, _, one, two := twoStores(t)
				must(t, m.Create(t.Context(), "web", has))
				id := slices.Collect(m.List())[0].ID
				if other {
					m = newNode(t, "node-b", one, two).start(t)
				}
				err := m.Create(t.Context(), "web", tt.options)
				if tt.want == "" {
					must(t, err)
				} else if err == nil || err.Error() != tt.want {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				if v, err := m.Get(t.Context(), "web"); err != nil || v.ID != id {
					t.Errorf("afterwards it is %+v, %v", v, err)
				}
				if two.has(definitionFile("web")) {
					t.Error("there are two now")
				}
				wantNothingUnderWay(t, one)
			})
		}
	}
}

// TestCreateFails has one operation of the store fail: the next attempt must
// find nothing in its way.
func TestCreateFails(t *testing.T) {
	options := map[string]string{"uid": fmt.Sprint(os.Getuid()), "mode": "2770"}
	for _, op := range []string{"create", "read", "mkdir", "chown", "chmod", "rename"} {
		t.Run(op, func(t *testing.T) {
			m, _, d := oneStore(t)
			must(t, m.stores[0].refresh(t.Context()))
			failed := false
			d.set(func(_ context.Context, o, name string) error {
				if o != op || failed {
					return nil
				}
				failed = true
				return &fs.PathError{Op: op, Path: name, Err: unix.EPERM}
			})
			err := m.Create(t.Context(), "web", options)
			wantIs(t, err, unix.EPERM)
			wantNothingUnderWay(t, d)
			must(t, m.Create(t.Context(), "web", options))
		})
	}
}

func TestCreateChoosesStore(t *testing.T) {
	tests := []struct {
		doc     string
		prepare func(t *testing.T, one, two *disk)
		options map[string]string
		want    error
		store   string
	}{
		{doc: "the default", store: "gfs1:/one"},
		{doc: "the one that is named", options: map[string]string{"store": "gfs1:/two"}, store: "gfs1:/two"},
		{doc: "the one that is named, by another server", options: map[string]string{"store": "[fd00::1]:/two/"}, store: "gfs1:/two"},
		{
			doc: "the one that has it", store: "gfs1:/two",
			prepare: func(t *testing.T, _, two *disk) {
				mustCreate(t, two.catalog(t, Node{ID: "node-b"}), definition("web", nil), false)
			},
		},
		{
			doc: "none, when one that may have it cannot be reached", want: ErrUnreachable,
			prepare: func(_ *testing.T, _, two *disk) { two.set(failWith(unix.ENOTCONN)) },
		},
		{
			doc: "the one that is named, when another cannot be reached", options: map[string]string{"store": "gfs1:/two"}, store: "gfs1:/two",
			prepare: func(_ *testing.T, one, _ *disk) { one.set(failWith(unix.ENOTCONN)) },
		},
		{
			doc: "the one that is named, when another does not answer", options: map[string]string{"store": "gfs1:/two"}, store: "gfs1:/two",
			prepare: func(_ *testing.T, one, _ *disk) { one.set(hang) },
		},
		{
			doc: "none, when another has it damaged", want: ErrDamaged,
			prepare: func(t *testing.T, _, two *disk) {
				two.catalog(t, Node{ID: "node-b"})
				two.write(t, definitionFile("web"), "{")
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, one, two := twoStores(t)
				if tt.prepare != nil {
					tt.prepare(t, one, two)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				err := m.Create(ctx, "web", tt.options)
				wantIs(t, err, tt.want)
				list := slices.Collect(m.List())
				if tt.want != nil {
					if len(list) > 0 {
						t.Errorf("it left %+v", list)
					}
					return
				}
				if len(list) != 1 || list[0].Store != tt.store {
					t.Errorf("there is %+v, want one in %s", list, tt.store)
				}
			})
		})
	}
}

func TestCreateRefusesOverlap(t *testing.T) {
	tests := []struct {
		doc  string
		path string
		ok   bool
	}{
		{doc: "the same", path: "srv/www", ok: true},
		{doc: "beside", path: "srv/www2", ok: true},
		{doc: "inside", path: "srv/www/a"},
		{doc: "around", path: "srv"},
	}
	for _, tt := range tests {
		for _, by := range []string{"this node", "another node", "another node, while this one was off"} {
			t.Run(tt.doc+", by "+by, func(t *testing.T) {
				m, n, d := oneStore(t)
				first := m
				if by != "this node" {
					must(t, m.stores[0].refresh(t.Context()))
					first = newNode(t, "node-b", d).start(t)
				}
				must(t, first.Create(t.Context(), "web", map[string]string{"path": "srv/www"}))
				if by == "another node, while this one was off" {
					m = n.restart(t, m)
				}
				err := m.Create(t.Context(), "db", map[string]string{"path": tt.path})
				if tt.ok {
					must(t, err)
					return
				}
				wantText(t, err, "path "+tt.path+" and path srv/www of volume web lie one within the other")
				wantNothingUnderWay(t, d)
			})
		}
	}
}

// counts are the users of a volume by the file in the run directory.
func counts(t *testing.T, n *node, name string) map[string]int {
	t.Helper()
	m, err := openMounts(filepath.Join(n.config.RunDir, "mounts"), n.config.Log)
	must(t, err)
	v, _ := m.get(name)
	list := map[string]int{}
	for id, u := range v.Users {
		list[id] = u.Count
	}
	return list
}

func wantCounts(t *testing.T, n *node, name, want string) {
	t.Helper()
	if got := strings.TrimPrefix(fmt.Sprint(counts(t, n, name)), "map"); got != "["+want+"]" {
		t.Errorf("%s is used by %s, want [%s]", name, got, want)
	}
}

// TestMount counts the mounts of a volume as dockerd repeats them.
func TestMount(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", map[string]string{"path": "srv/www"}))
	steps := []struct {
		mount, unmount, all string
		want                string
	}{
		{mount: "a", want: "a:1"},
		{mount: "a", want: "a:2"}, // docker cp
		{mount: "b", want: "a:2 b:1"},
		{unmount: "c", want: "a:2 b:1"}, // never mounted
		{unmount: "a", want: "a:1 b:1"},
		{unmount: "b", want: "a:1"},
		{unmount: "b", want: "a:1"}, // once more than mounted
		{mount: "b", want: "a:1 b:1"},
		{mount: "b", want: "a:1 b:2"},
		{all: "b", want: "a:1"},
		{all: "b", want: "a:1"},
		{unmount: "a", want: ""},
		{unmount: "a", want: ""},
		{mount: "a", want: "a:1"},
	}
	for i, step := range steps {
		switch {
		case step.mount != "":
			path, err := m.Mount(t.Context(), "web", step.mount)
			must(t, err)
			v, err := m.Get(t.Context(), "web")
			must(t, err)
			if path != filepath.Join(v.Client.Mount, "srv/www") || v.Mountpoint != path || v.Client.PID == 0 {
				t.Errorf("step %d: mounted on %q; %+v", i, path, v)
			}
		case step.unmount != "":
			must(t, m.Unmount(t.Context(), "web", step.unmount))
		default:
			must(t, m.UnmountAll(t.Context(), "web", step.all))
		}
		wantCounts(t, n, "web", step.want)
		v, err := m.Get(t.Context(), "web")
		must(t, err)
		inUse := step.want != ""
		if held := len(n.clients.usedBy()) == 1; held != inUse || (v.Mountpoint != "") != inUse {
			t.Errorf("step %d: the client's users are %q; %+v", i, n.clients.usedBy(), v)
		}
		wantIs(t, m.Unmount(t.Context(), "unknown", "a"), nil)
	}
}

func TestMountFails(t *testing.T) {
	tests := []struct {
		doc    string
		name   string
		client error
		trap   trap
		want   error
		text   string
	}{
		{doc: "an unknown name", name: "unknown", want: ErrNotFound, text: "mount volume unknown: no such volume"},
		{doc: "a bad name", name: "..", text: `volume name ".."`},
		{doc: "a client that does not start", name: "web", client: unix.EIO, want: unix.EIO, text: "mount volume web: "},
		{doc: "a directory that somebody removed", name: "web", client: fs.ErrNotExist, want: fs.ErrNotExist, text: "its directory volumes/web is not on gfs1:/one any more"},
		{doc: "a symlink in its place", name: "web", client: unix.ELOOP, want: unix.ELOOP, text: "a symlink lies on the way"},
		{doc: "a file in its place", name: "web", client: unix.ENOTDIR, want: unix.ENOTDIR, text: "is not a directory"},
		{doc: "too few bricks", name: "web", client: unix.ENOTCONN, want: unix.ENOTCONN, text: "gluster volume status one"},
		{doc: "a client that hangs", name: "web", client: mount.ErrHung, want: mount.ErrHung, text: "the Gluster client of gfs1:/one hangs, or its bricks do; 'glustervol info' names its process"},
		{doc: "a client that hung in its start", name: "web", client: &client.StartError{Op: "mount", Err: mount.ErrHung}, want: mount.ErrHung, text: "mount volume web: cannot mount"},
		{doc: "a store that cannot be asked", name: "web", trap: failWith(unix.ENOTCONN), want: ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			_, err := m.Mount(t.Context(), "web", "former")
			must(t, err)
			n.clients.mount = func(context.Context, mount.Source, string) error { return tt.client }
			d.set(tt.trap)
			for _, id := range []string{"new", "former"} {
				path, err := m.Mount(t.Context(), tt.name, id)
				if err == nil || path != "" {
					t.Fatalf("mounted on %q", path)
				}
				if tt.want != nil {
					wantIs(t, err, tt.want)
				}
				wantText(t, err, tt.text)
			}
			wantCounts(t, n, "web", "former:1")
			must(t, m.Unmount(t.Context(), "web", "former"))
			wantCounts(t, n, "web", "")
			wantNames(t, "users of clients", n.clients.usedBy())
		})
	}
}

// TestMountNotNoted has a run directory that cannot be written: a mount that
// is not counted must not be.
func TestMountNotNoted(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	must(t, os.RemoveAll(m.mounts.dir))
	must(t, os.WriteFile(m.mounts.dir, nil, 0o600))
	if path, err := m.Mount(t.Context(), "web", "a"); err == nil {
		t.Errorf("mounted on %q", path)
	}
	wantNames(t, "users of clients", n.clients.usedBy())
	must(t, os.Remove(m.mounts.dir))
	must(t, os.Mkdir(m.mounts.dir, 0o700))
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
}

// TestMountOfAnother has another node remove the volume and create one of that
// name, while this node uses the former.
func TestMountOfAnother(t *testing.T) {
	m, n, d := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	other := newNode(t, "node-b", d).start(t)
	if err := other.Remove(t.Context(), "web", "", false); err == nil {
		t.Fatal("another node has removed a volume in use")
	}
	must(t, other.stores[0].catalog.members.forget(t.Context(), 0))
	must(t, other.Remove(t.Context(), "web", "", false))
	_, err = m.Mount(t.Context(), "web", "b")
	wantIs(t, err, ErrNotFound)
	must(t, other.Create(t.Context(), "web", nil))
	_, err = m.Mount(t.Context(), "web", "b")
	wantText(t, err, "it was removed and created again while this node still uses the former one: a; stop those first")
	wantCounts(t, n, "web", "a:1")
	must(t, m.Unmount(t.Context(), "web", "a"))
	_, err = m.Mount(t.Context(), "web", "b")
	must(t, err)
}

// TestRestart has the driver stop and start under running containers.
func TestRestart(t *testing.T) {
	m, n, _ := oneStore(t)
	for _, name := range []string{"web", "db"} {
		must(t, m.Create(t.Context(), name, nil))
		for _, id := range []string{"a", "a", "b"} {
			_, err := m.Mount(t.Context(), name, id)
			must(t, err)
		}
	}
	must(t, m.UnmountAll(t.Context(), "db", "a"))
	before := n.clients.usedBy()

	m = n.restart(t, m)
	wantNames(t, "users of clients", n.clients.usedBy(), before...)
	wantCounts(t, n, "web", "a:2 b:1")
	wantCounts(t, n, "db", "b:1")
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	wantCounts(t, n, "web", "a:3 b:1")
	must(t, m.Unmount(t.Context(), "db", "b"))
	wantCounts(t, n, "db", "")
	if v, err := m.Get(t.Context(), "web"); err != nil || v.Mountpoint == "" || !slices.Equal(v.Users, []string{"a", "b"}) {
		t.Errorf("got %+v, %v", v, err)
	}
	wantNames(t, "log", n.logs.with("its client is gone"))
}

// TestRestartWithoutClient has a client die while no driver runs.
func TestRestartWithoutClient(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	clear(n.clients.sources)
	m = n.restart(t, m)
	if lines := n.logs.with("level=WARN", "volume=web", "its client is gone"); len(lines) != 1 {
		t.Errorf("logged %q", lines)
	}
	_, err = m.Mount(t.Context(), "web", "b")
	must(t, err)
	wantCounts(t, n, "web", "a:1 b:1")
}

// TestRestartWithOtherServers has the store's address changed: the volume stays
// on the client that its containers use.
func TestRestartWithOtherServers(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	first, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	n.config.Stores[0].Servers = []string{"gfs2", "gfs1"}
	m = n.restart(t, m)
	second, err := m.Mount(t.Context(), "web", "b")
	if err != nil || second != first {
		t.Errorf("mounted on %q, %v; want %q", second, err, first)
	}
	must(t, m.Unmount(t.Context(), "web", "a"))
	must(t, m.Unmount(t.Context(), "web", "b"))
	wantNames(t, "users of clients", n.clients.usedBy())
	third, err := m.Mount(t.Context(), "web", "c")
	if err != nil || third == first {
		t.Errorf("mounted on %q, %v, which has the former servers", third, err)
	}
}

// TestReboot: what was mounted before the machine's boot is not any more.
func TestReboot(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(m.mounts.dir, "boot-id"), []byte("01234567-89ab-cdef-0123-456789abcdef\n"), 0o600))
	must(t, os.WriteFile(m.mounts.file("db")+".tmp", []byte("{"), 0o600))
	must(t, os.WriteFile(m.mounts.file("db")+damagedSuffix, []byte("{"), 0o600))
	m = n.restart(t, m)
	if files, err := os.ReadDir(m.mounts.dir); err != nil || len(files) != 1 || files[0].Name() != "boot-id" {
		t.Errorf("of the last boot are left %v, %v", files, err)
	}
	wantCounts(t, n, "web", "")
	wantNames(t, "users of clients", n.clients.usedBy())
	must(t, m.Remove(t.Context(), "web", "", false))
}

// TestBootUnknown: what may have been mounted since the boot counts.
func TestBootUnknown(t *testing.T) {
	for doc, damage := range map[string]func(file string) error{
		"gone":                     os.Remove,
		"nothing in it":            func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"a directory in its place": func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
	} {
		t.Run(doc, func(t *testing.T) {
			m, n, _ := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			_, err := m.Mount(t.Context(), "web", "a")
			must(t, err)
			file := filepath.Join(m.mounts.dir, "boot-id")
			must(t, damage(file))
			for range 2 {
				m = n.restart(t, m)
				wantCounts(t, n, "web", "a:1")
			}
			if lines := n.logs.with("level=ERROR", file+damagedSuffix); doc != "gone" && len(lines) != 1 {
				t.Errorf("it was told %d times: %q", len(lines), lines)
			}
		})
	}
}

// TestMountsGone: the directory is made anew, with all that is in use.
func TestMountsGone(t *testing.T) {
	m, n, _ := oneStore(t)
	for _, name := range []string{"web", "db"} {
		must(t, m.Create(t.Context(), name, nil))
	}
	_, err := m.Mount(t.Context(), "web", "a")
	must(t, err)
	must(t, os.RemoveAll(m.mounts.dir))
	_, err = m.Mount(t.Context(), "db", "b")
	must(t, err)
	n.restart(t, m)
	wantCounts(t, n, "web", "a:1")
	wantCounts(t, n, "db", "b:1")
}

// TestDamagedMounts has the file of one volume's mounts damaged: that volume
// counts as in use, and everything else goes on.
func TestDamagedMounts(t *testing.T) {
	tests := []struct {
		doc   string
		plant func(file string, good []byte) error
	}{
		{doc: "nothing in it", plant: func(file string, _ []byte) error { return os.WriteFile(file, nil, 0o600) }},
		{doc: "half of it", plant: func(file string, good []byte) error { return os.WriteFile(file, good[:len(good)/2], 0o600) }},
		{doc: "another volume's", plant: func(file string, good []byte) error {
			return os.WriteFile(file, []byte(strings.Replace(string(good), `"web"`, `"db"`, 1)), 0o600)
		}},
		{doc: "no users", plant: func(file string, _ []byte) error { return os.WriteFile(file, []byte(`{"volume":"web"}`), 0o600) }},
		{doc: "a directory in its place", plant: func(file string, _ []byte) error {
			return errors.Join(os.Remove(file), os.Mkdir(file, 0o700))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, _ := oneStore(t)
			for _, name := range []string{"web", "db"} {
				must(t, m.Create(t.Context(), name, nil))
				_, err := m.Mount(t.Context(), name, "a")
				must(t, err)
			}
			file := m.mounts.file("web")
			good, err := os.ReadFile(file)
			must(t, err)
			must(t, tt.plant(file, good))
			damaged, _ := os.ReadFile(file)

			m = n.restart(t, m)
			if lines := n.logs.with("level=ERROR", "volume=web", "web.json.damaged"); len(lines) != 1 {
				t.Errorf("it was told %d times: %q", len(lines), lines)
			}
			if kept, _ := os.ReadFile(file + ".damaged"); string(kept) != string(damaged) {
				t.Errorf("set aside: %q, want %q", kept, damaged)
			}
			wantCounts(t, n, "db", "a:1")

			// Nobody has it bound and it is old, but who used it is not known.
			err = m.Remove(t.Context(), "web", "", false)
			wantInUse(t, err, lostUsers)
			wantText(t, err, "damaged")
			must(t, m.Unmount(t.Context(), "web", "a"))
			_, err = m.Mount(t.Context(), "web", "b")
			must(t, err)
			wantInUse(t, m.Remove(t.Context(), "web", "", false), "b", lostUsers)
			must(t, m.Unmount(t.Context(), "web", "b"))
			wantInUse(t, m.Remove(t.Context(), "web", "", false), lostUsers)
		})
	}
}

// TestDamagedMountsUntilRestart: a person who has looked after it restarts the
// driver.
func TestDamagedMountsUntilRestart(t *testing.T) {
	m, n, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	must(t, os.WriteFile(m.mounts.file("web"), []byte("{"), 0o600))
	m = n.restart(t, m)
	m.mounts.byVolume["web"].Users[lostUsers] = user{Count: 1, Since: math.MinInt64 / 2}
	wantInUse(t, m.Remove(t.Context(), "web", "", false), lostUsers)
	m = n.restart(t, m)
	must(t, m.Remove(t.Context(), "web", "", false))
}

// wantInUse wants a refusal that names the users of volume web.
func wantInUse(t *testing.T, err error, users ...string) {
	t.Helper()
	inUse, ok := errors.AsType[*InUseError](err)
	if !ok || inUse.Volume != "web" || !slices.Equal(inUse.Users, users) {
		t.Errorf("error %v, want that web is in use by %q", err, users)
	}
}

func TestRemove(t *testing.T) {
	tests := []struct {
		doc      string
		options  map[string]string
		keepData bool
		inTrash  int
		data     string // where the data is afterwards; "" is in the trash
	}{
		{doc: "to the trash", inTrash: 1},
		{doc: "to be deleted", options: map[string]string{"on-remove": "delete"}, inTrash: 1},
		{doc: "retained", options: map[string]string{"on-remove": "retain"}, data: "volumes/web"},
		{doc: "kept by request", keepData: true, data: "volumes/web"},
		{doc: "kept, though to be deleted", options: map[string]string{"on-remove": "delete"}, keepData: true, data: "volumes/web"},
		{doc: "in a path", options: map[string]string{"path": "srv"}, data: "srv"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, _, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", tt.options))
			v, err := m.Get(t.Context(), "web")
			must(t, err)
			d.write(t, v.Dir()+"/index.html", "hello")
			must(t, m.Remove(t.Context(), "web", "", tt.keepData))
			wantIs(t, m.Remove(t.Context(), "web", "", tt.keepData), ErrNotFound)
			_, err = m.Get(t.Context(), "web")
			wantIs(t, err, ErrNotFound)
			list, err := m.Trash(t.Context())
			if len(list) != tt.inTrash || err != nil {
				t.Errorf("the trash has %+v, %v", list, err)
			}
			if tt.data == "" {
				tt.data = trashData(v.entry())
			}
			if data, err := os.ReadFile(d.path(tt.data + "/index.html")); string(data) != "hello" {
				t.Errorf("the data: %q, %v", data, err)
			}
			wantNothingUnderWay(t, d)
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	m, n, d := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	for _, id := range []string{"b", "a"} {
		_, err := m.Mount(t.Context(), "web", id)
		must(t, err)
	}
	for range 2 {
		err := m.Remove(t.Context(), "web", "", false)
		wantInUse(t, err, "a", "b")
		wantText(t, err, "volume web is in use on this node by a, b; stop and remove what uses it first")
		wantInUse(t, m.Remove(t.Context(), "web", "", true), "a", "b")
		m = n.restart(t, m)
	}
	wantNothingUnderWay(t, d)
	if !d.has("volumes/web") {
		t.Error("its data is gone")
	}

	for _, name := range []string{"unknown", "", "..", "../tombstones/x", "../../../x", "a\x00b"} {
		wantIs(t, m.Remove(t.Context(), name, "", false), ErrNotFound)
	}
	wantText(t, m.Remove(t.Context(), "web", "gfs1:/gv9", false), "is not one of those that this driver serves")
	must(t, m.UnmountAll(t.Context(), "web", "a"))
	must(t, m.UnmountAll(t.Context(), "web", "b"))
	must(t, m.Remove(t.Context(), "web", "gfs9:/one", false))
}

// TestStaleMounts has dockerd forget to unmount.
func TestStaleMounts(t *testing.T) {
	const old, young = -10 * time.Minute, -time.Minute
	nobody := func(string, string) ([]int, error) { return nil, nil }
	tests := []struct {
		doc   string
		users map[string]time.Duration // and when they mounted
		bound func(key, dir string) ([]int, error)
		want  []string // who still uses it
		err   error
	}{
		{doc: "nobody has it bound", users: map[string]time.Duration{"a": old, "b": old}, bound: nobody},
		{doc: "one has just mounted", users: map[string]time.Duration{"a": old, "b": young}, bound: nobody, want: []string{"b"}},
		{doc: "a person has mounted", users: map[string]time.Duration{"a": old, ManualUser: old}, bound: nobody, want: []string{ManualUser}},
		{doc: "a process has it bound", users: map[string]time.Duration{"a": old, "b": old}, bound: func(string, string) ([]int, error) { return []int{1}, nil }, want: []string{"a", "b"}},
		{doc: "processes cannot be looked at", users: map[string]time.Duration{"a": old}, bound: func(string, string) ([]int, error) { return nil, unix.EACCES }, want: []string{"a"}, err: unix.EACCES},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			m, n, d := oneStore(t)
			must(t, m.Create(t.Context(), "web", nil))
			for id := range tt.users {
				_, err := m.Mount(t.Context(), "web", id)
				must(t, err)
				_, err = m.Mount(t.Context(), "web", id)
				must(t, err)
			}
			v, _ := m.mounts.get("web")
			for id, age := range tt.users {
				v.Users[id] = user{Count: 2, Since: sinceBoot() + age.Nanoseconds()}
			}
			must(t, m.mounts.save(v))
			m = n.restart(t, m)
			n.clients.bound = func(key, dir string) ([]int, error) {
				if key != v.Client || dir != "volumes/web" {
					t.Errorf("asked who has %s of client %s bound", dir, key)
				}
				return tt.bound(key, dir)
			}

			err := m.Remove(t.Context(), "web", "", false)
			switch {
			case tt.err != nil:
				wantIs(t, err, tt.err)
			case len(tt.want) > 0:
				wantInUse(t, err, tt.want...)
			default:
				must(t, err)
				wantNames(t, "users of clients", n.clients.usedBy())
			}
			left, _ := m.mounts.get("web")
			wantNames(t, "users", left.ids(), tt.want...)
			if dropped := n.logs.with("stale mount dropped"); len(dropped) != len(tt.users)-len(tt.want) {
				t.Errorf("logged %q", dropped)
			}
			wantNothingUnderWay(t, d)
		})
	}
}

// TestGetFromMemory has all stores hang and fail: what is known is told at once.
func TestGetFromMemory(t *testing.T) {
	for doc, trap := range map[string]trap{"hung": hang, "down": failWith(unix.ENOTCONN), "empty": failWith(fs.ErrNotExist)} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", doc, restarted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, n, one, two := twoStores(t)
					must(t, m.Create(t.Context(), "web", nil))
					must(t, m.Create(t.Context(), "db", map[string]string{"store": "gfs1:/two", "uid": fmt.Sprint(os.Getuid())}))
					_, err := m.Mount(t.Context(), "web", "a")
					must(t, err)
					synctest.Wait() // a mount is measured in the background
					one.set(trap)
					two.set(trap)
					if restarted {
						m = n.restart(t, m)
					}
					operations := one.operations.Load() + two.operations.Load()
					list := slices.Collect(m.List())
					if len(list) != 2 || list[0].Name != "db" || list[0].Store != "gfs1:/two" || list[1].Name != "web" || list[1].Mountpoint == "" {
						t.Errorf("listed: %+v", list)
					}
					for _, want := range list {
						v, err := m.Get(t.Context(), want.Name)
						if err != nil || v.ID != want.ID || v.Mountpoint != want.Mountpoint {
							t.Errorf("got %+v, %v; want %+v", v, err, want)
						}
					}
					if infos := m.Stores(); len(infos) != 2 || !infos[0].Default || infos[1].Default || infos[0].Volumes != 1 {
						t.Errorf("stores: %+v", infos)
					}
					must(t, m.Unmount(t.Context(), "web", "a"))
					if n := one.operations.Load() + two.operations.Load() - operations; n > 0 {
						t.Errorf("the stores were asked %d times", n)
					}
				})
			})
		}
	}
}

func TestGetUnknown(t *testing.T) {
	tests := []struct {
		doc  string
		name string
		one  trap
		want error
		not  error
	}{
		{doc: "a name that no store has", name: "unknown", want: ErrNotFound},
		{doc: "a bad name", name: "../web", want: ErrNotFound},
		{doc: "a bad name, with a store down", name: "a/b", one: failWith(unix.ENOTCONN), want: ErrNotFound},
		{doc: "a name that another node has just made", name: "new"},
		{doc: "a name that another node has just made, with the other store down", name: "new", one: failWith(unix.ENOTCONN)},
		{doc: "a name that another node has just made, with the other store hung", name: "new", one: hang},
		{doc: "a name that a store that is down may have", name: "unknown", one: failWith(unix.ENOTCONN), want: ErrUnreachable, not: ErrNotFound},
		{doc: "a name that a store that hangs may have", name: "unknown", one: hang, want: ErrUnreachable, not: ErrNotFound},
		{doc: "a name that a store that refuses may have", name: "unknown", one: failWith(unix.EACCES), want: unix.EACCES, not: ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, one, two := twoStores(t)
				mustCreate(t, two.catalog(t, Node{ID: "node-b"}), definition("new", nil), false)
				one.set(tt.one)
				start := time.Now()
				v, err := m.Get(t.Context(), tt.name)
				wantIs(t, err, tt.want)
				if tt.not != nil && errors.Is(err, tt.not) {
					t.Errorf("error %v is %v", err, tt.not)
				}
				if tt.want == nil && v.Store != "gfs1:/two" {
					t.Errorf("got %+v", v)
				}
				if waited := time.Since(start); waited > lookUpTime {
					t.Errorf("it took %s", waited)
				}
			})
		})
	}
}

// TestLookUpWhileBricksReturn: Gluster has no quorum for a name, for a moment.
func TestLookUpWhileBricksReturn(t *testing.T) {
	for call, look := range map[string]func(*Manager) error{
		"get":   func(m *Manager) error { _, err := m.Get(context.Background(), "new"); return err },
		"mount": func(m *Manager) error { _, err := m.Mount(context.Background(), "new", "a"); return err },
	} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, one, two := twoStores(t)
				mustCreate(t, two.catalog(t, Node{ID: "node-b"}), definition("new", nil), false)
				end := time.Now().Add(time.Second)
				for _, d := range []*disk{one, two} {
					d.set(func(_ context.Context, op, name string) error {
						if time.Now().Before(end) {
							return &fs.PathError{Op: op, Path: name, Err: unix.ENOTCONN}
						}
						return nil
					})
				}
				must(t, look(m))
			})
		})
	}
}

// TestOneNameInTwoStores can happen when the stores are served together late.
func TestOneNameInTwoStores(t *testing.T) {
	m, _, one, two := twoStores(t)
	ctx := t.Context()
	for _, d := range []*disk{one, two} {
		mustCreate(t, d.catalog(t, Node{ID: "node-b"}), definition("web", nil), false)
	}
	const want = "it exists in two stores, gfs1:/one and gfs1:/two; remove one with 'glustervol rm --store ADDRESS'"
	_, getErr := m.Get(ctx, "web")
	_, mountErr := m.Mount(ctx, "web", "a")
	for call, err := range map[string]error{
		"get": getErr, "mount": mountErr, "create": m.Create(ctx, "web", nil), "remove": m.Remove(ctx, "web", "", false),
	} {
		wantText(t, err, want)
		if errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v tells that there is none", call, err)
		}
	}
	for _, s := range m.stores {
		must(t, s.refresh(ctx))
	}
	if list := slices.Collect(m.List()); len(list) != 1 || list[0].Store != "gfs1:/one" {
		t.Errorf("listed: %+v", list)
	}
	_, err := m.Mount(ctx, "web", "a")
	wantText(t, err, want)

	must(t, m.Remove(ctx, "web", "gfs7:/one", false))
	v, err := m.Get(ctx, "web")
	if err != nil || v.Store != "gfs1:/two" {
		t.Errorf("the one that is left: %+v, %v", v, err)
	}
	_, err = m.Mount(ctx, "web", "a")
	must(t, err)
}

// TestHungStore has one of two stores hang: what asks it leaves at its deadline,
// and the other works.
func TestHungStore(t *testing.T) {
	for doc, whole := range map[string]bool{"as a whole": true, "from the next operation on": false} {
		t.Run(doc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, n, one, two := twoStores(t)
				must(t, m.Create(t.Context(), "web", nil))
				must(t, m.Create(t.Context(), "former", nil))
				must(t, m.Remove(t.Context(), "former", "", false))
				must(t, m.Create(t.Context(), "db", map[string]string{"store": "gfs1:/two"}))
				must(t, m.Create(t.Context(), "old", map[string]string{"store": "gfs1:/two", "on-remove": "delete"}))
				_, err := m.Mount(t.Context(), "web", "a")
				must(t, err)
				synctest.Wait()
				one.set(hang)
				if whole {
					m = n.restart(t, m)
				}
				ctx, cancel := context.WithCancel(t.Context())
				stopped := make(chan struct{})
				go func() { m.Run(ctx); close(stopped) }()
				defer func() { cancel(); <-stopped }()

				const deadline = 50 * time.Second
				within := func(call string, limit time.Duration, want error, fn func(context.Context) error) {
					t.Helper()
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					defer cancel()
					start := time.Now()
					err := fn(ctx)
					if took := time.Since(start); took > limit {
						t.Errorf("%s took %s", call, took)
					}
					if !errors.Is(err, want) {
						t.Errorf("%s: error %v, want %v", call, err, want)
					}
				}
				mountIt := func(name, id string) func(context.Context) error {
					return func(ctx context.Context) error { _, err := m.Mount(ctx, name, id); return err }
				}
				remove := func(name string) func(context.Context) error {
					return func(ctx context.Context) error { return m.Remove(ctx, name, "", false) }
				}
				create := func(name, store string) func(context.Context) error {
					return func(ctx context.Context) error {
						return m.Create(ctx, name, map[string]string{"store": store, "on-remove": "delete"})
					}
				}
				within("mount in the hung store", deadline, ErrUnreachable, mountIt("web", "b"))
				within("remove in the hung store", deadline+cleanUpTime, ErrUnreachable, remove("web"))
				within("create in the hung store", deadline+cleanUpTime, ErrUnreachable, create("x", "gfs1:/one"))
				within("unmount in the hung store", 0, nil, func(ctx context.Context) error { return m.Unmount(ctx, "web", "a") })
				within("mount", 0, nil, mountIt("db", "a"))
				within("unmount", 0, nil, func(ctx context.Context) error { return m.Unmount(ctx, "db", "a") })
				within("create", othersTime, nil, create("new", "gfs1:/two"))
				within("mount of a new one", 0, nil, mountIt("new", "a"))
				within("unmount of a new one", 0, nil, func(ctx context.Context) error { return m.Unmount(ctx, "new", "a") })
				within("remove", 2*othersTime, nil, func(ctx context.Context) error { return m.Remove(ctx, "new", "", false) })
				within("remove the old", 2*othersTime, nil, remove("old"))
				time.Sleep(time.Second)
				if entries, err := os.ReadDir(two.path(trashDir)); err != nil || len(entries) > 0 {
					t.Errorf("with on-remove=delete there is left in the trash of the other store: %v, %v", entries, err)
				}
				within("list the trash", lookUpTime, ErrUnreachable, func(ctx context.Context) error { _, err := m.Trash(ctx); return err })
			})
		})
	}
}

// TestLaterOperationWaits has two operations on one name, and one on another.
func TestLaterOperationWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, _ := oneStore(t)
		for _, name := range []string{"web", "db"} {
			must(t, m.Create(t.Context(), name, nil))
		}
		started := make(chan struct{})
		n.clients.mount = func(_ context.Context, _ mount.Source, dir string) error {
			if dir == "volumes/web" {
				time.Sleep(time.Minute)
			}
			return nil
		}
		go func() {
			_, err := m.Mount(t.Context(), "web", "a")
			if err != nil {
				t.Error(err)
			}
			close(started)
		}()
		synctest.Wait()
		start := time.Now()
		_, err := m.Mount(t.Context(), "db", "a")
		must(t, err)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("another volume waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err = m.Unmount(ctx, "web", "a")
		wantIs(t, err, context.DeadlineExceeded)
		wantText(t, err, "volume web: an earlier operation on it has not finished")
		must(t, m.Unmount(t.Context(), "web", "a"))
		<-started
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("the later operation came %s after the earlier", waited)
		}
		wantCounts(t, n, "web", "")
	})
}

// TestMeasure notes a quota, which shows as the size of the file system.
func TestMeasure(t *testing.T) {
	m, _, _ := oneStore(t)
	must(t, m.Create(t.Context(), "web", nil))
	s := m.stores[0]
	def, _ := s.get("web")
	s.setLimit("web", 1<<30)
	if v, err := m.Get(t.Context(), "web"); err != nil || v.Limit != 1<<30 {
		t.Errorf("got %+v, %v", v, err)
	}
	m.measure(t.Context(), s, def) // plain disk has the same size everywhere
	if v, err := m.Get(t.Context(), "web"); err != nil || v.Limit != 0 {
		t.Errorf("got %+v, %v", v, err)
	}
}
