package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// disk is the files of a store, on plain disk. The control planes of all nodes
// of a test lead to it, and the test can hang them, cut them off, or put holes
// into their listings.
type disk struct {
	dir string
	// operations counts what it was asked for, openings included.
	operations atomic.Int64

	mu     sync.Mutex
	trap   trap
	hidden map[string]bool
	// removeTree is RemoveTree, if it is not nil.
	removeTree func(ctx context.Context, removed func(n int)) error
}

// trap is asked before an operation; its error is that of the operation.
type trap func(ctx context.Context, op, name string) error

func newDisk(t testing.TB) *disk {
	t.Helper()
	return &disk{dir: memoryDir(t), hidden: map[string]bool{}}
}

// memoryDir is an empty directory, in memory if this machine can: the catalog
// syncs every file that it writes.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "glustervol") //nolint:usetesting // t.TempDir is on disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// set sets the trap; nil is none.
func (d *disk) set(t trap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = t
}

// hide leaves a name out of all listings.
func (d *disk) hide(name string, hidden bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hidden[name] = hidden
}

func (d *disk) before(ctx context.Context, op, name string) error {
	d.operations.Add(1)
	d.mu.Lock()
	trap := d.trap
	d.mu.Unlock()
	if trap == nil {
		return nil
	}
	return trap(ctx, op, name)
}

// hang is a store that does not answer.
func hang(ctx context.Context, op, name string) error {
	<-ctx.Done()
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w (%w)", gluster.ErrNoAnswer, context.Cause(ctx))}
}

// failWith is a store that answers everything with an error.
func failWith(err error) trap {
	return func(_ context.Context, op, name string) error { return &fs.PathError{Op: op, Path: name, Err: err} }
}

// onlyFor is a trap for some operations alone.
func onlyFor(op, name string, trap trap) trap {
	return func(ctx context.Context, o, n string) error {
		if o == op && n == name {
			return trap(ctx, o, n)
		}
		return nil
	}
}

// open opens a control plane; it is a Control's Open.
func (d *disk) open(ctx context.Context, _ gluster.Address) (ControlPlane, error) {
	return d.plane(ctx)
}

func (d *disk) plane(ctx context.Context) (*plane, error) {
	if err := d.before(ctx, "open", "."); err != nil {
		return nil, err
	}
	dir, err := gluster.OpenDir(ctx, d.dir)
	if err != nil {
		return nil, err
	}
	return &plane{Dir: dir, disk: d}, nil
}

// plane is a control plane on a disk.
type plane struct {
	*gluster.Dir
	disk *disk
	dead atomic.Bool
}

var _ ControlPlane = (*plane)(nil)

func (p *plane) Alive() bool { return !p.dead.Load() }

func (p *plane) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	if err := p.disk.before(ctx, "mkdir", name); err != nil {
		return err
	}
	return p.Dir.Mkdir(ctx, name, mode)
}

func (p *plane) Create(ctx context.Context, name string, data []byte) (uint64, error) {
	if err := p.disk.before(ctx, "create", name); err != nil {
		return 0, err
	}
	return p.Dir.Create(ctx, name, data)
}

func (p *plane) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if err := p.disk.before(ctx, "read", name); err != nil {
		return nil, err
	}
	return p.Dir.ReadFile(ctx, name)
}

func (p *plane) ReadDir(ctx context.Context, name string) ([]gluster.Entry, error) {
	if err := p.disk.before(ctx, "readdir", name); err != nil {
		return nil, err
	}
	list, err := p.Dir.ReadDir(ctx, name)
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	return slices.DeleteFunc(list, func(e gluster.Entry) bool { return p.disk.hidden[e.Name] }), err
}

func (p *plane) Lstat(ctx context.Context, name string) (gluster.Info, error) {
	if err := p.disk.before(ctx, "lstat", name); err != nil {
		return gluster.Info{}, err
	}
	return p.Dir.Lstat(ctx, name)
}

func (p *plane) Rename(ctx context.Context, oldName, newName string) error {
	if err := p.disk.before(ctx, "rename", newName); err != nil {
		return err
	}
	return p.Dir.Rename(ctx, oldName, newName)
}

func (p *plane) Remove(ctx context.Context, name string) error {
	if err := p.disk.before(ctx, "remove", name); err != nil {
		return err
	}
	return p.Dir.Remove(ctx, name)
}

