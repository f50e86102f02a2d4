package gluster

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/glustervol/glustervol/gluster/gfapi"
)

// RemoveTree implements FS. Directories are gone through by handle, a name at a
// time, and libgfapi follows no symlink there. A Gluster volume has no mount
// points in it.
func (a *API) RemoveTree(ctx context.Context, name string, removed func(n int)) error {
	if removed == nil {
		removed = func(int) {}
	}
	return a.in(ctx, "remove tree", name, func(parent *gfapi.Object, base string) error {
		// Another node may remove the same tree.
		return onObject(parent, base, func(tree *gfapi.Object, stat gfapi.Stat) error {
			if !fileMode(stat.Mode).IsDir() {
				return fs.ErrInvalid
			}
			if err := empty(ctx, tree, removed); err != nil {
				return err
			}
			return unlinkName(parent, base, removed)
		})
	})
}

// empty removes what is in a directory. It reads from the beginning each time,
// since a listing that is shortened meanwhile lacks names.
func empty(ctx context.Context, dir *gfapi.Object, removed func(int)) error {
	for {
		entries, err := list(dir, batch)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !e.Dir {
				continue
			}
			if err := emptyName(ctx, dir, e.Name, removed); err != nil {
				return err
			}
		}
		if err := unlinkNames(ctx, dir, entries, removed); err != nil {
			return err
		}
	}
}

// unlinksAtOnce is how many names of a directory are removed at the same time: libgfapi looks
// each up before, and waits for the bricks most of the time.
const unlinksAtOnce = 4

// unlinkNames removes files, and directories that are empty by now. The first error ends it.
func unlinkNames(ctx context.Context, dir *gfapi.Object, entries []Entry, removed func(int)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(unlinksAtOnce)
	for _, e := range entries {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return unlinkName(dir, e.Name, removed)
		})
	}
	return group.Wait()
}

// emptyName empties what was listed as a directory, if it still is one.
func emptyName(ctx context.Context, parent *gfapi.Object, name string, removed func(int)) error {
	dir, stat, err := parent.Lookup(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fileMode(stat.Mode).IsDir() {
		err = empty(ctx, dir, removed)
	}
	return errors.Join(err, dir.Close())
}

// unlinkName removes a name, whatever it is by now: libgfapi remembers what it
// was, until it is looked up again.
func unlinkName(parent *gfapi.Object, name string, removed func(int)) error {
	err := parent.Unlink(name)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		object, _, lookupErr := parent.Lookup(name)
		if lookupErr != nil {
			return lookupErr
		}
		err = errors.Join(object.Close(), parent.Unlink(name))
	}
	if err == nil {
		removed(1)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
