package volume

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/gluster"
)

// The explorer runs processes of several nodes on one store in memory, one file
// operation at a time, in every order. It goes on from each state once: what can
// come of it is told by the files, and by what each process has been answered so
// far. In one run, one process may be killed, before an operation or in the middle
// of a write. TestExplore has what must hold.

// scenario is what the explorer explores.
type scenario struct {
	doc string
	// prepare makes the store, without interruption.
	prepare func(w *world) error
	// noDeaths tells that with deaths it would take too long.
	noDeaths bool
	// switches is how often the run may turn from a process that is not through to
	// another, 0 for any number.
	switches int
	// strangers tells that the processes do not know the store's nodes yet.
	strangers bool
	// processes run side by side.
	processes []process
	// check looks at the store at the end, when a node that came later has settled
	// what was left.
	check func(w *world, c *catalog) error
}

// process is one node's driver. It returns what it tells its user.
type process struct {
	node string
	run  func(ctx context.Context, w *world, c *catalog) error
}

// world is one run of a scenario.
type world struct {
	fs *memoryFS
	// uses has which volume, by id, a node uses, as its container sees it.
	uses map[string]string
	// told is what the processes that were not killed have told their users.
	told map[string]error
}

// choice is what happens next: an operation of a process, or its death.
type choice struct {
	process int
	death   death
}

type death int

const (
	lives death = iota
	// diesBefore is a death before the operation, diesTorn one in the middle of a write.
	diesBefore
	diesTorn
)

// actor is a process of a run. It asks for every operation, and goes on when it
// is told to.
type actor struct {
	asks    chan request
	answers chan verdict
	// pending is the operation that it asks for; done tells that it is through.
	pending request
	done    bool
	// history is a hash of all that it was answered.
	history uint64
}

type request struct {
	op      string
	isWrite bool
	done    bool
}

type verdict struct{ death death }

// explorer explores one scenario.
type explorer struct {
	t        *testing.T
	scenario scenario
	seed     maphash.Seed
	seen     map[uint64]bool
	runs     int
	deepest  int
	// withDeaths has processes be killed.
	withDeaths bool
}

// explore runs the scenario in every way. It ends at the first violation.
func (e *explorer) explore() error {
	e.seed, e.seen = maphash.MakeSeed(), map[uint64]bool{}
	todo := [][]choice{nil}
	for len(todo) > 0 {
		prefix := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		alternatives, path, err := e.run(prefix)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, strings.Join(path, "\n"))
		}
		todo = append(todo, alternatives...)
		e.runs++
	}
	return nil
}

// run follows a prefix, goes on until the end or a state that was seen, and
// returns what else could have happened on the way behind the prefix.
func (e *explorer) run(prefix []choice) (alternatives [][]choice, path []string, err error) {
	w := &world{fs: newMemoryFS(), uses: map[string]string{}, told: map[string]error{}}
	if err := e.scenario.prepare(w); err != nil {
		return nil, nil, err
	}
	actors := e.start(w)
	defer func() {
		for _, a := range actors {
			a.abort()
		}
	}()
	died, last, switches := false, 0, 0
	var taken []choice
	for step := 0; ; step++ {
		choices := e.choices(actors, died)
		if e.scenario.switches > 0 && switches == e.scenario.switches && !actors[last].done {
			choices = []choice{{process: last}}
		}
		if len(choices) == 0 {
			e.deepest = max(e.deepest, step)
			return alternatives, path, e.end(w)
		}
		next := choices[0]
		if step < len(prefix) {
			next = prefix[step]
		} else {
			state := e.state(w, actors, died)
			if e.scenario.switches > 0 {
				state = maphash.String(e.seed, fmt.Sprint(state, last, switches))
			}
			if e.seen[state] {
				return alternatives, path, nil
			}
			e.seen[state] = true
			for _, other := range choices[1:] {
				alternatives = append(alternatives, append(slices.Clone(taken), other))
			}
		}
		if next.process != last && !actors[last].done {
			switches++
		}
		last = next.process
		taken = append(taken, next)
		a := actors[next.process]
		path = append(path, fmt.Sprintf("%s: %s%s", e.scenario.processes[next.process].node, a.pending.op, []string{"", " (dies before)", " (dies in the middle)"}[next.death]))
		died = died || next.death != lives
		a.step(next.death)
		if err := stillThere(w); err != nil {
			return nil, path, err
		}
	}
}

