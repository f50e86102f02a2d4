package mount_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

func testVerifyDir(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	at := func(name string) string { return filepath.Join(c.Path(), name) }
	must(t, os.MkdirAll(at("dir/inner"), 0o755))
	must(t, os.WriteFile(at("file"), nil, 0o644))
	must(t, unix.Mkfifo(at("fifo"), 0o644))
	for name, target := range map[string]string{
		"absolute": "/etc", "up": "../other", "same": ".", "inside": "dir", "dir/back": "../dir/inner", "self": at("dir"), "none": "nowhere", "loop": "loop",
	} {
		must(t, os.Symlink(target, at(name)))
	}
	tests := []struct {
		doc  string
		dir  string
		want error // nil: the directory is good
	}{
		{doc: "the root", dir: "."},
		{doc: "a directory", dir: "dir"},
		{doc: "a directory in it", dir: "dir/inner"},
		{doc: "nothing", dir: "absent", want: fs.ErrNotExist},
		{doc: "nothing in a directory", dir: "dir/absent", want: fs.ErrNotExist},
		{doc: "a file", dir: "file", want: unix.ENOTDIR},
		{doc: "a FIFO", dir: "fifo", want: unix.ENOTDIR},
		{doc: "a symlink out", dir: "absolute", want: unix.ENOTDIR},
		{doc: "a symlink to the neighbour", dir: "up", want: unix.ENOTDIR},
		{doc: "a symlink to the root", dir: "same", want: unix.ENOTDIR},
		{doc: "a symlink inside", dir: "inside", want: unix.ENOTDIR},
		{doc: "a symlink to the mount's own path", dir: "self", want: unix.ENOTDIR},
		{doc: "a symlink in a directory", dir: "dir/back", want: unix.ENOTDIR},
		{doc: "a symlink to nothing", dir: "none", want: unix.ENOTDIR},
		{doc: "a symlink to itself", dir: "loop", want: unix.ENOTDIR},
		{doc: "through a symlink out", dir: "absolute/ssl", want: unix.ELOOP},
		{doc: "through a symlink inside", dir: "inside/inner", want: unix.ELOOP},
		{doc: "above the root", dir: "..", want: unix.EXDEV},
		{doc: "above the root, and down again", dir: "../mnt", want: unix.EXDEV},
		{doc: "out by way of a directory", dir: "dir/../../../x", want: unix.EXDEV},
		{doc: "absolute", dir: "/etc", want: unix.EXDEV},
		{doc: "no name", dir: "", want: fs.ErrNotExist},
		{doc: "a NUL", dir: "dir\x00", want: unix.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			path, err := c.VerifyDir(t.Context(), tt.dir)
			if tt.want != nil {
				wantIs(t, tt.dir, err, tt.want)
				if path != "" {
					t.Errorf("path %s beside an error", path)
				}
				return
			}
			if err != nil || path != filepath.Clean(at(tt.dir)) {
				t.Errorf("path %s, error %v", path, err)
			}
		})
	}
}

// testVerifyMountBelow has something mounted on a directory of the mount.
func testVerifyMountBelow(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	dir := filepath.Join(c.Path(), "d")
	must(t, os.Mkdir(dir, 0o755))
	must(t, unix.Mount("test", dir, "tmpfs", 0, ""))
	_, err := c.VerifyDir(t.Context(), "d")
	wantIs(t, "verify", err, unix.EXDEV)
	n.unmount(dir)
	_, err = c.VerifyDir(t.Context(), "d")
	must(t, err)
}

func testDeath(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	pid := c.PID()
	n.kill(pid, unix.SIGKILL)
	n.wantHealth(c, n.source.Key(), "dead")
	_, err := c.VerifyDir(t.Context(), ".")
	wantIs(t, "verify", err, mount.ErrDead)
	n.eventually("the death is logged", func() bool {
		found, _ := n.log.find("client died")
		return found
	})
	fresh := n.use(n.source, "b")
	if fresh != c || fresh.PID() == pid || fresh.PID() == 0 {
		t.Errorf("process %d at %s, was %d at %s", fresh.PID(), fresh.Path(), pid, c.Path())
	}
	wantList(t, n, n.source, c, "a", "b")
	wantFile(t, filepath.Join(c.Path(), "f"))
	mounts := slices.DeleteFunc(n.mounts(), func(path string) bool { return strings.HasPrefix(filepath.Base(path), "dead-") })
	if !slices.Equal(mounts, []string{c.Path()}) {
		t.Errorf("mounts %v, want one", mounts)
	}
}

