package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// How nodes keep one from removing what another uses, without locks:
//
//	Use on B:     write B's reference -> then look: definition there, no tombstone of any node
//	Remove on A:  write A's tombstone -> then look: no reference, no other tombstone of any node -> commit
//
// Each writes first and reads second, so that of two who race at least one sees
// the other and backs out. The commit is the rename of A's own tombstone: whoever
// finds that A has been killed, or is asleep, unlinks the tombstone, and A's
// commit fails when it wakes up.

// reference says what one node uses a volume for.
type reference struct {
	Volume string `json:"volume"`
	ID     string `json:"id"`
	// Mounts are Docker's mount ids, Containers those that are there, running
	// or not.
	Mounts     []string       `json:"mounts,omitempty"`
	Containers []ContainerRef `json:"containers,omitempty"`
	// blank tells that it is published, and says nothing yet.
	blank bool
}

// ContainerRef is a container that uses a volume.
type ContainerRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is Docker's: "running", "exited", "created", and so on.
	State string `json:"state"`
	// Mounts are the paths in it that have something mounted. Other nodes need not
	// know.
	Mounts []string `json:"-"`
}

func (c ContainerRef) String() string { return fmt.Sprintf("container %s (%s)", c.Name, c.State) }

func referenceFile(number int, id string) string {
	return path.Join(memberDir(number), id+recordSuffix)
}

// references are what this node has published on one store.
type references struct {
	mu sync.Mutex
	// published are the references, by the volume's id, that are on the store and
	// were seen to be in time.
	published map[string]reference
	// unused are those that were found to be of no use the last time.
	unused map[string]bool
	// clean tells that what is on the store beside them is gone: what earlier sessions
	// have left, and what could not be published, nor be taken back.
	clean bool
}

// Holder is a node that uses a volume.
type Holder struct {
	Node string `json:"node"`
	// number is its number on the store.
	number int
	reference
	// Unreadable tells that there is a reference that cannot be read, which
	// counts all the same. So does one that says nothing yet.
	Unreadable bool `json:"unreadable,omitempty"`
	// silence is for how long it has not been heard of, stopped that it has told
	// that its driver stops.
	silence time.Duration
	stopped bool
}

// String says who uses the volume, and what to do if the node is gone.
func (h Holder) String() string {
	var by []string
	for _, c := range h.Containers {
		by = append(by, c.String())
	}
	if len(h.Mounts) > 0 && len(h.Containers) == 0 { // else Docker's ids of the same
		by = append(by, "mount "+strings.Join(h.Mounts, ", "))
	}
	what := cmp.Or(strings.Join(by, ", "), "a mount or a container that it has not named yet")
	if h.Unreadable {
		what = "a reference that cannot be read"
	}
	node := cmp.Or(h.Node, strconv.Itoa(h.number))
	switch {
	case h.stopped:
		return fmt.Sprintf("node %s by %s (its driver does not run; if it is gone for good, say 'glustervol node forget %s')", node, what, node)
	case h.silence >= aliveTime:
		return fmt.Sprintf("node %s by %s (unheard of for %s; if it is gone for good, say 'glustervol node forget %s')",
			node, what, h.silence.Round(time.Second), node)
	}
	return fmt.Sprintf("node %s by %s", node, what)
}

// refer publishes that this node uses a volume, and then sees that nobody is
// removing it. The error matches ErrNotFound, errRemoving or errForgotten, and
// then nothing is left published. The caller holds the name.
func (c *catalog) refer(ctx context.Context, def Definition) error {
	look := c.referAnew
	if c.references.has(def.ID) {
		look = func(ctx context.Context, _ Definition) error { return c.members.check(ctx) }
	}
	err := look(ctx, def)
	if errors.Is(err, errForgotten) {
		c.references.clear() // where they are, nobody looks any more
		err = c.referAnew(ctx, def)
	}
	return err
}

// referAnew publishes a reference that is not known to be there. It says nothing yet, since
// somebody waits for the mount: describe does, behind it.
func (c *catalog) referAnew(ctx context.Context, def Definition) error {
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	file := referenceFile(number, def.ID)
	made, err := c.makeReference(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.renewDir(ctx, number, err); err == nil {
			made, err = c.makeReference(ctx, file)
		}
	}
	if err == nil {
		if err = c.lookReferred(ctx, def); err == nil {
			c.references.add(reference{Volume: def.Name, ID: def.ID, blank: true})
			return nil
		}
		if made { // one that was there before may be for something that goes on
			c.takeBack(ctx, file)
		}
	}
	c.references.setUnswept() // one may be there all the same
	return err
}

// renewDir makes this node's directory anew if it is gone, as err says, and the node
// is a member still: what it said there is published again. Else it went with the
// number.
func (c *catalog) renewDir(ctx context.Context, number int, err error) error {
	if err := c.members.check(ctx); err != nil {
		return err
	}
	if c.fs.Mkdir(ctx, memberDir(number), 0o700) != nil {
		return err
	}
	c.log.Error("this node's directory on the store was gone; it is made anew, with what the node uses", "dir", memberDir(number))
	c.references.clear()
	return nil
}

