package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
)

// settle finishes or takes back what crashed drivers have left under way, as
// far as this node can tell: its own earlier sessions' leftovers at once,
// another node's when they have not changed for c.patience. lock keeps this
// process's own operations on a name out meanwhile; ok is false when one is
// under way, and then its files are no leftovers.
func (c *catalog) settle(ctx context.Context, lock func(name string) (unlock func(), ok bool)) error {
	leftovers, err := c.leftovers(ctx)
	if err != nil {
		return err
	}
	c.forget(leftovers)
	return c.settleAll(ctx, leftovers, lock)
}

// settleName is settle for one name, which the caller holds. It lists neither the volumes
// nor the trash, of which there may be thousands.
func (c *catalog) settleName(ctx context.Context, name string) error {
	leftovers, err := c.leftoversOf(ctx, name)
	if err != nil {
		return err
	}
	return c.settleAll(ctx, leftovers, func(string) (func(), bool) { return func() {}, true })
}

func (c *catalog) settleAll(ctx context.Context, leftovers map[string]string, lock func(name string) (unlock func(), ok bool)) error {
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(leftovers)) {
		if unlock, ok := lock(leftovers[file]); ok {
			errs = append(errs, c.settleFile(ctx, file))
			unlock()
		}
	}
	return errors.Join(errs...)
}

// whileUnderWay repeats an operation on a name while another one on the same
// name is under way elsewhere, or was left by a crash and has to be settled.
// The caller holds the name.
func (c *catalog) whileUnderWay(ctx context.Context, name string, operation func() error) error {
	var other error // the one that was met last
	for pause := underWayPause; ; pause = min(2*pause, retryPause) {
		err := operation()
		underWay := errors.Is(err, errClaimed) || errors.Is(err, errRemoving)
		if underWay {
			other = err
			err = c.settleName(ctx, name)
		}
		switch {
		case err != nil && other != nil && ctx.Err() != nil:
			// The text alone: by its kind, it would be the store that did not answer.
			return fmt.Errorf("%w, and does not end (%s)", other, context.Cause(ctx).Error())
		case !underWay:
			return err
		case err != nil:
			return errors.Join(other, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)): // two that make way for each other do not meet again
		}
	}
}

// underWayPause is how long to leave another node's operation alone at first.
const underWayPause = 50 * time.Millisecond

// leftovers are the files, by path, that are there only while an operation is
// under way, or may be left of one, with the name of their volume.
func (c *catalog) leftovers(ctx context.Context) (map[string]string, error) {
	files := map[string]string{}
	for _, dir := range []string{definitionDir, tombstoneDir, trashDir} {
		entries, err := c.fs.ReadDir(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) && dir != definitionDir { // it is made anew when it is needed
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if name, ok := leftoverOf(dir, e.Name); ok {
				files[path.Join(dir, e.Name)] = name
			}
		}
	}
	return files, nil
}

// leftoversOf are those that keep a name from being used: a claim, tombstones, and the
// record of a removal that is not through, whose definition is still there.
func (c *catalog) leftoversOf(ctx context.Context, name string) (map[string]string, error) {
	files := map[string]string{claimFile(name): name}
	entries, err := c.fs.ReadDir(ctx, tombstoneDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if of, ok := leftoverOf(tombstoneDir, e.Name); ok && of == name {
			files[path.Join(tombstoneDir, e.Name)] = name
		}
	}
	r, err := c.readRecord(ctx, definitionFile(name))
	switch {
	case err == nil:
		files[trashFile(r.entry())] = name
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged):
		return nil, err
	}
	return files, nil
}

func leftoverOf(dir, file string) (name string, ok bool) {
	if dir == definitionDir {
		name, ok = strings.CutSuffix(strings.TrimPrefix(file, "."), claimSuffix)
		return name, ok && CheckName(name) == nil
	}
	entry, found := strings.CutSuffix(file, recordSuffix)
	switch {
	case dir == tombstoneDir: // ENTRY.N
		entry = entry[:max(strings.LastIndexByte(entry, '.'), 0)]
	case !found:
		entry, _ = parseRestoring(file)
	}
	name, err := parseEntry(entry)
	return name, err == nil
}

// forget drops the first sightings of what is gone.
func (c *catalog) forget(there map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.through, func(file string, _ bool) bool { return there[file] == "" })
	for key := range c.seen {
		if file, _, _ := strings.Cut(key, "\x00"); there[file] == "" {
			delete(c.seen, key)
		}
	}
}

func (c *catalog) settleFile(ctx context.Context, file string) error {
	var err error
	switch {
	case strings.HasSuffix(file, claimSuffix):
		err = c.settleClaim(ctx, file)
	case path.Dir(file) == tombstoneDir:
		err = c.settleTombstone(ctx, file)
	case strings.HasSuffix(file, restoringSuffix):
		err = c.settleRestoring(ctx, file)
	default:
		err = c.settleTrashed(ctx, file)
	}
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle %s: %w", file, err)
	}
	return nil
}

// tornPatience is how long a file that breaks off has to be unchanged before
// it is taken for a write that was never finished. Its writer, should it live,
// finds it gone and fails without harm.
const tornPatience = 3 * time.Second