// start starts the processes, each up to its first operation.
func (e *explorer) start(w *world) []*actor {
	actors := make([]*actor, len(e.scenario.processes))
	for i, p := range e.scenario.processes {
		a := &actor{asks: make(chan request), answers: make(chan verdict)}
		actors[i] = a
		c := e.catalog(w, &actedFS{memoryFS: w.fs, actor: a, seed: e.seed, number: uint64(i + 1)}, p.node)
		go func() {
			err := p.run(context.Background(), w, c)
			if !errors.Is(err, errDied) {
				w.told[p.node] = err
			}
			a.asks <- request{done: true}
		}()
		a.await()
	}
	return actors
}

// catalog is that of a process. It never takes a creation for dead, and always a
// removal that is not committed.
func (e *explorer) catalog(w *world, store gluster.FS, node string) *catalog {
	c := newCatalog(store, Node{ID: node, Session: "1"})
	c.lookUpsAtOnce = 1 // an actor asks for one operation at a time
	c.patience, c.tombstonePatience = math.MaxInt64, 0
	if !e.scenario.strangers {
		known := newMembers(w.fs, node)
		if _, err := known.join(context.Background()); err != nil {
			panic(err)
		}
		known.fs = store
		c.members = known
	}
	return c
}

func (e *explorer) choices(actors []*actor, died bool) (list []choice) {
	for i, a := range actors {
		if !a.done {
			list = append(list, choice{process: i})
		}
	}
	for i, a := range actors {
		if a.done || died || !e.withDeaths {
			continue
		}
		list = append(list, choice{i, diesBefore})
		if a.pending.isWrite {
			list = append(list, choice{i, diesTorn})
		}
	}
	return list
}

// await waits for the actor's next operation, or its end.
func (a *actor) await() {
	a.pending = <-a.asks
	a.done = a.pending.done
}

// step has the actor do its operation, or die.
func (a *actor) step(d death) {
	a.answers <- verdict{d}
	a.await()
}

// abort has a process that is not through come to its end.
func (a *actor) abort() {
	for !a.done {
		a.step(diesBefore)
	}
}

