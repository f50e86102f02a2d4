package mount_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

func TestMain(m *testing.M) { testnode.Main(m) }

// TestClients runs all tests that can share a Gluster volume, since to make one
// takes seconds. Each has a directory on it and a run directory of its own.
func TestClients(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.Filter(t, silentHost, "24007", "DROP")
	testnode.Filter(t, refusingHost, "24007", "REJECT")
	testnode.Listen(t, "["+muteHost+"]:24007")
	root := newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name})
	files := root.use(root.source, "test").Path()

	tests := []struct {
		name string
		run  func(t *testing.T, n *node)
	}{
		{"users share a client", testShare},
		{"linger", testLinger},
		{"mount", testMount},
		{"mount what was replaced", testMountReplaced},
		{"mount after a death", testMountAfterDeath},
		{"bound", testBound},
		{"users come and go", testChurn},
		{"close", testClose},
		{"files in use", testBusy},
		{"bind mount", testBind},
		{"options", testOptions},
		{"odd directory", testOddDirectory},
		{"log", testLog},
		{"adopt", testAdopt},
		{"adopt idle clients", testAdoptIdle},
		{"adopt a dead client", testAdoptDead},
		{"adopt a directory", testAdoptDirectory},
		{"adopt past a broken one", testAdoptBroken},
		{"adopt past a foreign mount", testAdoptCovered},
		{"adopt past an unmounted one", testAdoptUnmounted},
		{"adopt a client that is starting", testAdoptStarting},
		{"start errors", testStartErrors},
		{"switched-off server", testSwitchedOff},
		{"verify", testVerifyDir},
		{"verify a mount below", testVerifyMountBelow},
		{"death", testDeath},
		{"death in a start", testDeathInStart},
		{"number of a dead mount", testDeadNumber},
		{"graft beside a hung mount", testGraftHung},
		{"unmounted by hand", testUnmounted},
		{"shown on a second path", testShown},
		{"covered by another mount", testCovered},
		{"hung", testHung},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := strings.ReplaceAll(tt.name, " ", "-")
			must(t, os.Mkdir(filepath.Join(files, dir), 0o755))
			tt.run(t, newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name, Subdir: dir}))
		})
	}
}

const (
	// silentHost is an address from which nothing ever comes back.
	silentHost = "198.51.100.2"
	// refusingHost is the address of a machine where no glusterd runs.
	refusingHost = "198.51.100.3"
	// muteHost accepts connections and never says a word.
	muteHost = "::1"

	// patience bounds every wait for what has to happen soon.
	patience = 30 * time.Second
)

// node is a run directory, as one driver after the other finds it.
type node struct {
	*mount.Clients
	t      *testing.T
	config mount.Config
	log    *recorder
	// dir has the run directory and the logs in it, and mounts that a test makes.
	dir string
	// source is a directory of the Gluster volume that no other test uses.
	source mount.Source
}

func newRunDir(t *testing.T, source mount.Source) *node {
	t.Helper()
	log := &recorder{}
	n := &node{t: t, log: log, dir: t.TempDir(), source: source}
	n.config = mount.Config{
		RunDir: filepath.Join(n.dir, "run"),
		LogDir: filepath.Join(n.dir, "log"),
		Binary: "glusterfs",
		Linger: 10 * time.Millisecond,
		Log:    slog.New(log),
	}
	n.Clients = mount.NewClients(n.config)
	t.Cleanup(n.end)
	return n
}

// end ends all clients and sees that nothing of them is left.
func (n *node) end() {
	for _, status := range n.List() {
		for _, user := range status.Users {
			n.Release(status.Key, user)
		}
	}
	n.eventually("all clients are closed", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := n.Close(ctx)
		if err != nil && !errors.Is(err, mount.ErrBusy) { // some other test starts a process
			n.t.Errorf("close: %v", err)
		}
		return err == nil
	})
	if n.t.Failed() {
		n.t.Log(strings.Join(n.log.all(), "\n"))
		for _, file := range glob(n.t, filepath.Join(n.config.LogDir, "*.log")) {
			data, err := os.ReadFile(file)
			n.t.Logf("%s: %s %v", file, data[max(0, len(data)-1000):], err)
		}
	}
	n.eventually("all clients end", func() bool { return len(n.processes()) == 0 && len(n.mounts()) == 0 })
	if left := glob(n.t, filepath.Join(n.config.RunDir, "*")); len(left) > 0 {
		n.t.Errorf("left behind: %s", left)
	}
}

// eventually waits until ok. If that never happens, it clears the test's mounts
// and processes away, so that the other tests are not held up by them.
func (n *node) eventually(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Errorf("never came true: %s; processes %v, mounts %v", what, n.processes(), n.mounts())
			n.clear()
			n.t.FailNow()
		}
	}
}

func (n *node) clear() {
	for _, pid := range n.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	for _, point := range n.mounts() {
		_ = unix.Unmount(point, unix.MNT_DETACH)
	}
}

