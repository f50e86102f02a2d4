package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Trashed is a removed volume that waits for the purge.
type Trashed struct {
	// Entry names it in the trash: NAME.ID.
	Entry string `json:"entry"`
	Name  string `json:"name"`
	// Store is the address of the store that it is on.
	Store string `json:"store"`
	// Created and Removed are by the clocks of the nodes that did it.
	Created time.Time `json:"created"`
	Removed time.Time `json:"removed"`
	// Purging tells that its data is going; it cannot be restored any more.
	Purging bool `json:"purging,omitempty"`
	// purgeAtOnce is on-remove=delete.
	purgeAtOnce bool
}

// ErrNotInTrash says that the trash has no such entry.
var ErrNotInTrash = errors.New("no such entry in the trash; 'glustervol trash ls' lists them")

// parseEntry checks an entry's name and returns that of the volume.
func parseEntry(entry string) (name string, err error) {
	i := strings.LastIndexByte(entry, '.')
	if i < 0 || CheckName(entry[:i]) != nil || !validID.MatchString(entry[i+1:]) {
		return "", fmt.Errorf("%q: %w", entry, ErrNotInTrash)
	}
	return entry[:i], nil
}

// trash lists what can be restored or is being purged. Damaged records are
// left out and returned as errors. The records of known entries are not read again:
// they do not change.
func (c *catalog) trash(ctx context.Context, known map[string]Trashed) (list []Trashed, damaged []error, err error) {
	entries, err := c.fs.ReadDir(ctx, trashDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fmt.Errorf("%w: the directory %s is gone; bring it back, or the next removal makes an empty one", ErrDamaged, trashDir)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		entry, restorable := strings.CutSuffix(e.Name, recordSuffix)
		if !restorable {
			var purging bool
			if entry, purging = strings.CutSuffix(e.Name, purgingSuffix); !purging {
				continue
			}
		}
		t, read := known[entry]
		var err error
		if !read {
			t, err = c.trashed(ctx, e.Name, entry)
		}
		switch {
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, err)
		case errors.Is(err, fs.ErrNotExist): // restored or purged meanwhile
		case err != nil:
			return nil, nil, err
		default:
			t.Purging = !restorable
			list = append(list, t)
		}
	}
	return list, damaged, nil
}

func (c *catalog) trashed(ctx context.Context, file, entry string) (Trashed, error) {
	r, err := c.readRecord(ctx, trashDir+"/"+file)
	if err != nil {
		return Trashed{}, err
	}
	if r.entry() != entry || r.Removed == nil {
		return Trashed{}, fmt.Errorf("%w: %s/%s describes something else", ErrDamaged, trashDir, file)
	}
	return Trashed{
		Entry: entry, Name: r.Name, Created: r.Created, Removed: *r.Removed,
		purgeAtOnce: r.Options.OnRemove == Delete,
	}, nil
}

// restore brings an entry back as a volume, under its own or another name: claim
// the name, take the entry, move the data, turn the claim into the definition.
func (c *catalog) restore(ctx context.Context, entry, name string) (Definition, error) {
	old, err := c.readRecord(ctx, trashFile(entry))
	if errors.Is(err, fs.ErrNotExist) {
		return Definition{}, fmt.Errorf("%q: %w", entry, ErrNotInTrash)
	}
	if err != nil {
		return Definition{}, err
	}
	if err := c.checkFinished(ctx, old); err != nil {
		return Definition{}, err
	}
	def := old.Definition
	def.Name, def.ID = name, NewID()
	r := record{Definition: def, By: c.node, Restores: entry, begun: sinceBoot()}
	if r.inode, err = c.claim(ctx, r); err != nil {
		return Definition{}, err
	}
	if err := c.checkFree(ctx, r); err != nil {
		return Definition{}, c.dropClaim(ctx, r, err)
	}
	if err := c.fs.Rename(ctx, trashFile(entry), restoringFile(r)); err != nil {
		err = fmt.Errorf("take %s out of the trash: %w", entry, err)
		if taken, lookErr := c.exists(ctx, restoringFile(r)); lookErr != nil {
			return Definition{}, err // whether it is taken is for settle to see
		} else if !taken {
			return Definition{}, c.dropClaim(ctx, r, err)
		}
	}
	return r.Definition, c.finishRestore(ctx, r)
}

// checkFinished wants a removal that is committed to be through, with errRemoving
// if not: who works on it must not find its record gone.
func (c *catalog) checkFinished(ctx context.Context, r record) error {
	existing, err := c.readRecord(ctx, definitionFile(r.Name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && existing.ID == r.ID:
		return errRemoving
	}
	return err
}

// restoringFile marks that the restoration r has taken its entry.
func restoringFile(r record) string { return trashData(r.Restores) + "." + r.ID + restoringSuffix }

// parseRestoring tells from the name of such a file the entry and the id of the
// volume that it becomes. Of any other name, the entry is "".
func parseRestoring(file string) (entry, id string) {
	mark, found := strings.CutSuffix(file, restoringSuffix)
	i := strings.LastIndexByte(mark, '.')
	if !found || i < 0 || !validID.MatchString(mark[i+1:]) {
		return "", ""
	}
	return mark[:i], mark[i+1:]
}

// checkFree refuses to put a volume over a directory that nobody has defined.
func (c *catalog) checkFree(ctx context.Context, r record) error {
	taken, err := c.exists(ctx, r.Dir())
	if taken {
		return fmt.Errorf("directory %s is on the store without a volume; restore under another name, or move it away", r.Dir())
	}
	return err
}

// finishRestore does what is left once the entry is taken. The data may have
// been moved before.
func (c *catalog) finishRestore(ctx context.Context, r record) error {
	if err := r.late(); err != nil {
		return err
	}
	err := c.fs.Rename(ctx, trashData(r.Restores), r.Dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move the data of %s out of the trash: %w", r.Name, err)
	}
	if err := c.define(ctx, r); err != nil {
		return err
	}
	return c.removeIfThere(ctx, restoringFile(r))
}

// purge removes an entry's data for good. Its first rename takes the entry, so
// that nobody restores half of it; a purge that was interrupted goes on. It
// calls removed as gluster.FS.RemoveTree does.
func (c *catalog) purge(ctx context.Context, entry string, removed func(n int)) error {
	if _, err := parseEntry(entry); err != nil {
		return err
	}
	mark := trashData(entry) + purgingSuffix
	r, err := c.readRecord(ctx, trashFile(entry))
	if err == nil {
		err = c.checkFinished(ctx, r)
	}
	if err == nil {
		err = c.fs.Rename(ctx, trashFile(entry), mark)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if marked, lookErr := c.exists(ctx, mark); !marked {
			return errors.Join(lookErr, fmt.Errorf("%q: %w", entry, ErrNotInTrash))
		}
	} else if err != nil {
		return err
	}
	if err := c.fs.RemoveTree(ctx, trashData(entry), removed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.removeIfThere(ctx, mark)
}
