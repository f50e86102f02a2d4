package mount_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/mount"
)

func testShare(t *testing.T, n *node) {
	a := n.use(n.source, "a")
	other := n.with("noatime")
	c := n.use(other, "a")
	if a == c || a.PID() == c.PID() || a.Path() == c.Path() {
		t.Errorf("other options do not make another client: %d at %s, %d at %s", a.PID(), a.Path(), c.PID(), c.Path())
	}
	pid, otherPID := a.PID(), c.PID()
	for _, user := range []string{"b", "a", "b"} {
		if again := n.use(n.source, user); again != a || again.PID() != pid {
			t.Errorf("user %s has another client: %d at %s", user, again.PID(), again.Path())
		}
	}
	wantFile(t, filepath.Join(a.Path(), "f"))
	if _, err := os.Stat(filepath.Join(c.Path(), "f")); err != nil {
		t.Errorf("the other client: %v", err)
	}
	if info, err := os.Stat(filepath.Dir(a.Path())); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory around all volumes' files: %v, %v", info.Mode(), err)
	}
	wantList(t, n, n.source, a, "a", "b")

	n.Release(n.source.Key(), "a")
	n.Release(n.source.Key(), "a")
	n.Release(n.source.Key(), "nobody")
	n.Release("no client", "b")
	n.Release(other.Key(), "a")
	n.awaitEnd(c, otherPID) // what released its last user
	if again := n.use(n.source, "b"); again.PID() != pid {
		t.Errorf("the client of a user ended with another's leaving: %d, was %d", again.PID(), pid)
	}
	wantList(t, n, n.source, a, "b")
	n.Release(n.source.Key(), "b")
	n.awaitEnd(a, pid)
	n.eventually("the client is forgotten", func() bool {
		return len(n.List()) == 0 && n.Status(n.source.Key()).Health == "not running"
	})
	_, err := a.VerifyDir(t.Context(), "d") // which may be there, for all that the client can tell
	wantIs(t, "verify a client that has ended", err, mount.ErrDead)
}

// wantList sees how the client of source is listed.
func wantList(t *testing.T, n *node, source mount.Source, c *mount.Client, users ...string) {
	t.Helper()
	list := n.List()
	if !slices.IsSortedFunc(list, func(a, b mount.Status) int { return len(a.Key) - len(b.Key) }) {
		t.Errorf("list %+v", list)
	}
	i := slices.IndexFunc(list, func(s mount.Status) bool { return s.Key == source.Key() })
	if i < 0 {
		t.Fatalf("%s is not in the list %+v", source.Key(), list)
	}
	s := list[i]
	if s.PID != c.PID() || s.PID == 0 || s.Health != "alive" || s.Mount != c.Path() || s.LogFile != c.LogFile() || !slices.Equal(s.Users, users) {
		t.Errorf("status %+v, want users %q", s, users)
	}
}

// testLinger has a user come back within the linger of one of two clients that
// lost theirs at once. When the other has ended, so would this one have.
func testLinger(t *testing.T, n *node) {
	n.config.Linger = time.Second
	n.Clients = mount.NewClients(n.config)
	other := n.with("noatime")
	a, b := n.use(n.source, "a"), n.use(other, "a")
	pid, otherPID := a.PID(), b.PID()
	n.Release(n.source.Key(), "a")
	n.Release(other.Key(), "a")
	if again := n.use(n.source, "later"); again.PID() != pid {
		t.Errorf("process %d, want the one that was there, %d", again.PID(), pid)
	}
	n.awaitEnd(b, otherPID)
	n.verify(a)
	if a.PID() != pid {
		t.Errorf("process %d, was %d", a.PID(), pid)
	}
}

func testMount(t *testing.T, n *node) {
	c := n.use(n.source, "first")
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	path, err := n.Mount(t.Context(), n.source, mount.Dir{Path: "d"}, "a")
	if err != nil || path != filepath.Join(c.Path(), "d") {
		t.Errorf("path %s, %v", path, err)
	}
	wantList(t, n, n.source, c, "a", "first")

	_, err = n.Mount(t.Context(), n.source, mount.Dir{Path: "absent"}, "b")
	wantIs(t, "a directory that is not there", err, fs.ErrNotExist)
	_, err = n.Mount(t.Context(), n.source, mount.Dir{Path: "absent"}, "a")
	wantIs(t, "a directory that is not there", err, fs.ErrNotExist)
	wantList(t, n, n.source, c, "a", "first") // as before

	absent := n.source
	absent.Subdir = "no/where"
	if _, err := n.Mount(t.Context(), absent, mount.Dir{Path: "."}, "a"); err == nil {
		t.Error("mounted what is not there")
	}
	n.eventually("the client that failed is forgotten", func() bool { return len(n.List()) == 1 })
}