// anyID is a random id, or a time.
var anyID = regexp.MustCompile(`[0-9a-f]{16}|\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// state is a hash of all that decides what can happen next.
func (e *explorer) state(w *world, actors []*actor, died bool) uint64 {
	var text strings.Builder
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range w.fs.files {
			if !yield(name) {
				return
			}
		}
	})
	ids := map[string]string{} // random ones are as good as any other
	for _, name := range names {
		file := w.fs.files[name]
		text.WriteString(anyID.ReplaceAllStringFunc(fmt.Sprintln(name, file.inode, file.data), func(id string) string {
			if ids[id] == "" {
				ids[id] = fmt.Sprint("id", len(ids))
			}
			return ids[id]
		}))
	}
	for _, a := range actors {
		fmt.Fprintln(&text, a.done, a.history)
	}
	fmt.Fprintln(&text, died, w.uses)
	return maphash.String(e.seed, text.String())
}

// stillThere wants every volume that a node uses to be neither removed nor gone.
func stillThere(w *world) error {
	for node, id := range w.uses {
		defined := false
		for name, file := range w.fs.files {
			if strings.HasPrefix(name, definitionDir+"/") && strings.Contains(file.data, id) && !strings.HasSuffix(name, claimSuffix) {
				defined = true
			}
			if strings.HasPrefix(name, trashDir+"/") && strings.Contains(name, "."+id+recordSuffix) {
				return fmt.Errorf("volume %s was removed while %s uses it", id, node)
			}
		}
		if !defined {
			return fmt.Errorf("volume %s is gone while %s uses it", id, node)
		}
	}
	return nil
}

// end settles what is left, as a node does that comes when all others are gone.
func (e *explorer) end(w *world) error {
	late := newCatalog(w.fs, Node{ID: "late", Session: "1"})
	late.patience, late.tombstonePatience = 0, 0
	for range 2 {
		if err := late.settle(context.Background(), func(string) (func(), bool) { return func() {}, true }); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
	}
	for name := range w.fs.files {
		if strings.HasSuffix(name, claimSuffix) || strings.HasSuffix(name, restoringSuffix) || strings.HasPrefix(name, tombstoneDir+"/") {
			return fmt.Errorf("%s is left for ever", name)
		}
	}
	if err := stillThere(w); err != nil {
		return err
	}
	return e.scenario.check(w, late)
}

// actedFS is the store as one process sees it.
type actedFS struct {
	*memoryFS
	actor *actor
	seed  maphash.Seed
	// number and made number the files of this process, whatever the others make.
	number, made uint64
	dead         bool
}

// act asks for an operation, does it, and notes its result.
func (f *actedFS) act(op string, torn, do func() (any, error)) (any, error) {
	if f.dead {
		return nil, errDied
	}
	f.actor.asks <- request{op: op, isWrite: torn != nil}
	switch verdict := <-f.actor.answers; verdict.death {
	case diesTorn:
		_, _ = torn()
		fallthrough
	case diesBefore:
		f.dead = true
		return nil, errDied
	}
	f.memoryFS.nextInode = func() uint64 { f.made++; return f.number<<32 | f.made }
	result, err := do()
	text := result
	if data, ok := result.([]byte); ok {
		text = string(data)
	}
	f.actor.history = maphash.String(f.seed, anyID.ReplaceAllString(fmt.Sprint(f.actor.history, op, text, err), "id"))
	return result, err
}

func (f *actedFS) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	_, err := f.act("mkdir "+name, nil, func() (any, error) { return nil, f.memoryFS.Mkdir(ctx, name, mode) })
	return err
}

func (f *actedFS) Create(ctx context.Context, name string, data []byte) (uint64, error) {
	torn := func() (any, error) { return f.memoryFS.Create(ctx, name, data[:len(data)/2]) }
	result, err := f.act("create "+name, torn, func() (any, error) { return f.memoryFS.Create(ctx, name, data) })
	inode, _ := result.(uint64)
	return inode, err
}

func (f *actedFS) ReadFile(ctx context.Context, name string) ([]byte, error) {
	result, err := f.act("read "+name, nil, func() (any, error) { return f.memoryFS.ReadFile(ctx, name) })
	data, _ := result.([]byte)
	return data, err
}

func (f *actedFS) ReadDir(ctx context.Context, name string) ([]gluster.Entry, error) {
	result, err := f.act("readdir "+name, nil, func() (any, error) { return f.memoryFS.ReadDir(ctx, name) })
	list, _ := result.([]gluster.Entry)
	return list, err
}

func (f *actedFS) Lstat(ctx context.Context, name string) (gluster.Info, error) {
	result, err := f.act("lstat "+name, nil, func() (any, error) { return f.memoryFS.Lstat(ctx, name) })
	info, _ := result.(gluster.Info)
	return info, err
}

func (f *actedFS) Rename(ctx context.Context, oldName, newName string) error {
	_, err := f.act("rename "+oldName+" to "+newName, nil, func() (any, error) { return nil, f.memoryFS.Rename(ctx, oldName, newName) })
	return err
}

func (f *actedFS) Remove(ctx context.Context, name string) error {
	_, err := f.act("remove "+name, nil, func() (any, error) { return nil, f.memoryFS.Remove(ctx, name) })
	return err
}

func (f *actedFS) Chown(ctx context.Context, name string, uid, gid int) error {
	_, err := f.act("chown "+name, nil, func() (any, error) { return nil, f.memoryFS.Chown(ctx, name, uid, gid) })
	return err
}

func (f *actedFS) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	_, err := f.act("chmod "+name, nil, func() (any, error) { return nil, f.memoryFS.Chmod(ctx, name, mode) })
	return err
}

func (f *actedFS) RemoveTree(ctx context.Context, name string, removed func(int)) error {
	_, err := f.act("remove tree "+name, nil, func() (any, error) { return nil, f.memoryFS.RemoveTree(ctx, name, removed) })
	return err
}
