package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// calls measures what dockerd waits for, round by round beside what the same files cost
// on a mount made by hand.
func calls(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	hand, err := n.byHand(ctx, "/run/hand")
	if err != nil {
		return err
	}
	// A container that stays keeps the client.
	if err := n.create(ctx, []string{"keeper"}); err != nil {
		return err
	}
	if _, err := n.call(ctx, "Mount", request{Name: "keeper", ID: "keeper"}); err != nil {
		return err
	}
	var t callTimes
	for i := range b.rounds {
		if err := t.round(ctx, n, hand, fmt.Sprint("calls", i)); err != nil {
			return err
		}
	}
	for _, step := range t.steps(ctx, n, hand, "") {
		b.report.sampled(step.what, *step.times)
	}
	if err := onTheWire(ctx, b, n, hand); err != nil {
		return err
	}
	large, err := largeVolume(ctx, b, n, hand, 3)
	if err != nil {
		return err
	}
	if _, err := n.call(ctx, "Unmount", request{Name: "keeper", ID: "keeper"}); err != nil {
		return err
	}
	t.report(b, large)
	return n.run(ctx, "umount", "/run/hand")
}

// callTimes are of the same things, done side by side.
type callTimes struct {
	mkdir, rename, file                 times
	create, get, mount, unmount, remove times
}

// callStep is one of them.
type callStep struct {
	what  string
	times *times
	do    func() error
}

// steps are the life of a volume, and of a directory beside it.
func (t *callTimes) steps(ctx context.Context, n *node, hand, name string) []callStep {
	dir := filepath.Join(hand, name)
	call := func(method string) func() error {
		return func() error {
			_, err := n.call(ctx, method, request{Name: name, ID: "bench"})
			return err
		}
	}
	return []callStep{
		{"mkdir by hand", &t.mkdir, func() error { return os.Mkdir(dir, 0o755) }},
		{"Create", &t.create, call("Create")},
		{"file by hand", &t.file, func() error { return os.WriteFile(filepath.Join(dir, "file"), make([]byte, 400), 0o600) }},
		{"Mount, client there", &t.mount, call("Mount")},
		{"Get", &t.get, call("Get")},
		{"Unmount, not the last", &t.unmount, call("Unmount")},
		{"rename by hand", &t.rename, func() error { return os.Rename(dir, dir+"-moved") }},
		{"Remove", &t.remove, call("Remove")},
	}
}

func (t *callTimes) round(ctx context.Context, n *node, hand, name string) error {
	for _, step := range t.steps(ctx, n, hand, name) {
		if err := take(step.times, step.do); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(hand, name+"-moved"))
}

// largeVolume measures the removal of a volume with many files, which is brought back
// each time.
func largeVolume(ctx context.Context, b *bench, n *node, hand string, rounds int) (remove times, err error) {
	if err := n.create(ctx, []string{"large"}); err != nil {
		return nil, err
	}
	if err := fill(filepath.Join(hand, "volumes/large"), b.files); err != nil {
		return nil, err
	}
	unix.Sync() // else the tombstone's O_SYNC waits for all of these files to be on the disk
	for i := range rounds {
		err := take(&remove, func() error {
			_, err := n.call(ctx, "Remove", request{Name: "large"})
			return err
		})
		if err != nil {
			return nil, err
		}
		if i < rounds-1 {
			if err := n.run(ctx, "glustervol", "trash", "restore", "large"); err != nil {
				return nil, err
			}
		}
	}
	return remove, nil
}

// filesInDir is how many files fill puts into one directory.
const filesInDir = 1000

// fill makes empty files in directories below dir. Their contents would cost most of the
// time, and nothing that is measured depends on them.
func fill(dir string, files int) error {
	var dirs []string
	for i := 0; i*filesInDir < files; i++ {
		dirs = append(dirs, filepath.Join(dir, fmt.Sprint("dir", i)))
	}
	return atOnce(8, dirs, func(dir string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for i := range min(filesInDir, files) {
			if err := unix.Mknod(filepath.Join(dir, fmt.Sprint(i)), unix.S_IFREG|0o644, 0); err != nil {
				return &os.PathError{Op: "mknod", Path: dir, Err: err}
			}
		}
		return nil
	})
}

func (t *callTimes) report(b *bench, large times) {
	r := &b.report
	r.sampled(fmt.Sprintf("Remove, %d files", b.files), large)
	mkdir, rename := t.mkdir.median(), t.rename.median()
	r.atMost("Create", t.create.median()/mkdir, 3, "mkdirs", "medians, plugin call against mkdir by hand")
	r.atMost("Mount, client already there", t.mount.median()/mkdir, 2, "mkdirs", "medians; reference published and verified")
	r.atMost("Unmount, not the last", t.unmount.median()/mkdir, 2, "mkdirs", "medians")
	r.atMost("Remove, empty volume", t.remove.median()/rename, 4, "renames", "medians, against rename by hand")
	r.atMost(fmt.Sprintf("Remove, %d files", b.files), large.median()/rename, 4, "renames", "medians")
	r.atMost("Get", t.get.median(), 1, "ms", "median")
}

// firstMount measures the first Mount of a store, beside the bare client's own start
// and mount(8).
func firstMount(ctx context.Context, b *bench) error {
	n := b.cluster.nodes[0]
	var first, bare, helper times
	for i := range max(b.rounds/10, 3) {
		// Options of its own give each volume a client of its own.
		name := fmt.Sprint("first", i)
		opts := map[string]string{"client-options": fmt.Sprint("attribute-timeout=", i+2)}
		if _, err := n.call(ctx, "Create", request{Name: name, Opts: opts}); err != nil {
			return err
		}
		err := take(&first, func() error { _, err := n.call(ctx, "Mount", request{Name: name, ID: "bench"}); return err })
		if err != nil {
			return err
		}
		for _, way := range []struct {
			times   *times
			command string
		}{
			{&bare, "glusterfs --volfile-server=node1 --volfile-id=/gv0 --log-level=WARNING"},
			{&helper, "mount -t glusterfs " + n.cluster.store},
		} {
			// It has mounted before it is connected to the bricks, and a container can use nothing of it then.
			took, err := timeOnNode(ctx, n, way.command+" /run/first; [[ -d /run/first/volumes ]]", "umount /run/first")
			if err != nil {
				return err
			}
			*way.times = append(*way.times, took)
		}
		for _, method := range []string{"Unmount", "Remove"} {
			if _, err := n.call(ctx, method, request{Name: name, ID: "bench"}); err != nil {
				return err
			}
		}
	}
	b.report.sampled("Mount, first of a client", first)
	b.report.sampled("glusterfs by hand", bare)
	b.report.sampled("mount -t glusterfs by hand", helper)
	b.report.atMost("Mount, first one", first.median()/bare.median(), 1.2, "starts", "medians, against the start of the bare client until a file of the store can be seen")
	return nil
}

// timeOnNode takes the time of a command on a node, by its shell's own clock: to get into
// the node takes longer than some commands. The directory /run/first is there.
func timeOnNode(ctx context.Context, n *node, command, after string) (time.Duration, error) {
	out, err := n.output(ctx, "bash", "-c", "set -e; mkdir -p /run/first; a=${EPOCHREALTIME/./}; "+command+"; b=${EPOCHREALTIME/./}; "+after+"; echo $((b - a))")
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(out + "us")
}