func (p *plane) Chown(ctx context.Context, name string, uid, gid int) error {
	if err := p.disk.before(ctx, "chown", name); err != nil {
		return err
	}
	return p.Dir.Chown(ctx, name, uid, gid)
}

func (p *plane) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	if err := p.disk.before(ctx, "chmod", name); err != nil {
		return err
	}
	return p.Dir.Chmod(ctx, name, mode)
}

func (p *plane) RemoveTree(ctx context.Context, name string, removed func(int)) error {
	if err := p.disk.before(ctx, "remove tree", name); err != nil {
		return err
	}
	if p.disk.removeTree != nil {
		return p.disk.removeTree(ctx, removed)
	}
	return p.Dir.RemoveTree(ctx, name, removed)
}

func (p *plane) Usage(ctx context.Context, name string) (gluster.Usage, error) {
	if err := p.disk.before(ctx, "usage", name); err != nil {
		return gluster.Usage{}, err
	}
	return p.Dir.Usage(ctx, name)
}

// catalog is the catalog of the disk as another node works on it. That one
// waits for nobody: what it finds under way it takes for left behind.
func (d *disk) catalog(t testing.TB, node Node) *catalog {
	t.Helper()
	p, err := d.plane(t.Context())
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return openCatalog(t, p, node)
}

// mustCreate makes a volume on a store.
func mustCreate(t testing.TB, c *catalog, def Definition, adopt bool) Definition {
	t.Helper()
	def, err := c.create(t.Context(), def, adopt)
	must(t, err)
	return def
}

// ownTombstone is the tombstone of a catalog's own node.
func ownTombstone(t testing.TB, c *catalog, entry string) string {
	t.Helper()
	number, err := c.members.join(t.Context())
	must(t, err)
	return tombstoneFile(entry, number)
}

// mustWrite writes a file of the catalog.
func mustWrite(t testing.TB, c *catalog, file string, r record) {
	t.Helper()
	_, err := c.writeRecord(t.Context(), file, r)
	must(t, err)
}

// path is where a file of the store is on this machine.
func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

// write puts a file onto the store by hand.
func (d *disk) write(t testing.TB, name, data string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(d.path(name)), 0o755))
	must(t, os.WriteFile(d.path(name), []byte(data), 0o600))
}

// has tells whether a file is on the store.
func (d *disk) has(name string) bool {
	_, err := os.Lstat(d.path(name))
	return err == nil
}

// snapshot is all of a directory: mode, owner, and content or target, by path.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			if content, err = os.Readlink(path); err != nil {
				return err
			}
		}
		files[path] = info.Mode().String() + " " + info.ModTime().String() + " " + content
		return nil
	}))
	return files
}

// fakeClients are Clients that count their users and start nothing.
type fakeClients struct {
	// use says how the start of a client goes on; nil is well.
	use func(ctx context.Context, source mount.Source) error
	// mount says how a Mount of a user that is counted goes on; nil is well.
	mount func(ctx context.Context, source mount.Source, dir string) error
	// bound is Bound; nil is by nobody.
	bound func(key, dir string) ([]int, error)

	mu      sync.Mutex
	sources map[string]mount.Source
	users   map[string]map[string]bool
}

var _ Clients = (*fakeClients)(nil)

func newFakeClients() *fakeClients {
	return &fakeClients{sources: map[string]mount.Source{}, users: map[string]map[string]bool{}}
}

func (c *fakeClients) Mount(ctx context.Context, source mount.Source, dir mount.Dir, user string) (string, error) {
	key := source.Key()
	counted := c.count(source, user)
	if c.mount != nil {
		if err := c.mount(ctx, source, dir.Path); err != nil {
			if !counted {
				c.Release(key, user)
			}
			return "", err
		}
	}
	return filepath.Join("/clients", key, dir.Path), nil
}

// Use returns no client: the Manager needs none.
func (c *fakeClients) Use(ctx context.Context, source mount.Source, user string) (*mount.Client, error) {
	if c.use != nil {
		if err := c.use(ctx, source); err != nil {
			return nil, err
		}
	}
	c.count(source, user)
	return nil, nil
}

