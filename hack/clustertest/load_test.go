package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/plugin"
	"github.com/glustervol/glustervol/volume"
)

// ledger is what a volume was acknowledged to be.
type ledger struct {
	name, id string
	// files are the contents that were acknowledged, by name.
	files map[string]string
	// doubtful are files of which nobody knows: their writer was not answered.
	doubtful map[string]bool
	// stuck tells that it cannot be removed for a while: a driver was killed when
	// dockerd asked it to mount or unmount, and dockerd does not ask again.
	stuck bool
}

func (v *ledger) entry() string { return v.name + "." + v.id }

// worker uses volumes of its own on all nodes, and tries to have them removed
// while they are in use. It repeats what was not answered, since the driver may
// have been killed, until it knows what has come of it.
type worker struct {
	t   testing.TB
	ctx context.Context
	c   *cluster
	// number makes the names of its volumes.
	number int
	random *rand.Rand
	made   int

	present, trashed []*ledger
	done             map[string]int
}

// resolveTime is within what an operation has to come to an end, however often
// drivers are killed.
const resolveTime = 3 * time.Minute

// maxVolumes is how many volumes a worker has at most.
const maxVolumes = 8

// run works until the soak is over.
func (w *worker) run(over <-chan struct{}) {
	for !w.t.Failed() {
		select {
		case <-over:
			return
		default:
			w.step()
		}
	}
}

// step does one operation.
func (w *worker) step() {
	chance := w.random.IntN(100)
	switch {
	case len(w.present) == 0, chance < 15 && len(w.present) < maxVolumes:
		w.create()
	case chance < 45:
		w.write(pick(w, w.present))
	case chance < 60:
		w.read(pick(w, w.present))
	case chance < 72:
		w.remove(w.random.IntN(len(w.present)))
	case chance < 84 && len(w.trashed) > 0:
		w.restore(w.random.IntN(len(w.trashed)))
	case chance < 88 && len(w.trashed) > 0:
		w.purge(w.random.IntN(len(w.trashed)))
	case chance < 95:
		w.runContainer(pick(w, w.present))
	default:
		w.holdByContainer(pick(w, w.present))
	}
}

func pick[T any](w *worker, list []T) T { return list[w.random.IntN(len(list))] }