// describe has a reference that is published say what the volume is used for.
func (c *catalog) describe(ctx context.Context, r reference) error {
	number, joined := c.members.joined()
	if !joined || !c.references.has(r.ID) || c.references.same(r) {
		return nil
	}
	if err := c.writeReference(ctx, referenceFile(number, r.ID), r); err != nil {
		return err
	}
	c.references.add(r)
	return nil
}

func (r *references) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := r.published[id]
	return found
}

// same tells whether this is what was published.
func (r *references) same(one reference) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return reflect.DeepEqual(r.published[one.ID], one)
}

func (r *references) add(one reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published[one.ID] = one
}

func (r *references) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.published, id)
	delete(r.unused, id)
}

func (r *references) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.published)
}

// keepUsed notes which volumes are in use.
func (r *references) keepUsed(used map[string]reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.unused, func(id string, _ bool) bool { _, inUse := used[id]; return inUse })
}

// unusedBefore notes that a volume is not in use, and tells whether it was not the
// last time either.
func (r *references) unusedBefore(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.unused[id]
	r.unused[id] = true
	return before
}

func (r *references) swept() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clean
}

func (r *references) setUnswept() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clean = false
}

func (r *references) setSwept(clean bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clean = r.clean || clean
}

// list returns the names of the volumes, by id.
func (r *references) list() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]string{}
	for id, one := range r.published {
		names[id] = one.Volume
	}
	return names
}

// lookReferred is what comes behind the reference. That of the tombstones comes before that
// of the trash, as a removal that is committed makes the one of the other.
func (c *catalog) lookReferred(ctx context.Context, def Definition) error {
	return c.together(ctx, func(ctx context.Context) error {
		var others othersUse
		err := c.ofEachMember(ctx, func(ctx context.Context, one member) error { return c.lookTombstone(ctx, def, one, &others) })
		if others.removing.Load() {
			return errRemoving
		}
		if err == nil {
			err = c.defines(ctx, def)
		}
		return err
	}, c.members.check)
}

// othersUse is what is found of what other nodes do with a volume.
type othersUse struct {
	removing atomic.Bool

	mu      sync.Mutex
	holders []Holder
}

// sorted are the holders by their number.
func (u *othersUse) sorted() []Holder {
	return slices.SortedFunc(slices.Values(u.holders), func(a, b Holder) int { return cmp.Compare(a.number, b.number) })
}

// lookTombstone looks whether a node removes a volume. One that was forgotten counts too:
// it may be asleep only.
func (c *catalog) lookTombstone(ctx context.Context, def Definition, one member, found *othersUse) error {
	there, err := c.exists(ctx, tombstoneFile(def.entry(), one.number))
	if there {
		found.removing.Store(true)
	}
	return err
}

// lookHolder looks whether a node uses a volume.
func (c *catalog) lookHolder(ctx context.Context, def Definition, one member, found *othersUse) error {
	if one.Forgotten {
		return nil
	}
	holder, err := c.holder(ctx, def, one)
	if holder != nil {
		found.mu.Lock()
		defer found.mu.Unlock()
		found.holders = append(found.holders, *holder)
	}
	return err
}

// lookUpsAtOnce is how many nodes are looked at together.
const lookUpsAtOnce = 8

// ofEachMember looks something up of each node: of those that are known, while it asks
// whether there are more.
func (c *catalog) ofEachMember(ctx context.Context, look func(context.Context, member) error) error {
	known := c.members.list()
	var more []member
	err := c.together(ctx, func(ctx context.Context) error {
		all, err := c.members.all(ctx)
		more = slices.DeleteFunc(all, func(one member) bool {
			return slices.ContainsFunc(known, func(k member) bool { return k.number == one.number })
		})
		return err
	}, func(ctx context.Context) error { return c.ofEach(ctx, known, look) })
	if err == nil {
		err = c.ofEach(ctx, more, look)
	}
	return err
}

// ofEach looks something up of each of the nodes, in any order. The first error ends it.
func (c *catalog) ofEach(ctx context.Context, nodes []member, look func(context.Context, member) error) error {
	looks := make([]func(context.Context) error, len(nodes))
	for i, one := range nodes {
		looks[i] = func(ctx context.Context) error { return look(ctx, one) }
	}
	return c.together(ctx, looks...)
}

// together does several things at the same time. The first error ends it.
func (c *catalog) together(ctx context.Context, all ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.lookUpsAtOnce)
	for _, one := range all {
		group.Go(func() error { return one(ctx) })
	}
	return group.Wait()
}