// count counts a user, and tells whether it was counted before.
func (c *fakeClients) count(source mount.Source, user string) (counted bool) {
	key := source.Key()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, runs := c.sources[key]; !runs {
		c.sources[key], c.users[key] = source, map[string]bool{}
	}
	counted = c.users[key][user]
	c.users[key][user] = true
	return counted
}

func (c *fakeClients) Hold(key, user string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, runs := c.sources[key]; !runs {
		return false
	}
	c.users[key][user] = true
	return true
}

// Release ends a client with its last user, at once.
func (c *fakeClients) Release(key, user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.users[key], user)
	if len(c.users[key]) == 0 {
		delete(c.sources, key)
	}
}

// Died never tells: clients do not die here.
func (c *fakeClients) Died() <-chan struct{} { return nil }

func (c *fakeClients) Revive(context.Context, string) error { return nil }

func (c *fakeClients) Graft(context.Context, string, []string, func(int) []string) ([]mount.Graft, error) {
	return nil, nil
}

func (c *fakeClients) Bound(key, dir string) ([]int, error) {
	if c.bound == nil {
		return nil, nil
	}
	return c.bound(key, dir)
}

func (c *fakeClients) Status(key string) mount.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	source, runs := c.sources[key]
	if !runs {
		return mount.Status{Key: key, Health: "not running"}
	}
	return mount.Status{Key: key, Source: source, PID: 1, Health: "alive", Mount: filepath.Join("/clients", key)}
}

// restart is what the driver's next start finds: the clients, without users.
func (c *fakeClients) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.users {
		clear(c.users[key])
	}
}

// usedBy are the users of all clients, as KEY/USER, sorted.
func (c *fakeClients) usedBy() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, users := range c.users {
		for user := range users {
			list = append(list, key+"/"+user)
		}
	}
	slices.Sort(list)
	return list
}

// logs keeps what was logged, a line each.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// with returns the lines that have all of these words.
func (l *logs) with(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}

// node is a node of a test's cluster, with all that its driver keeps over a
// restart.
type node struct {
	config  Config
	clients *fakeClients
	logs    *logs
}

// The addresses of a node's stores, in their order.
var storeAddresses = []string{"gfs1:/one", "gfs1:/two"}

func newNode(t testing.TB, id string, disks ...*disk) *node {
	t.Helper()
	n := &node{clients: newFakeClients(), logs: new(logs)}
	n.config = Config{
		Node:     Node{ID: id, Session: "1"},
		RunDir:   t.TempDir(),
		StateDir: t.TempDir(),
		BootWait: math.MaxInt64, // the machine may have run for long
		Clients:  n.clients,
		Log:      n.logs.logger(),
	}
	byVolume := map[string]*disk{}
	for i, d := range disks {
		address, err := gluster.ParseAddress(storeAddresses[i])
		must(t, err)
		n.config.Stores = append(n.config.Stores, address)
		byVolume[address.Volume] = d
	}
	n.config.Control = Control{
		ControlInfo: ControlInfo{Kind: "disk", Why: "this is a test"},
		Open: func(ctx context.Context, a gluster.Address) (ControlPlane, error) {
			return byVolume[a.Volume].open(ctx, a)
		},
		Graph: func(context.Context, gluster.Address) (gluster.Graph, error) {
			return nil, errors.New("a disk has no bricks")
		},
	}
	return n
}

// start starts the node's driver. It does not run in the background.
func (n *node) start(t testing.TB) *Manager {
	t.Helper()
	m, err := New(n.config)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// restart ends a driver and starts the next.
func (n *node) restart(t testing.TB, m *Manager) *Manager {
	t.Helper()
	must(t, m.Close())
	n.clients.restart()
	n.config.Node.Session += "+"
	return n.start(t)
}

// oneStore is a driver of node-a with one store.
func oneStore(t testing.TB) (*Manager, *node, *disk) {
	t.Helper()
	d := newDisk(t)
	n := newNode(t, "node-a", d)
	return n.start(t), n, d
}

// twoStores is a driver of node-a with two stores; the first is the default.
func twoStores(t testing.TB) (m *Manager, n *node, one, two *disk) {
	t.Helper()
	one, two = newDisk(t), newDisk(t)
	n = newNode(t, "node-a", one, two)
	return n.start(t), n, one, two
}

// wantIs wants an error of a kind; nil wants none.
func wantIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want %v", err, target)
	}
}
