package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/mount"
)

// graftCase is a container with mounts of a client that dies.
type graftCase struct {
	name string
	// user has the container in a user namespace of its own.
	user bool
	// mounts is the script that mounts: what of $volume, at $at and in it.
	mounts string
	// wound is what happens on the store before the graft.
	wound func(t *testing.T, volume string)
	// look is what the container does then, and want what it prints.
	look, want string
	// ready is the file on the store that tells that it has mounted, if it is not the
	// usual one.
	ready string
	// lost is what the container should have mounted in it, and has not.
	lost string
	// err is in the error if there has to be one, and oldErr with an old kernel.
	err, oldErr string
}

// sameFlags prints the flags of the mount that the container had, if they are as
// they were.
const sameFlags = `[ "$(findmnt --noheadings --output=VFS-OPTIONS "$at" | tail -1)" = "$(cat "$at.flags")" ] && cat "$at.flags"`

var graftCases = []graftCase{
	{
		name:   "a volume",
		mounts: `mount --bind "$volume" "$at"`,
		look:   `echo hi > "$at/own" && cat "$at/own" "$at/file"`, want: "hi\nfile",
	},
	{
		name:   "read-only and more",
		mounts: `mount --bind "$volume" "$at" && mount -o remount,bind,ro,nosuid,nodev,noexec,noatime "$at" && findmnt --noheadings --output=VFS-OPTIONS "$at" > "$at.flags"`,
		look:   sameFlags, want: "ro,nosuid,nodev,noexec,noatime",
	},
	{
		name:   "strict times",
		mounts: `mount --bind "$volume" "$at" && mount -o remount,bind,strictatime,nodiratime "$at" && findmnt --noheadings --output=VFS-OPTIONS "$at" > "$at.flags"`,
		look:   sameFlags, want: "rw,nodiratime",
	},
	{
		name:   "a directory of the volume",
		mounts: `mount --bind "$volume/dir/inner" "$at"`,
		look:   `cat "$at/file"`, want: "inner",
	},
	{
		name:   "a file of the volume",
		mounts: `rmdir "$at" && touch "$at" && mount --bind "$volume/file" "$at"`,
		look:   `cat "$at"`, want: "file",
	},
	{
		name: "a user namespace", user: true,
		mounts: `mount --bind "$volume" "$at"`,
		look:   `cat "$at/file"`, want: "file",
	},
	{
		name: "locked read-only", user: true,
		mounts: `mount --bind "$volume" "$at" && mount -o remount,bind,ro "$at" && exec unshare --user --map-root-user --mount sh -c 'touch "$at.ready" && exec sleep 1000'`,
		err:    "has locked it",
	},
	{
		name: "locked mounts in it", user: true,
		mounts: `mount --bind "$volume" "$at" && mount -t tmpfs none "$at/other" && exec unshare --user --map-root-user --mount sh -c 'mkdir "$at.copy" && mount --rbind "$at" "$at.copy" && touch "$at.ready" && exec sleep 1000'`,
		err:    "mounted",
	},
	{
		name:   "covered",
		mounts: `mount --bind "$volume" "$at" && mount -t tmpfs none "$at" && echo cover > "$at/file"`,
		look:   `cat "$at/file" && umount "$at" && cat "$at/file"`, want: "cover\nfile",
		oldErr: "Linux 6.5",
	},
	{
		name:   "mounts in it",
		mounts: `mount --bind "$volume" "$at" && mount --bind "$volume/dir/inner" "$at/dir" && mount --bind -o ro /etc "$at/other"`,
		look:   `cat "$at/file" "$at/dir/file" && cmp "$at/other/passwd" /etc/passwd && ! touch "$at/other/no" 2>/dev/null && echo read-only`, want: "file\ninner\nread-only",
		oldErr: "Linux 6.5",
	},
	{
		name:   "a file system in it that is nowhere else",
		mounts: `mount --bind "$volume" "$at" && mount -t tmpfs none "$at/other"`,
		err:    "of type tmpfs, is mounted nowhere else",
	},
	{
		name:   "lost while it was dead",
		mounts: `mount --bind "$volume" "$at" && mkdir "$at/gone"`,
		lost:   "/gone",
		err:    "/gone was lost while the client was dead",
	},
	{
		name:   "the root directory of a process", // whose program must not be on the dead mount
		mounts: `mount --bind "$volume" "$at" && exec perl -e 'chroot($ENV{at}) && chdir("/") && open(F, ">", "ready"); sleep(1000)'`,
		ready:  "volume/ready",
		err:    "root directory of a process",
	},
	{
		name:   "removed",
		mounts: `mount --bind "$volume/dir/inner" "$at"`,
		wound:  func(t *testing.T, volume string) { must(t, os.RemoveAll(filepath.Join(volume, "dir/inner"))) },
		err:    "no such file",
	},
	{
		name:   "a symlink in its place",
		mounts: `mount --bind "$volume/dir/inner" "$at"`,
		wound: func(t *testing.T, volume string) {
			must(t, os.RemoveAll(filepath.Join(volume, "dir/inner")))
			must(t, os.Symlink("/etc", filepath.Join(volume, "dir/inner")))
		},
		err: "symbolic links",
	},
	{
		name:   "a symlink on the way",
		mounts: `mount --bind "$volume/dir/inner" "$at"`,
		wound: func(t *testing.T, volume string) {
			must(t, os.RemoveAll(filepath.Join(volume, "dir")))
			must(t, os.Symlink("/etc", filepath.Join(volume, "dir")))
		},
		err: "symbolic links",
	},
}

