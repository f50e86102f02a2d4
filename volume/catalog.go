package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster"
)

// Where things are on a store. An ENTRY is NAME.ID.
//
//	volumes/NAME/                          the data that a container sees
//	.glustervol/format.json                how to read the rest
//	.glustervol/volumes/NAME.json          a definition: while it is here, the volume exists
//	.glustervol/volumes/.NAME.json.claim   a creation or restoration under way; renamed, it is the definition
//	.glustervol/tombstones/ENTRY.N.json    node N's removal under way; renamed, it is the record in the trash
//	.glustervol/trash/ENTRY.json           a removed volume, and
//	.glustervol/trash/ENTRY/               its data
//	.glustervol/trash/ENTRY.ID.restoring   the same record, while it is restored as the volume ID
//	.glustervol/trash/ENTRY.purging        the same record, once the data is being purged
//
// Every step from one state to the next is one rename. A claim hashes like the
// definition that it becomes (cluster.rsync-hash-regex), so that its rename
// stays on one set of bricks. members.go has what nodes say of themselves,
// references.go how they keep one from removing what another uses, and news.go how they
// hear of each other's changes.
const (
	dataDir       = "volumes"
	controlDir    = ".glustervol"
	formatFile    = controlDir + "/format.json"
	definitionDir = controlDir + "/volumes"
	tombstoneDir  = controlDir + "/tombstones"
	trashDir      = controlDir + "/trash"

	recordSuffix    = ".json"
	claimSuffix     = ".json.claim"
	restoringSuffix = ".restoring"
	purgingSuffix   = ".purging"
)

// controlDirs are the directories that every store has.
var controlDirs = []string{dataDir, controlDir, definitionDir, tombstoneDir, trashDir, nodesDir, newsDir}

func definitionFile(name string) string { return path.Join(definitionDir, name+recordSuffix) }
func claimFile(name string) string      { return path.Join(definitionDir, "."+name+claimSuffix) }
func tombstoneFile(entry string, number int) string {
	return path.Join(tombstoneDir, fmt.Sprintf("%s.%d%s", entry, number, recordSuffix))
}
func trashFile(entry string) string { return path.Join(trashDir, entry+recordSuffix) }
func trashData(entry string) string { return path.Join(trashDir, entry) }

// formatVersion is the layout above. A store with a larger one is refused.
const formatVersion = 1

var (
	// ErrNotFound says that there is no volume of that name.
	ErrNotFound = errors.New("no such volume")
	// ErrDamaged says that a file of the catalog cannot be read as what it
	// should be. It is left as it is.
	ErrDamaged = errors.New("damaged file on the store")
	// errClaimed says that a creation of that name is under way.
	errClaimed = errors.New("another creation of this volume is under way")
	// errRemoving says that a removal is under way.
	errRemoving = errors.New("a removal of this volume is under way")
)

// existsError says that there is a volume of that name.
type existsError struct{ Definition }

func (e existsError) Error() string { return fmt.Sprintf("volume %s exists", e.Name) }

// catalog are the definitions and the trash of one store. Operations on one
// name are serialised by the caller within this process; against other nodes,
// and against a crash at any point, the order of the files' renames protects.
type catalog struct {
	fs   gluster.FS
	node Node
	// members are the nodes of the store, references what this one has published.
	members    *members
	references references
	// pulse is what this node hears of others, news what they change.
	pulse *pulse
	news  *news
	// log is told of what was amiss on the store and is mended.
	log *slog.Logger
	// patience and tombstonePatience are settlePatience and tombstonePatience,
	// but for tests.
	patience, tombstonePatience time.Duration
	// lookUpsAtOnce is the constant, but for tests that want one order.
	lookUpsAtOnce int
	mu            sync.Mutex
	// seen has when a leftover was first seen, by the monotonic clock.
	seen map[string]time.Time
	// through are the records in the trash whose removals were seen to be through.
	through map[string]bool
}

const (
	// settlePatience is for how long another node's operation has to stand still
	// until it is taken for dead. What that node had asked of the bricks in
	// operationTime may reach them 84 s later (twice network.ping-timeout; over libgfapi it is 30 s),
	// and has to be over by then: directories of volumes are moved by name, and the name may be
	// another's meanwhile.
	settlePatience = 130 * time.Second
	// operationTime is how long an operation may take before it stops by itself. One that begins when a
	// server loses its power takes 30 s.
	operationTime = 40 * time.Second
	// tombstonePatience is settlePatience for a removal that is not committed. To
	// take that back is safe at any time: its node alone has a file of that name.
	tombstonePatience = 10 * time.Second
)