// resolve repeats an operation until it has succeeded, or, when it is not the first
// attempt, failed in a way that tells that an earlier one has succeeded.
func (w *worker) resolve(what string, op func(ctx context.Context) error, succeeded ...error) {
	w.done[strings.Fields(what)[0]]++
	start := time.Now()
	for attempt := 1; ; attempt++ {
		err := w.answered(op)
		if err == nil {
			return
		}
		for _, target := range succeeded {
			if attempt > 1 && strings.Contains(err.Error(), target.Error()) {
				return
			}
		}
		if time.Since(start) > resolveTime {
			w.t.Errorf("worker %d: %s: not within %s: %v", w.number, what, resolveTime, err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// errNoEnd is of what did not come to an end.
var errNoEnd = fmt.Errorf("no end within %s", resolveTime)

// answered does something, and leaves it when it does not come to an end: a call on a
// hung mount has none.
func (w *worker) answered(op func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(w.ctx, resolveTime, errNoEnd)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- op(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *worker) create() {
	w.made++
	v := &ledger{name: fmt.Sprintf("soak-%d-%d", w.number, w.made), files: map[string]string{}, doubtful: map[string]bool{}}
	n := pick(w, w.c.nodes)
	w.resolve("create "+v.name+" on "+n.name, func(ctx context.Context) error {
		made, err := n.admin.Create(ctx, v.name, nil)
		v.id = made.ID
		return err
	})
	w.present = append(w.present, v)
}

// mount mounts a volume and calls fn with its directory while another node
// tries to remove it.
func (w *worker) mount(v *ledger, fn func(dir string) error) {
	order := w.random.Perm(len(w.c.nodes))
	n, raider := w.c.nodes[order[0]], w.c.nodes[order[1]]
	var path string
	w.resolve("mount "+v.name+" on "+n.name, func(ctx context.Context) (err error) {
		path, err = n.admin.Mount(ctx, v.name)
		return err
	})
	var raid sync.WaitGroup
	raid.Go(func() { w.raid(raider, v, "mounted on "+n.name) })
	if err := w.answered(func(context.Context) error { return fn(n.path(path)) }); err != nil {
		w.t.Errorf("worker %d: volume %s, mounted on %s: %v", w.number, v.name, n.name, err)
	}
	raid.Wait()
	w.resolve("unmount "+v.name+" on "+n.name, func(ctx context.Context) error { return n.admin.Unmount(ctx, v.name) })
}

// raid tries to remove a volume that is in use.
func (w *worker) raid(n *node, v *ledger, use string) {
	err := w.answered(func(ctx context.Context) error { return n.admin.Remove(ctx, v.name, "", false) })
	if err == nil || errors.Is(err, errNoEnd) {
		w.t.Errorf("worker %d: %s has removed volume %s, which is %s, or hangs (%v)", w.number, n.name, v.name, use, err)
	}
}

func (w *worker) write(v *ledger) {
	name := fmt.Sprintf("file%d", w.random.IntN(20))
	content := strings.Repeat(fmt.Sprintf("%s %s %d\n", v.name, name, w.random.Uint64()), 1+w.random.IntN(500))
	w.mount(v, func(dir string) error {
		// A new file that takes the place of the old one: half of it is never seen.
		draft := filepath.Join(dir, ".draft")
		f, err := os.Create(draft)
		if err != nil {
			return err
		}
		_, err = f.WriteString(content)
		return errors.Join(err, f.Sync(), f.Close(), os.Rename(draft, filepath.Join(dir, name)))
	})
	v.files[name] = content
	delete(v.doubtful, name)
}

func (w *worker) read(v *ledger) {
	w.mount(v, func(dir string) error {
		for begin := time.Now(); ; {
			err := v.check(dir)
			if err == nil || time.Since(begin) > cacheTime {
				return err
			}
			time.Sleep(cacheTime / 20)
		}
	})
}

// cacheTime is more than what a mount remembers names for that another node has replaced
// since: the kernel a second (entry-timeout), and Gluster's client another.
const cacheTime = 4 * time.Second

// check compares a directory with what was acknowledged.
func (v *ledger) check(dir string) error {
	for name, want := range v.files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && string(got) != want && !v.doubtful[name] {
			err = fmt.Errorf("has %d bytes: %.60q, wanted %d: %.60q", len(got), got, len(want), want)
		}
		if err != nil {
			return fmt.Errorf("file %s of volume %s: %w", name, v.name, err)
		}
	}
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if _, acknowledged := v.files[e.Name()]; !acknowledged && !v.doubtful[e.Name()] {
			err = errors.Join(err, fmt.Errorf("volume %s has file %s of nobody", v.name, e.Name()))
		}
	}
	return err
}

// take takes an element out of a list.
func take(list *[]*ledger, i int) *ledger {
	v := (*list)[i]
	*list = append((*list)[:i], (*list)[i+1:]...)
	return v
}

// stuckTime is for how long the removal of a volume may be refused because of a
// reference that its node has not withdrawn yet.
const stuckTime = 15 * time.Second

func (w *worker) remove(i int) {
	v := w.present[i]
	if v.stuck {
		return
	}
	n := pick(w, w.c.nodes)
	start := time.Now()
	w.resolve("remove "+v.name+" on "+n.name, func(ctx context.Context) error {
		err := n.admin.Remove(ctx, v.name, "", false)
		if err != nil && strings.Contains(err.Error(), " is in use on ") && time.Since(start) > stuckTime {
			v.stuck, err = true, nil
		}
		return err
	}, volume.ErrNotFound)
	if !v.stuck {
		w.trashed = append(w.trashed, take(&w.present, i))
	}
}

func (w *worker) restore(i int) {
	v := take(&w.trashed, i)
	n := pick(w, w.c.nodes)
	w.resolve("restore "+v.entry()+" on "+n.name, func(ctx context.Context) error {
		_, err := n.admin.Restore(ctx, v.entry(), "")
		return err
	}, volume.ErrNotInTrash)
	former := v.id // a volume that comes back is another one
	w.resolve("inspect "+v.name+" on "+n.name, func(ctx context.Context) error {
		info, err := n.admin.Inspect(ctx, v.name)
		if err == nil && info.ID == former {
			err = fmt.Errorf("volume %s is %s still", v.name, former)
		}
		v.id = info.ID
		return err
	})
	w.present = append(w.present, v)
}

func (w *worker) purge(i int) {
	v := take(&w.trashed, i)
	n := pick(w, w.c.nodes)
	w.resolve("purge "+v.entry()+" on "+n.name, func(ctx context.Context) error {
		return n.admin.EmptyTrash(ctx, []string{v.entry()}, func(volume.Progress) {})
	}, volume.ErrNotInTrash)
}

// runContainer has a container write a file. dockerd does not repeat what the
// driver did not answer, so it may fail.
func (w *worker) runContainer(v *ledger) {
	n := pick(w, w.c.nodes)
	w.made++
	name := fmt.Sprintf("run-%d-%d", w.number, w.made)
	w.done["run"]++
	_, err := n.tryDocker("run", "--name="+name, "--volume="+v.name+":/data", "--volume-driver=glustervol", testnode.Image,
		"sh", "-c", "printf "+name+" >/data/"+name+" && sync")
	if err == nil {
		v.files[name] = name
	} else {
		v.doubtful[name] = true
	}
	w.removeContainer(n, name)
}

func (w *worker) removeContainer(n *node, name string) {
	w.resolve("rm "+name+" on "+n.name, func(ctx context.Context) error {
		_, err := n.tryDocker("rm", "--force", name)
		return err
	}, errors.New("No such container"))
}

// holdByContainer has a container that does not run keep its volume.
func (w *worker) holdByContainer(v *ledger) {
	order := w.random.Perm(len(w.c.nodes))
	n := w.c.nodes[order[0]]
	w.made++
	name := fmt.Sprintf("hold-%d-%d", w.number, w.made)
	w.done["hold"]++
	if _, err := n.tryDocker("create", "--name="+name, "--volume="+v.name+":/data", "--volume-driver=glustervol", testnode.Image, "true"); err == nil {
		w.resolve("tell of "+name+" on "+n.name, func(ctx context.Context) error { return published(n, v, name) })
		for _, i := range order {
			w.raid(w.c.nodes[i], v, "used by container "+name+" on "+n.name)
		}
	}
	w.removeContainer(n, name)
}

// published tells, with nil, that other nodes can see that a container uses a
// volume.
func published(n *node, v *ledger, container string) error {
	files, err := filepath.Glob(n.c.nodes[0].brick(".glustervol/nodes/*/" + v.id + ".json"))
	for _, file := range files {
		data, readErr := os.ReadFile(file)
		if strings.Contains(string(data), `"`+container+`"`) {
			return nil
		}
		if !errors.Is(readErr, fs.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
	}
	return errors.Join(err, fmt.Errorf("no reference to volume %s names container %s", v.name, container))
}

// users is who has a volume mounted on a node.
func users(ctx context.Context, n *node) (list []plugin.VolumeInfo, err error) {
	all, err := n.admin.List(ctx)
	for _, v := range all {
		if len(v.Users) > 0 {
			list = append(list, v)
		}
	}
	return list, err
}