// holder is a node's use of a volume, nil if it does not use it.
func (c *catalog) holder(ctx context.Context, def Definition, one member) (*Holder, error) {
	holder := Holder{Node: one.Node, number: one.number}
	holder.silence, holder.stopped = c.pulse.unheard(one.number)
	var err error
	holder.reference, err = c.readReference(ctx, referenceFile(one.number, def.ID))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, errBlank): // it says so
	case errors.Is(err, ErrDamaged):
		holder.Unreadable = true
	case err != nil:
		return nil, fmt.Errorf("whether node %s uses the volume cannot be read: %w", one.Node, err)
	}
	return &holder, nil
}

func (c *catalog) readReference(ctx context.Context, file string) (reference, error) {
	data, err := c.fs.ReadFile(ctx, file)
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return reference{}, err
	}
	if err == nil && len(data) == 0 {
		return reference{}, errBlank
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil || !validID.MatchString(r.ID) {
		return reference{}, fmt.Errorf("%w: %s is not a reference", ErrDamaged, file)
	}
	return r, nil
}

// errBlank is of a reference that says nothing, which is that of a mount that was just made,
// or a spare file.
var errBlank = fmt.Errorf("%w: an empty reference", ErrDamaged)

// damagedReference tells of a reference of this node that cannot be read, and names
// a file to keep it in: who looks after the store may want to see it.
func (c *catalog) damagedReference(ctx context.Context, file string) (aside string, damaged bool) {
	_, err := c.readReference(ctx, file)
	if !errors.Is(err, ErrDamaged) || errors.Is(err, errBlank) {
		return "", false
	}
	return file + "." + NewID() + damagedSuffix, true
}

func (c *catalog) tellKept(aside string) {
	c.log.Error("a reference of this node was damaged; it is kept aside", "file", aside)
}

// copyDamaged keeps a damaged reference that is about to be replaced. It is not
// moved, since others take a reference that is not there for an unused volume.
func (c *catalog) copyDamaged(ctx context.Context, file string) error {
	aside, damaged := c.damagedReference(ctx, file)
	if !damaged {
		return nil
	}
	data, err := c.fs.ReadFile(ctx, file)
	if errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("%w: %s should be a file that tells what this node uses; move it away", ErrDamaged, file)
	}
	if err == nil {
		_, err = c.fs.Create(ctx, aside, data)
	}
	if err == nil {
		c.tellKept(aside)
	}
	return err
}

// makeReference makes a reference that says nothing. made tells that there was none, or
// that this cannot be known.
func (c *catalog) makeReference(ctx context.Context, file string) (made bool, err error) {
	_, err = c.fs.Create(ctx, file, nil)
	switch {
	case isFull(err) && c.useSpare(ctx, file):
		return true, nil
	case errors.Is(err, fs.ErrExist): // whatever it says
		return false, nil
	}
	return true, err
}

// writeReference has a reference that is there say something.
func (c *catalog) writeReference(ctx context.Context, file string, r reference) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.copyDamaged(ctx, file); err != nil {
		return err
	}
	_, err = replace(ctx, c.fs, file, append(data, '\n'))
	return err
}

// A store that is full takes no new file, and who wants to remove files from it has
// to mount it first. So each node keeps a few empty files that can be renamed to be
// references; what they are for cannot be read then, which counts all the same.
const spares = 4

func spareFile(number, i int) string { return path.Join(memberDir(number), fmt.Sprintf(".spare%d", i)) }

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// useSpare makes a spare file a reference.
func (c *catalog) useSpare(ctx context.Context, file string) bool {
	number, _ := c.members.joined()
	for i := range spares {
		if c.fs.Rename(ctx, spareFile(number, i), file) == nil {
			return true
		}
	}
	return false
}

// keepSpares makes the spare files that are not there.
func (c *catalog) keepSpares(ctx context.Context) error {
	number, joined := c.members.joined()
	if !joined {
		return nil
	}
	for i := range spares {
		if there, err := c.exists(ctx, spareFile(number, i)); there || err != nil {
			continue
		}
		if _, err := c.fs.Create(ctx, spareFile(number, i), nil); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// unrefer tells others that this node does not use a volume any more. The caller
// holds the name.
func (c *catalog) unrefer(ctx context.Context, id string) error {
	number, joined := c.members.joined()
	if !joined {
		return nil
	}
	c.references.drop(id)
	if aside, damaged := c.damagedReference(ctx, referenceFile(number, id)); damaged {
		if err := c.fs.Rename(ctx, referenceFile(number, id), aside); err != nil {
			return err
		}
		c.tellKept(aside)
		return nil
	}
	// A spare that was used is one again; a store that is full would take no other.
	for i := range spares {
		if there, err := c.exists(ctx, spareFile(number, i)); err == nil && !there {
			if err := c.fs.Rename(ctx, referenceFile(number, id), spareFile(number, i)); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
	}
	return c.removeIfThere(ctx, referenceFile(number, id))
}

// takeBack removes a reference behind an operation that failed, whose own time
// may be over. One that stays is removed by the next reconciliation.
func (c *catalog) takeBack(ctx context.Context, file string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_ = c.removeIfThere(ctx, file)
}