// errLate says that an operation has taken so long that another node may have
// settled it.
var errLate = fmt.Errorf("it took longer than %s; what is half done is settled within 4 min", operationTime)

func newCatalog(store gluster.FS, node Node) *catalog {
	return &catalog{
		fs: store, node: node, members: newMembers(store, node.ID), references: references{published: map[string]reference{}, unused: map[string]bool{}},
		pulse:    newPulse(node.Session),
		news:     newNews(node.Session),
		log:      slog.New(slog.DiscardHandler),
		patience: settlePatience, tombstonePatience: tombstonePatience, lookUpsAtOnce: lookUpsAtOnce, seen: map[string]time.Time{}, through: map[string]bool{},
	}
}

// open reads the store's format, and makes an empty store of a directory that
// never was one. A format that it does not know is left untouched.
func (c *catalog) open(ctx context.Context) error {
	err := c.checkFormat(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return c.format(ctx)
	}
	return err
}

// checkFormat reads the store's format. fs.ErrNotExist: it has none.
func (c *catalog) checkFormat(ctx context.Context) error {
	data, err := c.fs.ReadFile(ctx, formatFile)
	if err != nil {
		return fmt.Errorf("read %s: %w", formatFile, err)
	}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &format); err != nil || format.Format < 1 {
		return fmt.Errorf("%w: %s does not name a format; the store is left alone until it is mended", ErrDamaged, formatFile)
	}
	if format.Format > formatVersion {
		return fmt.Errorf("the store has format %d, this driver knows up to %d; install a newer glustervol on this node", format.Format, formatVersion)
	}
	return nil
}

func (c *catalog) format(ctx context.Context) error {
	// 0755 for people with a plain mount; what is the driver's own is root's.
	modes := map[string]fs.FileMode{dataDir: 0o755}
	for _, dir := range controlDirs {
		mode, found := modes[dir]
		if !found {
			mode = 0o700
		}
		if err := c.fs.Mkdir(ctx, dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make an empty store: %w", err)
		}
	}
	// Two nodes may come here at once; both write the same.
	draft := path.Join(controlDir, ".format.json."+NewID())
	if _, err := c.fs.Create(ctx, draft, fmt.Appendf(nil, "{\"format\": %d}\n", formatVersion)); err != nil {
		return fmt.Errorf("make an empty store: %w", err)
	}
	return c.fs.Rename(ctx, draft, formatFile)
}

// inDir does what needs one of the store's own directories, and makes that anew
// if somebody has removed it. The directories of definitions and nodes are not
// made: an empty one would say that there are none.
func (c *catalog) inDir(ctx context.Context, dir string, mode fs.FileMode, do func() error) error {
	err := do()
	if !errors.Is(err, fs.ErrNotExist) || c.fs.Mkdir(ctx, dir, mode) != nil {
		return err // it is there, and something else is not
	}
	c.log.Error("a directory of the store was gone, and is made anew, without what was in it", "dir", dir)
	return do()
}