// abandoned tells whether who wrote r has died on the way.
func (c *catalog) abandoned(file string, r record) bool {
	if r.By.ID == c.node.ID && r.ID != "" {
		return true // nobody in this process works on it: the caller holds the name
	}
	patience := c.patience
	if path.Dir(file) == tombstoneDir {
		patience = min(patience, c.tombstonePatience)
	}
	if r.ID == "" {
		patience = min(patience, tornPatience)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := file + "\x00" + r.ID
	first, known := c.seen[key]
	if !known {
		c.seen[key] = time.Now()
		return patience <= 0
	}
	return time.Since(first) >= patience
}

// settleClaim finishes an abandoned creation or restoration, or takes it back
// when it had not begun, or is known to have failed.
func (c *catalog) settleClaim(ctx context.Context, file string) error {
	r, err := c.readRecord(ctx, file)
	if err == nil && file != claimFile(r.Name) {
		err = fmt.Errorf("%w: %s claims %q", ErrDamaged, file, r.Name)
	}
	if errors.Is(err, ErrDamaged) {
		if !c.abandoned(file, record{}) {
			return nil
		}
		return c.removeIfThere(ctx, file) // nothing else was made before it was whole
	}
	if err != nil || !c.abandoned(file, r) {
		return err
	}
	r.begun = sinceBoot()
	existing, err := c.read(ctx, r.Name)
	if err == nil || existing.ID != "" { // the name was taken before the claim
		return c.removeIfThere(ctx, file)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if r.By.ID == c.node.ID && r.By.Session == c.node.Session {
		return c.takeBackClaim(ctx, file, r)
	}
	if r.Restores != "" {
		return c.settleRestore(ctx, file, r)
	}
	return c.settleCreate(ctx, file, r)
}

// takeBackClaim takes back what this very process has begun: who asked for it was
// told that it failed. The claim may have been written long behind that, when a store
// that had not answered did, and even behind the volume's later life and removal.
func (c *catalog) takeBackClaim(ctx context.Context, file string, r record) error {
	if r.Restores != "" {
		taken, err := c.exists(ctx, restoringFile(r))
		if err != nil {
			return err
		}
		if taken { // there is no way back
			return c.settleRestore(ctx, file, r)
		}
	} else if r.ownDir() && !r.Adopt {
		_ = c.fs.Remove(ctx, r.Dir()) // which it does if the directory is empty: else it is not the claim's
	}
	return c.removeIfThere(ctx, file)
}

func (c *catalog) settleCreate(ctx context.Context, file string, r record) error {
	made, err := c.madeByClaim(ctx, r)
	if err != nil {
		return err
	}
	if !made {
		return c.removeIfThere(ctx, file)
	}
	if _, err := c.makeDir(ctx, r, true); err != nil {
		return err
	}
	return c.define(ctx, r)
}

// madeByClaim tells a directory that the creator may have made, which is empty
// or not there, from one that was there before.
func (c *catalog) madeByClaim(ctx context.Context, r record) (bool, error) {
	if r.Adopt || !r.ownDir() {
		return true, nil
	}
	entries, err := c.fs.ReadDir(ctx, r.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

func (c *catalog) settleRestore(ctx context.Context, file string, r record) error {
	if _, err := parseEntry(r.Restores); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, file, err)
	}
	taken, err := c.exists(ctx, restoringFile(r))
	if err == nil && !taken {
		// Not taken back, since who claimed may wake up and go on.
		err = c.fs.Rename(ctx, trashFile(r.Restores), restoringFile(r))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c.removeIfThere(ctx, file) // somebody else has restored or purged it
	}
	if err != nil {
		return err
	}
	return c.finishRestore(ctx, r)
}

// settleTombstone takes back a removal that was not committed.
func (c *catalog) settleTombstone(ctx context.Context, file string) error {
	r, err := c.readRecord(ctx, file)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if !c.abandoned(file, r) {
		return nil
	}
	return c.removeIfThere(ctx, file)
}

// settleTrashed finishes a removal that was committed. One that is through stays so, since
// no other volume gets its id: thousands may wait for the purge, and are read once.
func (c *catalog) settleTrashed(ctx context.Context, file string) error {
	if c.isThrough(file) {
		return nil
	}
	r, err := c.readRecord(ctx, file)
	if err != nil {
		return err
	}
	if file != trashFile(r.entry()) {
		return fmt.Errorf("%w: %s describes something else", ErrDamaged, file)
	}
	existing, err := c.readRecord(ctx, definitionFile(r.Name))
	defined := err == nil && existing.ID == r.ID
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !defined && !r.KeepData {
		c.setThrough(file)
		return nil
	}
	if !c.abandoned(file, r) {
		return nil
	}
	if !defined {
		return c.removeIfThere(ctx, file)
	}
	r.begun = sinceBoot()
	return c.finishRemoval(ctx, r)
}

func (c *catalog) isThrough(file string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.through[file]
}

func (c *catalog) setThrough(file string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.through[file] = true
}

// settleRestoring clears the mark of a restoration whose claim is gone: it was
// finished, or has not moved the data and the entry goes back to the trash.
func (c *catalog) settleRestoring(ctx context.Context, file string) error {
	entry, id := parseRestoring(path.Base(file))
	// The claim is there before the mark, and goes when the data has moved.
	claimed, err := c.claimed(ctx, id)
	if err != nil || claimed {
		return err
	}
	there, err := c.exists(ctx, trashData(entry))
	if err != nil {
		return err
	}
	if !there {
		return c.removeIfThere(ctx, file)
	}
	return c.fs.Rename(ctx, file, trashFile(entry))
}

// claimed tells whether a volume with this id is being made, under whatever name.
func (c *catalog) claimed(ctx context.Context, id string) (bool, error) {
	leftovers, err := c.leftovers(ctx)
	if err != nil {
		return false, err
	}
	for file := range leftovers {
		if !strings.HasSuffix(file, claimSuffix) {
			continue
		}
		r, err := c.readRecord(ctx, file)
		if err == nil && r.ID == id || errors.Is(err, ErrDamaged) {
			return true, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}
