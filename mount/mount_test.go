package mount_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

func TestMain(m *testing.M) { testnode.Main(m) }

func newClients(t *testing.T, dir string) *mount.Clients {
	t.Helper()
	return mount.NewClients(mount.Config{
		RunDir: filepath.Join(dir, "clients"),
		LogDir: filepath.Join(dir, "log"),
		Binary: "glusterfs",
		Linger: 10 * time.Millisecond,
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
}

func TestUse(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	dir := t.TempDir()
	cs := newClients(t, dir)
	source := mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name}
	c, err := cs.Use(t.Context(), source, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Path(), "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(gv.Bricks[0], "f")); err != nil {
		t.Fatal(err)
	}
	cs.Release(source.Key(), "a")
	if err := cs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var _ = errors.Is
var _ = strings.Cut
var _ = syscall.Kill
var _ = context.Background
