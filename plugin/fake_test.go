package plugin

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

// fakeManager does what a test says, and fails the test with a nil pointer when
// it is asked for what the test has not thought of.
type fakeManager struct {
	create     func(ctx context.Context, name string, options map[string]string) error
	mount      func(ctx context.Context, name, id string) (string, error)
	unmount    func(ctx context.Context, name, id string) error
	unmountAll func(ctx context.Context, name, id string) error
	remove     func(ctx context.Context, name, storeName string, keepData bool) error
	get        func(ctx context.Context, name string) (volume.Volume, error)
	list       func() []volume.Volume
	trash      func(ctx context.Context) ([]volume.Trashed, error)
	restore    func(ctx context.Context, which, newName string) (string, error)
	emptyTrash func(ctx context.Context, which []string, report func(volume.Progress)) error
	containers []volume.ContainerRef
	nodes      func(ctx context.Context) ([]volume.NodeInfo, error)
	forget     func(ctx context.Context, node string) error
	reports    []volume.StoreReport
}

var (
	_ AdminManager = (*fakeManager)(nil)
	_ AdminManager = (*volume.Manager)(nil)
)

func (f *fakeManager) Create(ctx context.Context, name string, options map[string]string) error {
	return f.create(ctx, name, options)
}

func (f *fakeManager) Mount(ctx context.Context, name, id string) (string, error) {
	return f.mount(ctx, name, id)
}

func (f *fakeManager) Unmount(ctx context.Context, name, id string) error {
	return f.unmount(ctx, name, id)
}

func (f *fakeManager) UnmountAll(ctx context.Context, name, id string) error {
	return f.unmountAll(ctx, name, id)
}

func (f *fakeManager) Remove(ctx context.Context, name, storeName string, keepData bool) error {
	return f.remove(ctx, name, storeName, keepData)
}

func (f *fakeManager) Get(ctx context.Context, name string) (volume.Volume, error) {
	return f.get(ctx, name)
}

func (f *fakeManager) List() iter.Seq[volume.Volume] { return slices.Values(f.list()) }

func (f *fakeManager) Trash(ctx context.Context) ([]volume.Trashed, error) { return f.trash(ctx) }

func (f *fakeManager) Restore(ctx context.Context, which, newName string) (string, error) {
	return f.restore(ctx, which, newName)
}

func (f *fakeManager) EmptyTrash(ctx context.Context, which []string, report func(volume.Progress)) error {
	return f.emptyTrash(ctx, which, report)
}

func (f *fakeManager) Containers(string) []volume.ContainerRef { return f.containers }

func (f *fakeManager) Nodes(ctx context.Context) ([]volume.NodeInfo, error) { return f.nodes(ctx) }

func (f *fakeManager) Reports(context.Context) []volume.StoreReport { return f.reports }

func (f *fakeManager) Forget(ctx context.Context, node string) error { return f.forget(ctx, node) }

// webVolume is the volume web, mounted.
func webVolume() volume.Volume {
	return volume.Volume{
		Definition: volume.Definition{
			Name: "web", ID: "0123456789abcdef", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Options: volume.Options{OnRemove: volume.Trash, UID: new(999)},
		},
		Store:      "gfs1:/gv0",
		Mountpoint: "/clients/gv0-1/mnt/volumes/web",
		Users:      []string{"a"},
		Client:     mount.Status{Key: "gv0-1", PID: 7, Health: "alive", Mount: "/clients/gv0-1/mnt"},
	}
}

// socketPath is where a test may listen; the path of a unix socket has 107
// bytes at most.
func socketPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	if len(path) > 100 {
		t.Fatalf("%s is too long for a socket; set TMPDIR to a shorter one", path)
	}
	return path
}

func listen(t testing.TB) (l net.Listener, path string) {
	t.Helper()
	path = socketPath(t)
	l, err := Listen(path, -1)
	must(t, err)
	return l, path
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}