// names lists the volumes that have a definition. It can lack some, when a part
// of the bricks is gone.
func (c *catalog) names(ctx context.Context) ([]string, error) {
	entries, err := c.fs.ReadDir(ctx, definitionDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.definitionsGone()
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name, recordSuffix); ok && CheckName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// readRecord reads a file of the catalog, if it is there.
func (c *catalog) readRecord(ctx context.Context, file string) (record, error) {
	data, err := c.fs.ReadFile(ctx, file)
	if errors.Is(err, fs.ErrInvalid) {
		return record{}, fmt.Errorf("%w: %s is not a file of ours; move it away", ErrDamaged, file)
	}
	if err != nil {
		return record{}, err
	}
	r, err := decodeRecord(data)
	if err != nil {
		return record{}, fmt.Errorf("%w: %s: %w; mend the file, or move it away", ErrDamaged, file, err)
	}
	return r, nil
}

// readDefinition returns a volume's definition, be it that its removal is committed.
func (c *catalog) readDefinition(ctx context.Context, name string) (record, error) {
	r, err := c.readRecord(ctx, definitionFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, ErrNotFound
	}
	if err == nil && r.Name != name {
		return record{}, fmt.Errorf("%w: %s defines %q", ErrDamaged, definitionFile(name), r.Name)
	}
	return r, err
}

// read returns a volume's definition. ErrNotFound is certain: the name was
// looked up, or its removal is committed.
func (c *catalog) read(ctx context.Context, name string) (Definition, error) {
	return c.readUnless(ctx, name, func(d Definition) (bool, error) { return c.exists(ctx, trashFile(d.entry())) })
}

// readUnless is read for who knows in another way what was removed.
func (c *catalog) readUnless(ctx context.Context, name string, isRemoved func(Definition) (bool, error)) (Definition, error) {
	r, err := c.readDefinition(ctx, name)
	if err != nil {
		return Definition{}, err
	}
	removed, err := isRemoved(r.Definition)
	if err != nil {
		return Definition{}, err
	}
	if removed {
		return r.Definition, ErrNotFound
	}
	return r.Definition, nil
}

// find is read for who forgets what is not there: a name in a directory that is
// gone itself says nothing.
func (c *catalog) find(ctx context.Context, name string) (Definition, error) {
	def, err := c.read(ctx, name)
	return c.found(ctx, def, err)
}

type findFunc func(ctx context.Context, name string) (Definition, error)

// finder returns a find for many names, which lists the trash once instead of looking into it
// for each. A listing can lack what a brick that is down has: a volume whose removal is committed, and not
// through yet, may be found then. That is for who remembers, not for who uses.
func (c *catalog) finder(ctx context.Context) (findFunc, error) {
	entries, err := c.fs.ReadDir(ctx, trashDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	records := make(map[string]bool, len(entries))
	for _, e := range entries {
		records[path.Join(trashDir, e.Name)] = true
	}
	return func(ctx context.Context, name string) (Definition, error) {
		def, err := c.readUnless(ctx, name, func(d Definition) (bool, error) { return records[trashFile(d.entry())], nil })
		return c.found(ctx, def, err)
	}, nil
}

func (c *catalog) found(ctx context.Context, def Definition, err error) (Definition, error) {
	if !errors.Is(err, ErrNotFound) {
		return def, err
	}
	if dirErr := c.checkDefinitions(ctx); dirErr != nil {
		return Definition{}, dirErr
	}
	return def, err
}

// checkDefinitions tells whether the directory of all definitions is there.
func (c *catalog) checkDefinitions(ctx context.Context) error {
	there, err := c.exists(ctx, definitionDir)
	if err == nil && !there {
		err = c.definitionsGone()
	}
	return err
}

func (c *catalog) definitionsGone() error {
	return fmt.Errorf("%w: the directory %s is gone, and with it the definitions of all volumes; bring it back", ErrDamaged, definitionDir)
}

func (c *catalog) exists(ctx context.Context, name string) (bool, error) {
	_, err := c.fs.Lstat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeRecord writes a new file of the catalog and returns its inode number.
func (c *catalog) writeRecord(ctx context.Context, file string, r record) (inode uint64, err error) {
	data, err := r.encode()
	if err != nil {
		return 0, err
	}
	return c.fs.Create(ctx, file, data)
}

// create makes a volume: claim the name, see that nobody has it, make the
// directory, and turn the claim into the definition, which it returns. Errors
// match existsError, errClaimed, ErrDamaged.
func (c *catalog) create(ctx context.Context, def Definition, adopt bool) (Definition, error) {
	r := record{Definition: def, By: c.node, Adopt: adopt, begun: sinceBoot()}
	var err error
	if r.inode, err = c.claim(ctx, r); err != nil {
		return Definition{}, err
	}
	if r.made, err = c.makeDir(ctx, r, adopt); err != nil {
		return Definition{}, c.dropClaim(ctx, r, err)
	}
	if err := c.define(ctx, r); err != nil {
		r.made = r.made && !noAnswer(err) // it may come true yet
		return Definition{}, c.dropClaim(ctx, r, err)
	}
	return r.Definition, nil
}

// claim takes the name for r, unless a volume has it, and returns the claim's
// inode number.
func (c *catalog) claim(ctx context.Context, r record) (inode uint64, err error) {
	inode, err = c.writeRecord(ctx, claimFile(r.Name), r)
	if errors.Is(err, fs.ErrExist) {
		return 0, errClaimed
	}
	if err != nil {
		return 0, c.dropClaim(ctx, r, err)
	}
	// The look comes behind the claim: of two creators, one sees the other.
	existing, err := c.read(ctx, r.Name)
	switch {
	case err == nil:
		return 0, c.dropClaim(ctx, r, existsError{existing})
	case existing.ID != "": // a removal was committed, and is not finished
		return 0, c.dropClaim(ctx, r, errRemoving)
	case !errors.Is(err, ErrNotFound):
		return 0, c.dropClaim(ctx, r, err)
	}
	return inode, nil
}

// cleanUpTime is for taking back an operation whose own time may be over.
const cleanUpTime = 5 * time.Second

// dropClaim takes back a claim, with the directory that was made under it, and
// returns the reason, err. A claim that it cannot take back is settled later.
func (c *catalog) dropClaim(ctx context.Context, r record, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if mine, readErr := c.readRecord(ctx, claimFile(r.Name)); readErr == nil && mine.ID == r.ID {
		if r.made {
			_ = c.fs.Remove(ctx, r.Dir())
		}
		_ = c.fs.Remove(ctx, claimFile(r.Name))
	}
	return err
}

// makeDir makes the volume's directory with owner and mode. made tells that it
// was not there before, and may be now even if making it failed.
func (c *catalog) makeDir(ctx context.Context, r record, mayExist bool) (made bool, err error) {
	if err := r.late(); err != nil {
		return false, err
	}
	if err := c.makeParents(ctx, r.Definition); err != nil {
		return false, fmt.Errorf("make the volume's directory: %w", err)
	}
	mkdir := func() error { return c.fs.Mkdir(ctx, r.Dir(), r.Options.fileMode(0o755)) }
	if r.ownDir() {
		err = c.inDir(ctx, dataDir, 0o755, mkdir)
	} else {
		err = mkdir()
	}
	switch {
	case err == nil:
		return true, c.chown(ctx, r.Definition)
	case !errors.Is(err, fs.ErrExist):
		return true, fmt.Errorf("make the volume's directory: %w", err)
	case r.ownDir() && !mayExist:
		return false, fmt.Errorf("directory %s is on the store without a volume; take it over with '-o adopt=true', or move it away", r.Dir())
	default:
		return false, c.adoptDir(ctx, r.Definition)
	}
}

// makeParents makes the directories on the way to a volume's own that are not there.
func (c *catalog) makeParents(ctx context.Context, def Definition) error {
	parts := strings.Split(path.Dir(def.Dir()), "/")
	for i := range parts {
		if def.ownDir() || parts[i] == "." {
			continue
		}
		parent := path.Join(parts[:i+1]...)
		err := c.fs.Mkdir(ctx, parent, 0o755)
		if errors.Is(err, fs.ErrExist) {
			_, err = c.directory(ctx, parent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// directory looks up a directory. A symlink, which a container may have put
// there, is none.
func (c *catalog) directory(ctx context.Context, name string) (gluster.Info, error) {
	info, err := c.fs.Lstat(ctx, name)
	if err == nil && !info.Mode.IsDir() {
		err = fmt.Errorf("%s on the store is not a directory", name)
	}
	return info, err
}

// adoptDir takes a directory that is there, and changes of it only what was
// asked for.
func (c *catalog) adoptDir(ctx context.Context, def Definition) error {
	info, err := c.directory(ctx, def.Dir())
	if err != nil {
		return err
	}
	if err := c.chown(ctx, def); err != nil {
		return err
	}
	if mode := def.Options.fileMode(info.Mode); mode != info.Mode {
		return c.fs.Chmod(ctx, def.Dir(), mode)
	}
	return nil
}

func (c *catalog) chown(ctx context.Context, def Definition) error {
	uid, gid := -1, -1
	if def.Options.UID != nil {
		uid = *def.Options.UID
	}
	if def.Options.GID != nil {
		gid = *def.Options.GID
	}
	if uid == -1 && gid == -1 {
		return nil
	}
	if err := c.fs.Chown(ctx, def.Dir(), uid, gid); err != nil {
		return fmt.Errorf("set the owner of the volume's directory: %w", err)
	}
	if mode := def.Options.fileMode(0); mode&fs.ModeSetgid != 0 { // chown took it off
		return c.fs.Chmod(ctx, def.Dir(), mode)
	}
	return nil
}

// define turns a claim into the definition. Whether that worked is told by
// what is there afterwards: the rename's own error may be a lost answer, and
// its success may have been with a claim that came after ours was settled.
func (c *catalog) define(ctx context.Context, r record) error {
	defer c.news.changed(r.Name)
	renameErr := c.fs.Rename(ctx, claimFile(r.Name), definitionFile(r.Name))
	if renameErr == nil && c.unchanged(ctx, r.Definition) {
		return nil
	}
	existing, err := c.read(ctx, r.Name)
	switch {
	case err == nil && existing.ID == r.ID:
		return nil
	case err == nil:
		return existsError{existing}
	case renameErr == nil && errors.Is(err, ErrNotFound):
		return nil // it was defined, and somebody has removed it since
	case renameErr != nil:
		return fmt.Errorf("define the volume: %w", renameErr)
	default:
		return fmt.Errorf("define the volume: %w", err)
	}
}

// unchanged tells, for one look-up, that the definition is the very file that
// def is from.
func (c *catalog) unchanged(ctx context.Context, def Definition) bool {
	if def.inode == 0 {
		return false
	}
	info, err := c.fs.Lstat(ctx, definitionFile(def.Name))
	return err == nil && info.Inode == def.inode
}

// remove commits a removal with one rename and moves the data to the trash,
// unless it is to stay where it is. inUse is asked behind the tombstone; its
// error refuses the removal.
func (c *catalog) remove(ctx context.Context, def Definition, keepData bool, inUse func(context.Context) error) error {
	keepData = keepData || !def.ownDir() || def.Options.OnRemove == Retain
	r := record{Definition: def, By: c.node, Removed: new(time.Now().UTC()), KeepData: keepData, begun: sinceBoot()}
	number, err := c.members.join(ctx)
	if err != nil {
		return err
	}
	file := tombstoneFile(r.entry(), number)
	err = c.inDir(ctx, tombstoneDir, 0o700, func() error {
		_, err := c.writeRecord(ctx, file, r)
		return err
	})
	if errors.Is(err, fs.ErrExist) { // an earlier session of this node has left it
		return errRemoving
	}
	if err == nil {
		err = c.lookRemoved(ctx, def, number, inUse)
	}
	if err != nil {
		return c.dropTombstone(ctx, file, err)
	}
	commit := func() error { return c.fs.Rename(ctx, file, trashFile(r.entry())) }
	if err := c.inDir(ctx, trashDir, 0o700, commit); err != nil && !c.committed(ctx, r, err) {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("another node has taken it back, since it stood still for %s; try again (%w)", tombstonePatience, err)
		}
		return c.dropTombstone(ctx, file, fmt.Errorf("commit the removal: %w", err))
	}
	return c.finishRemoval(ctx, r)
}

// committed tells whether a removal whose commit has failed is committed all the
// same: the answer may have been lost. A record of another's is not enough, for
// who has made that goes on with it.
func (c *catalog) committed(ctx context.Context, r record, err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	there, readErr := c.readRecord(ctx, trashFile(r.entry()))
	return readErr == nil && there.By == r.By
}

// lookRemoved is what comes behind the tombstone of the node with that number.
func (c *catalog) lookRemoved(ctx context.Context, def Definition, number int, inUse func(context.Context) error) error {
	var others othersUse
	err := c.ofEachMember(ctx, func(ctx context.Context, one member) error {
		if one.number == number {
			return nil
		}
		return c.together(ctx,
			func(ctx context.Context) error { return c.lookTombstone(ctx, def, one, &others) },
			func(ctx context.Context) error { return c.lookHolder(ctx, def, one, &others) })
	})
	if others.removing.Load() { // two who remove would finish it both, one of them too late
		return errRemoving
	}
	if err == nil {
		err = c.defines(ctx, def)
	}
	if err == nil {
		err = inUse(ctx)
	}
	if err == nil && len(others.holders) > 0 {
		err = &InUseError{Volume: def.Name, Holders: others.sorted()}
	}
	return err
}

// defines tells whether the volume is still the one that def says, with
// ErrNotFound if not. The trash comes first: a definition goes before the record
// in the trash does, so that what is in neither has not just been restored.
func (c *catalog) defines(ctx context.Context, def Definition) error {
	removed, err := c.exists(ctx, trashFile(def.entry()))
	if err != nil {
		return err
	}
	if removed {
		return ErrNotFound
	}
	if c.unchanged(ctx, def) {
		return nil
	}
	existing, err := c.readDefinition(ctx, def.Name)
	if err == nil && existing.ID != def.ID {
		return fmt.Errorf("%w: it was removed, and created anew", ErrNotFound)
	}
	return err
}

// dropTombstone takes back a removal that is not committed and returns the
// reason, err. A tombstone that it cannot take back is settled later.
func (c *catalog) dropTombstone(ctx context.Context, file string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_ = c.removeIfThere(ctx, file)
	return err
}

// finishRemoval does what is left behind the commit: the data goes to the
// trash, then the definition goes, and with it the name is free. Each step may
// have been done before.
func (c *catalog) finishRemoval(ctx context.Context, r record) error {
	if !r.KeepData {
		if err := r.late(); err != nil {
			return err
		}
		err := c.fs.Rename(ctx, r.Dir(), trashData(r.entry()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("move the data of %s to the trash: %w", r.Name, err)
		}
	}
	if err := r.late(); err != nil { // the name may be another's
		return err
	}
	defer c.news.changed(r.Name)
	if err := c.removeIfThere(ctx, definitionFile(r.Name)); err != nil {
		return err
	}
	if r.KeepData {
		return c.removeIfThere(ctx, trashFile(r.entry()))
	}
	return nil
}

func (c *catalog) removeIfThere(ctx context.Context, name string) error {
	if err := c.fs.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