// TestGraft has clients die under containers, with what this kernel can do and with
// what an old one can.
func TestGraft(t *testing.T) {
	gv := testnode.NewGlusterVolume(t, 1, "")
	root := newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name})
	files := root.use(root.source, "test").Path()
	run := func(t *testing.T, old bool) {
		for _, tt := range graftCases {
			t.Run(tt.name, func(t *testing.T) {
				dir := strings.ReplaceAll(t.Name(), "/", "-")
				must(t, os.Mkdir(filepath.Join(files, dir), 0o755))
				if old && tt.err == "" {
					tt.err = tt.oldErr
				}
				tt.run(t, newRunDir(t, mount.Source{Servers: []string{"gfs1"}, Volume: gv.Name, Subdir: dir}))
			})
		}
	}
	t.Run("this kernel", func(t *testing.T) { run(t, false) })
	t.Run("old kernel", func(t *testing.T) {
		defer mount.OldKernel()()
		run(t, true)
	})
}

func (tt graftCase) run(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	volume := filepath.Join(c.Path(), "volume")
	for _, dir := range []string{"dir/inner", "other"} {
		must(t, os.MkdirAll(filepath.Join(volume, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(volume, "file"), []byte("file\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(volume, "dir/inner/file"), []byte("inner\n"), 0o644))
	box := tt.start(t, n, volume)
	if grafts := tt.graft(t, n); len(grafts) > 0 {
		t.Fatalf("nobody has died, and %+v", grafts)
	}
	// Twice: the second mount takes the place of the first one's successor.
	for range 2 {
		n.kill(c.PID(), unix.SIGKILL)
		n.wantHealth(c, n.source.Key(), "dead")
		n.use(n.source, "a")
		if tt.wound != nil {
			tt.wound(t, volume)
		}
		grafts := tt.graft(t, n)
		if len(grafts) == 0 || grafts[0].PID != box.pid {
			t.Fatalf("grafts %+v, want one of process %d", grafts, box.pid)
		}
		if tt.err != "" {
			if err := grafts[0].Err; err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
			return
		}
		for _, g := range grafts {
			if g.Err != nil || !strings.HasPrefix(g.Dir, "volume") {
				t.Errorf("graft %+v", g)
			}
		}
		if again := tt.graft(t, n); len(again) > 0 {
			t.Errorf("once more: %+v", again)
		}
	}
	if got := box.run(tt.look); got != tt.want {
		t.Errorf("the container prints %q, want %q\n%s", got, tt.want, box.run("grep container /proc/self/mountinfo"))
	}
}

func (tt graftCase) graft(t *testing.T, n *node) []mount.Graft {
	t.Helper()
	grafts, err := n.Graft(t.Context(), n.source.Key(), []string{"volume"}, func(int) []string {
		if tt.lost == "" {
			return nil
		}
		return []string{filepath.Join(n.dir, "container", tt.lost)}
	})
	must(t, err)
	return grafts
}

// box is a container: a process in a mount namespace.
type box struct {
	t    *testing.T
	pid  int
	user bool
	env  []string
}

// start runs a container that has made its mounts when start returns.
func (tt graftCase) start(t *testing.T, n *node, volume string) *box {
	t.Helper()
	at := filepath.Join(n.dir, "container")
	must(t, os.Mkdir(at, 0o755))
	args := []string{"--mount", "--propagation", "private"}
	if tt.user {
		args = append(args, "--user", "--map-root-user")
	}
	b := &box{t: t, user: tt.user, env: append(os.Environ(), "volume="+volume, "at="+at)}
	cmd := exec.Command("unshare", append(args, "sh", "-c", tt.mounts+` && touch "$at.ready" && exec sleep 1000`)...)
	cmd.Env = b.env
	log, err := os.Create(at + ".log")
	must(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	b.pid = cmd.Process.Pid
	ready := at + ".ready"
	if tt.ready != "" {
		ready = filepath.Join(filepath.Dir(volume), tt.ready)
	}
	testnode.Eventually(t, "the container has its mounts", func() bool {
		said, err := os.ReadFile(at + ".log")
		if must(t, err); len(said) > 0 {
			t.Fatalf("the container cannot mount: %s", said)
		}
		_, err = os.Stat(ready)
		return !errors.Is(err, fs.ErrNotExist)
	})
	return b
}

// run runs a script in the container and returns what it prints.
func (b *box) run(script string) string {
	b.t.Helper()
	args := []string{"--mount"}
	if b.user {
		args = append(args, "--user")
	}
	cmd := exec.Command("nsenter", append(args, "--target", strconv.Itoa(b.pid), "sh", "-c", script)...)
	cmd.Env = b.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Errorf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// testDeadNumber: while a dead mount is known, no other client's mount has its
// number, and is taken for it. A driver that is started anew knows it.
func testDeadNumber(t *testing.T, n *node) {
	c := n.use(n.source, "a")
	dead := statOf(t, c.Path()).Dev
	n.kill(c.PID(), unix.SIGKILL)
	n.wantHealth(c, n.source.Key(), "dead")
	n.use(n.source, "a")
	must(t, n.restart())
	if !n.Hold(n.source.Key(), "a") || !n.Status(n.source.Key()).Died {
		t.Errorf("the next driver knows %+v", n.Status(n.source.Key()))
	}
	for _, option := range []string{"noatime", "nodev", "nosuid"} {
		if other := n.use(n.with(option), "a"); statOf(t, other.Path()).Dev == dead {
			t.Errorf("the client with %s has the number %d of the dead mount", option, dead)
		}
	}
}

// testGraftHung has a mount of a client that died lie in one of a client that hangs:
// the search has its end, the live client is as well as before, and the container is
// healed when the other one answers.
func testGraftHung(t *testing.T, n *node) {
	other := n.use(n.with("attribute-timeout=0,entry-timeout=0"), "a")
	c := n.use(n.source, "a")
	for _, path := range []string{filepath.Join(c.Path(), "volume"), filepath.Join(other.Path(), "outer/inner")} {
		must(t, os.MkdirAll(path, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(c.Path(), "volume/file"), []byte("file\n"), 0o644))
	tt := graftCase{mounts: `mount --bind "` + filepath.Join(other.Path(), "outer") + `" "$at" && mount --bind "$volume" "$at/inner"`}
	box := tt.start(t, n, filepath.Join(c.Path(), "volume"))
	n.kill(c.PID(), unix.SIGKILL)
	n.wantHealth(c, n.source.Key(), "dead")
	n.use(n.source, "a")
	resume := testnode.Hang(t, other.PID())
	for range 3 {
		if grafts := tt.graft(t, n); len(grafts) > 0 {
			t.Fatalf("grafts %+v", grafts)
		}
	}
	n.verify(c)
	resume()
	n.eventually("the container is healed", func() bool {
		grafts := tt.graft(t, n)
		return len(grafts) == 1 && grafts[0].Err == nil || box.run(`cat "$at/inner/file" 2>/dev/null || true`) == "file"
	})
	if got := box.run(`cat "$at/inner/file"`); got != "file" {
		t.Errorf("the container reads %q", got)
	}
}
