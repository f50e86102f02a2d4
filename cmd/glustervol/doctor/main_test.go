package doctor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

func TestMain(m *testing.M) { testnode.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeDriver says what a test has it say.
type fakeDriver struct {
	info    func(ctx context.Context) (plugin.Info, error)
	nodes   []volume.NodeInfo
	err     error
	reports []volume.StoreReport
}

var _ Driver = (*plugin.AdminClient)(nil)

func (d *fakeDriver) Info(ctx context.Context) (plugin.Info, error) { return d.info(ctx) }

func (d *fakeDriver) Nodes(context.Context) ([]volume.NodeInfo, error) { return d.nodes, d.err }

func (d *fakeDriver) Reports(context.Context) ([]volume.StoreReport, error) { return d.reports, d.err }

var errNotThere = errors.New("the glustervol driver does not run on this node")

// stopped is a driver that does not run.
func stopped() *fakeDriver {
	return &fakeDriver{info: func(context.Context) (plugin.Info, error) { return plugin.Info{}, errNotThere }, err: errNotThere}
}

// running is a driver that runs, on a node where all is well.
func running(t *testing.T) (*Node, *fakeDriver) {
	n := New()
	n.Version = "1"
	n.info = plugin.Info{
		Version: "1", PID: 7, Docker: "its containers are known", RunDir: t.TempDir(), LogDir: t.TempDir(),
		Socket: "/run/docker/plugins/glustervol.sock",
	}
	driver := &fakeDriver{}
	driver.info = func(context.Context) (plugin.Info, error) { return n.info, nil }
	n.Driver = driver
	n.RunDir, n.LogDir, n.PluginSocket = n.info.RunDir, n.info.LogDir, n.info.Socket
	return n, driver
}

// managed is a driver that is a managed plugin.
func managed(t *testing.T) *Node {
	n, _ := running(t)
	n.info.Socket = "/run/docker/plugins/0f1e/glustervol.sock"
	return n
}

// alone is a node without a running driver.
func alone(t *testing.T) *Node {
	n := New()
	n.Driver, n.infoErr = stopped(), errNotThere
	n.RunDir, n.LogDir = t.TempDir(), t.TempDir()
	n.Glusterfs = "glusterfs"
	return n
}

// expect wants the only line of a check to be of a level, with words in it.
func expect(t *testing.T, found []Finding, level Level, words ...string) {
	t.Helper()
	if len(found) != 1 {
		t.Errorf("%d lines, want one: %+v", len(found), found)
	}
	expectAmong(t, found, level, words...)
}

// expectAmong wants a line of a level with words in it, and advice unless all is well.
func expectAmong(t *testing.T, found []Finding, level Level, words ...string) {
	t.Helper()
	for _, f := range found {
		text := f.Check + " " + f.Text + "; " + f.Advice
		all := f.Level == level
		for _, word := range words {
			all = all && strings.Contains(text, word)
		}
		if all {
			return
		}
	}
	t.Errorf("no %s with %q in %+v", level, words, found)
}

// levelsOf are the levels of findings, in their order.
func levelsOf(found []Finding) (list []Level) {
	for _, f := range found {
		list = append(list, f.Level)
	}
	return list
}

// write writes a file of a test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(file, []byte(text), 0o755))
	return file
}

// look looks at a store as a node without a driver does.
func look(t *testing.T, store string) volume.StoreReport {
	t.Helper()
	address, err := gluster.ParseAddress(store)
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	control, err := volume.NewControl(volume.ControlAuto, mount.NewClients(mount.Config{}), t.TempDir(), log)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return volume.Report(ctx, control, address)
}

// TestHanging: what hangs is told of, and the rest shows.
func TestHanging(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	const limit = 100 * time.Millisecond
	checks := []check{
		{name: "hangs", look: func(context.Context) []Finding { <-hang; return nil }, patience: limit},
		{name: "well", look: func(context.Context) []Finding { return one(ok("fine")) }},
		{name: "heeds", look: func(ctx context.Context) []Finding { <-ctx.Done(); return one(failure("", "gave up")) }, patience: limit},
	}
	start := time.Now()
	found := runAll(t.Context(), checks)
	if took := time.Since(start); took > limit+3*grace {
		t.Errorf("it took %s", took)
	}
	if len(found) != 3 {
		t.Fatalf("%+v", found)
	}
	expect(t, found[:1], Failure, "hangs", "no answer within 100ms")
	expect(t, found[1:2], OK, "well", "fine")
	expect(t, found[2:], Failure, "heeds", "gave up")
	if Worst(found) != Failure || Worst(found[1:2]) != OK || Worst(nil) != OK {
		t.Errorf("the worst of %+v is %s", found, Worst(found))
	}
}