// testDeathInStart kills clients in the middle of their start, at any point.
func testDeathInStart(t *testing.T, n *node) {
	for range 10 {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, pid := range n.processes() {
					_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := n.Use(ctx, n.source, "a")
		cancel()
		close(stop)
		wg.Wait()
		if err == nil {
			n.eventually("the client is dead", func() bool { return n.Status(n.source.Key()).Health == "dead" })
		}
		n.Release(n.source.Key(), "a")
		n.eventually("nothing is left", func() bool { return len(n.List()) == 0 && len(n.mounts()) == 0 && len(n.processes()) == 0 })
	}
	n.use(n.source, "a")
}

// testUnmounted has somebody unmount a client by hand.
func testUnmounted(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	pid := c.PID()
	target, unbind := n.bind(c.Path()) // keeps the process
	n.unmount(c.Path())
	_, err := c.VerifyDir(t.Context(), ".")
	wantIs(t, "verify", err, mount.ErrDead)
	n.wantHealth(c, n.source.Key(), "not mounted")
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755)) // on the local disk
	_, err = c.VerifyDir(t.Context(), "d")
	wantIs(t, "verify", err, mount.ErrDead)
	must(t, os.Remove(filepath.Join(c.Path(), "d")))

	n.use(n.source, "a")
	if c.PID() == pid {
		t.Error("no new client was started")
	}
	wantFile(t, filepath.Join(c.Path(), "d/f"))
	wantFile(t, filepath.Join(target, "g"))
	unbind()
	n.eventually("the old client ends", func() bool { return slices.Equal(n.processes(), []int{c.PID()}) })
	n.verify(c)
}

// testCovered has somebody mount something else over a client.
func testCovered(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	must(t, unix.Mount("test", c.Path(), "tmpfs", 0, ""))
	must(t, os.Mkdir(filepath.Join(c.Path(), "d"), 0o755))
	for _, dir := range []string{".", "d"} {
		_, err := c.VerifyDir(t.Context(), dir)
		wantIs(t, "verify "+dir, err, mount.ErrDead)
	}
	n.wantHealth(c, n.source.Key(), "not mounted")
	n.use(n.source, "a")
	wantFile(t, filepath.Join(c.Path(), "d/f"))
	n.eventually("one mount and one client are left", func() bool { return len(n.mounts()) == 1 && len(n.processes()) == 1 })

	// Another client's mount is not this one's either.
	other := n.use(n.with("noatime"), "a")
	must(t, unix.Mount(other.Path(), c.Path(), "", unix.MS_BIND, ""))
	_, err := c.VerifyDir(t.Context(), "d")
	wantIs(t, "verify", err, mount.ErrDead)
	n.unmount(c.Path())
	n.verify(c)
}

// testHung stops a client's process, and lets it go on.
func testHung(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	resume := testnode.Hang(t, c.PID())
	const deadline = 5 * time.Millisecond
	start := time.Now()
	const calls = 200
	for range calls {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := c.VerifyDir(ctx, ".")
		cancel()
		wantIs(t, "verify", err, mount.ErrHung)
		wantIs(t, "verify", err, context.DeadlineExceeded)
	}
	if waited := time.Since(start); waited < calls*deadline || waited > patience {
		t.Errorf("%d calls took %s", calls, waited)
	}
	if hung := hungCalls(); hung == 0 || hung > 32 { // 16, and what other tests run now
		t.Errorf("%d calls hang in the kernel", hung)
	}
	if status := n.Status(n.source.Key()); status.PID != c.PID() { // asks no client
		t.Errorf("status %+v", status)
	}
	resume()
	n.verify(c)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { n.verify(c) })
	}
	wg.Wait()
	wantFile(t, filepath.Join(c.Path(), "f"))
}

// hungCalls counts the goroutines in a verification.
func hungCalls() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "mount.(*Client).verifyDir(")
}