// testMountReplaced has another client move a directory away and make one of
// the same name, which the kernel and this client do not notice for a second.
func testMountReplaced(t *testing.T, n *node) {
	other := n.source
	other.Options = "noatime" // a client of its own
	elsewhere, c := n.use(other, "other"), n.use(n.source, "first")
	at := func(name string) string { return filepath.Join(elsewhere.Path(), name) }
	must(t, os.Mkdir(at("d"), 0o755))
	stale := 0
	for round := 0; round < 5 || stale == 0 && round < 50; round++ {
		if _, err := c.VerifyDir(t.Context(), "d"); err != nil { // and it remembers that one
			t.Fatal(err)
		}
		must(t, os.Rename(at("d"), at(fmt.Sprint("away", round))))
		must(t, os.Mkdir(at("d"), 0o755))
		inode := inodeOf(t, at("d"))
		if inodeOf(t, filepath.Join(c.Path(), "d")) != inode {
			stale++
		}
		path, err := n.Mount(t.Context(), n.source, mount.Dir{Path: "d", Inode: inode}, "a")
		must(t, err)
		if got := inodeOf(t, path); got != inode {
			t.Errorf("round %d: handed out a directory that was moved away: inode %d, want %d", round, got, inode)
		}
	}
	if stale == 0 {
		t.Error("this client always knew at once, so the test has shown nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := n.Mount(ctx, n.source, mount.Dir{Path: "d", Inode: 4711}, "a")
	wantIs(t, "a directory that never comes", err, mount.ErrStale)
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	return statOf(t, path).Ino
}

func statOf(t *testing.T, path string) (stat unix.Stat_t) {
	t.Helper()
	must(t, unix.Stat(path, &stat))
	return stat
}

// testMountAfterDeath kills the client right before each mount, which must not
// take it for alive, nor for one that has lost its bricks.
func testMountAfterDeath(t *testing.T, n *node) {
	c := n.use(n.source, "first")
	pid := c.PID()
	for round := range 20 {
		n.kill(pid, unix.SIGKILL)
		if _, err := n.Mount(t.Context(), n.source, mount.Dir{Path: "."}, "a"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if c.PID() == pid {
			t.Fatalf("round %d: the process is the one that was killed", round)
		}
		pid = c.PID()
	}
}

// testBound has a container with a directory bound in its mount namespace.
func testBound(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	for _, dir := range []string{"dd/e", "d"} {
		must(t, os.MkdirAll(filepath.Join(c.Path(), dir), 0o755))
	}
	container := n.container(filepath.Join(c.Path(), "dd/e"))
	key := n.source.Key()
	wantBound := func(doc, dir string, want bool) {
		t.Helper()
		pids, err := n.Bound(key, dir)
		if err != nil || slices.Contains(pids, container.PID()) != want || len(pids) > 1 || !want && len(pids) > 0 {
			t.Errorf("%s: %s is bound by %v, %v; the container %d, want %v", doc, dir, pids, err, container.PID(), want)
		}
	}
	n.eventually("the container has it bound", func() bool {
		pids, err := n.Bound(key, "dd/e")
		must(t, err)
		return len(pids) > 0
	})
	wantBound("itself", "dd/e", true)
	wantBound("what it lies in", "dd", true)
	wantBound("a neighbour", "d", false)
	wantBound("what lies in it", "dd/e/f", false)

	n.kill(c.PID(), unix.SIGKILL)
	n.wantHealth(c, key, "dead")
	wantBound("a dead client", "dd/e", true)
	n.use(n.source, "a")
	wantBound("a new client", "dd/e", true)
	wantBound("a new client", "d", false)
	must(t, os.Rename(filepath.Join(c.Path(), "dd"), filepath.Join(c.Path(), "gone")))
	wantBound("a new name on the store", "dd/e", true)
	n.Clients = mount.NewClients(n.config)
	wantBound("a client that was not adopted", "dd/e", true)
	must(t, n.Adopt())
	container.Kill()
	wantBound("no container", "dd/e", false)
}

// testChurn has many users come and go, with hardly a linger between: who has
// the client finds it alive.
func testChurn(t *testing.T, n *node) {
	n.config.Linger = time.Millisecond
	n.Clients = mount.NewClients(n.config)
	var wg sync.WaitGroup
	for i := range 6 {
		user := fmt.Sprint("user", i)
		wg.Go(func() {
			for round := range 10 {
				c, err := n.Use(t.Context(), n.source, user)
				if err != nil {
					t.Errorf("%s, round %d: %v", user, round, err)
					return
				}
				if _, err := c.VerifyDir(t.Context(), "."); err != nil {
					t.Errorf("%s, round %d: %v", user, round, err)
				}
				if err := os.WriteFile(filepath.Join(c.Path(), user), nil, 0o644); err != nil {
					t.Errorf("%s, round %d: %v", user, round, err)
				}
				n.Release(n.source.Key(), user)
			}
		})
	}
	wg.Wait()
	n.eventually("the client ends", func() bool { return len(n.List()) == 0 && len(n.processes()) == 0 })
}

func testClose(t *testing.T, n *node) {
	n.config.Linger = time.Hour
	n.Clients = mount.NewClients(n.config)
	other := n.with("noatime")
	used, idle := n.use(n.source, "a"), n.use(other, "a")
	pid, idlePID := used.PID(), idle.PID()
	n.Release(other.Key(), "a")
	must(t, n.Close(t.Context()))
	n.awaitEnd(idle, idlePID)
	n.verify(used)
	n.Release(n.source.Key(), "a") // by a request that was under way
	if used.PID() != pid {
		t.Errorf("process %d, was %d", used.PID(), pid)
	}
	must(t, n.restart())
	if !n.Hold(n.source.Key(), "a") || n.Status(n.source.Key()).PID != pid {
		t.Errorf("the next driver has %+v", n.List())
	}
}

func testBusy(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	pid := c.PID()
	f, err := os.Create(filepath.Join(c.Path(), "f"))
	must(t, err)
	defer f.Close()
	n.Release(n.source.Key(), "a")
	const message = "client cannot be ended"
	n.eventually("the client cannot be ended", func() bool {
		found, _ := n.log.find(message)
		return found
	})
	_, err = n.log.find(message)
	wantIs(t, "end", err, mount.ErrBusy)
	if _, err := f.WriteString("x"); err != nil || c.PID() != pid {
		t.Errorf("the open file: %v; process %d, was %d", err, c.PID(), pid)
	}
	must(t, f.Close())
	n.awaitEnd(c, pid)
}

// testBind has a container keep a directory of a client that ended, and a new
// client start beside it.
func testBind(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	pid := c.PID()
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	target, unbind := n.bind(filepath.Join(c.Path(), "d"))
	n.Release(n.source.Key(), "a")
	n.eventually("the client is unmounted", func() bool { return !slices.Contains(n.mounts(), c.Path()) })
	wantFile(t, filepath.Join(target, "f"))

	fresh := n.use(n.source, "b")
	if fresh.PID() == pid || fresh.Path() != c.Path() {
		t.Errorf("process %d at %s, was %d at %s", fresh.PID(), fresh.Path(), pid, c.Path())
	}
	if _, err := os.Stat(filepath.Join(fresh.Path(), "d/f")); err != nil {
		t.Errorf("the new client: %v", err)
	}
	wantFile(t, filepath.Join(target, "g"))
	freshPID := fresh.PID()
	must(t, n.restart())
	if status := n.Status(n.source.Key()); status.PID != freshPID || status.Health != "alive" {
		t.Errorf("adopted %+v, want process %d, not %d", status, freshPID, pid)
	}
	wantFile(t, filepath.Join(target, "h"))
	unbind()
	n.eventually("the old client ends", func() bool { return slices.Equal(n.processes(), []int{freshPID}) })
}

func testOptions(t *testing.T, n *node) {
	ro := n.use(n.with("ro"), "a")
	wantIs(t, "write", os.WriteFile(filepath.Join(ro.Path(), "f"), nil, 0o644), unix.EROFS)
	c := n.use(n.with("noatime,nodev,nosuid,noexec"), "a")
	table, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(c.Path()))
	must(t, err)
	if len(table) != 1 || table[0].Options != "rw,nosuid,nodev,noexec,noatime" {
		t.Errorf("mount table %+v", table)
	}
	if !slices.Contains([]string{"rw", "ro"}, table[0].VFSOptions[:2]) {
		t.Errorf("mount table %+v", table)
	}
}

// testOddDirectory mounts a directory whose name a shell, a list and the mount
// table would each read differently.
func testOddDirectory(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	const odd = `a b,c=d;$(e) 'f' "g" \040 --ro ü`
	must(t, os.Mkdir(filepath.Join(c.Path(), odd), 0o755))
	wantFile(t, filepath.Join(c.Path(), odd, "f"))
	source := n.source
	source.Subdir += "/" + odd
	inner := n.use(source, "a")
	if _, err := os.Stat(filepath.Join(inner.Path(), "f")); err != nil {
		t.Error(err)
	}
	pid := inner.PID()
	must(t, n.restart())
	if n.Status(source.Key()).PID != pid {
		t.Errorf("adopted %+v", n.List())
	}
}

// testLog rotates the log of a client that goes on logging.
func testLog(t *testing.T, n *node) {
	source := n.with("log-level=DEBUG")
	c := n.use(source, "a")
	n.RotateLogs()
	if logs := glob(t, c.LogFile()+".*"); len(logs) != 0 {
		t.Errorf("a small log was rotated: %s", logs)
	}
	const tooLarge = 11 << 20
	for range 5 {
		must(t, os.Truncate(c.LogFile(), tooLarge)) // a hole, which takes no room
		n.RotateLogs()
		if info, err := os.Stat(c.LogFile() + ".1"); err != nil || info.Size() < tooLarge {
			t.Errorf("rotated log: %v, %v", info, err)
		}
		n.eventually("the client logs to a new file", func() bool {
			n.verify(c)
			_, err := os.Stat(filepath.Join(c.Path(), "none"))
			info, statErr := os.Stat(c.LogFile())
			return os.IsNotExist(err) && statErr == nil && info.Size() > 0 && info.Size() < tooLarge
		})
	}
	if logs := glob(t, c.LogFile()+".*"); len(logs) != 3 {
		t.Errorf("old logs %s, want 3", logs)
	}
	if found, err := n.log.find("client log cannot be rotated"); found {
		t.Error(err)
	}
}