// processes are the clients that run, or hang, for this run directory.
func (n *node) processes() (pids []int) {
	for pid, args := range testnode.Processes() {
		if strings.HasPrefix(args, "glusterfs ") && strings.Contains(args, n.dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mounts are the mount points below the run directory, each as often as
// something is mounted there.
func (n *node) mounts() (points []string) {
	table, err := mountinfo.GetMounts(mountinfo.PrefixFilter(n.dir))
	must(n.t, err)
	for _, m := range table {
		points = append(points, m.Mountpoint)
	}
	return points
}

// restart has a new driver take over; the old one is gone without a word.
func (n *node) restart() error {
	n.Clients = mount.NewClients(n.config)
	return n.Adopt()
}

func (n *node) use(source mount.Source, user string) *mount.Client {
	n.t.Helper()
	c, err := n.Use(n.t.Context(), source, user)
	must(n.t, err)
	n.verify(c)
	return c
}

// verify sees that a client's mount is there and alive.
func (n *node) verify(c *mount.Client) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	path, err := c.VerifyDir(ctx, ".")
	must(n.t, err)
	if path != c.Path() {
		n.t.Errorf("verified %s, want %s", path, c.Path())
	}
}

// with is the test's source with options.
func (n *node) with(options string) mount.Source {
	n.t.Helper()
	o, err := mount.ParseOptions(options)
	must(n.t, err)
	source := n.source
	source.Options = o
	return source
}

// awaitEnd waits until a client's process, mount and directory are gone.
func (n *node) awaitEnd(c *mount.Client, pid int) {
	n.t.Helper()
	n.eventually("the client ends", func() bool {
		_, err := os.Lstat(filepath.Dir(c.Path()))
		return !slices.Contains(n.processes(), pid) && !slices.Contains(n.mounts(), c.Path()) && errors.Is(err, os.ErrNotExist)
	})
}

func (n *node) wantHealth(c *mount.Client, key, health string) {
	n.t.Helper()
	n.eventually("the client is "+health, func() bool { return n.Status(key).Health == health })
	if status := n.Status(key); (status.PID == 0) != (health == "dead") || status.PID != c.PID() || status.Mount != c.Path() {
		n.t.Errorf("status %+v", status)
	}
}

func (n *node) kill(pid int, signal unix.Signal) {
	n.t.Helper()
	must(n.t, unix.Kill(pid, signal))
}

// unmount unmounts as a person does. Other tests start processes, each of which
// has copies of all descriptors for a moment.
func (n *node) unmount(path string) {
	n.t.Helper()
	var err error
	n.eventually(path+" can be unmounted", func() bool {
		err = unix.Unmount(path, 0)
		return !errors.Is(err, unix.EBUSY)
	})
	must(n.t, err)
}

// bind mounts a directory elsewhere, as Docker does for a container, until the
// returned function is called.
func (n *node) bind(dir string) (target string, unbind func()) {
	n.t.Helper()
	target, err := os.MkdirTemp(n.dir, "container")
	must(n.t, err)
	must(n.t, unix.Mount(dir, target, "", unix.MS_BIND, ""))
	return target, func() {
		n.t.Helper()
		n.unmount(target)
	}
}

// container starts a process that has a directory bound in a mount namespace
// of its own, from which it takes part in what is unmounted outside.
func (n *node) container(dir string) *testnode.Daemon {
	n.t.Helper()
	target, err := os.MkdirTemp(n.dir, "container")
	must(n.t, err)
	d, err := testnode.StartDaemon(filepath.Join(n.dir, "container.log"), func() error { return nil },
		"unshare", "--mount", "--propagation", "slave", "sh", "-c", `mount --bind "$0" "$1" && exec sleep 1000`, dir, target)
	must(n.t, err)
	n.t.Cleanup(d.Kill)
	return d
}

// recorder keeps what is logged.
type recorder struct {
	mu      sync.Mutex
	records []slog.Record
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
	return nil
}

// find returns the last record that begins with message, and its error.
func (r *recorder) find(message string) (found bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		if !strings.HasPrefix(record.Message, message) {
			continue
		}
		found = true
		record.Attrs(func(a slog.Attr) bool {
			if e, ok := a.Value.Any().(error); ok {
				err = e
			}
			return true
		})
	}
	return found, err
}

// all are all records, one of those that only repeat the one before.
func (r *recorder) all() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		line := record.Message
		record.Attrs(func(a slog.Attr) bool {
			line += " " + a.String()
			return true
		})
		lines = append(lines, line)
	}
	return slices.Compact(lines)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	return files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: error %v, want %v", what, err, target)
	}
}

// wantFile sees that a file can be written and read.
func wantFile(t *testing.T, file string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(file), 0o644))
	if data, err := os.ReadFile(file); err != nil || string(data) != file {
		t.Errorf("read %q, %v; want %q", data, err, file)
	}
}
