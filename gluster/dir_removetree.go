package gluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// RemoveTree implements FS.
func (d *Dir) RemoveTree(ctx context.Context, name string, removed func(n int)) error {
	if removed == nil {
		removed = func(int) {}
	}
	parent, err := call(ctx, d.calls, "open", name, func() (*os.File, error) {
		return d.openNoFollow(path.Dir(name), unix.O_DIRECTORY)
	})
	if err != nil {
		return err
	}
	defer parent.Close()
	r := treeRemover{ctx: ctx, calls: d.calls, removed: removed}
	if err := r.tree(parent, path.Base(name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// treeRemover removes trees by directory descriptors: each step names one
// entry of a directory that it holds open, so that no rename or symlink made
// meanwhile by somebody else leads it anywhere else.
type treeRemover struct {
	ctx     context.Context
	calls   calls
	removed func(n int)
}

const (
	// maxDepth bounds the open descriptors. A deeper directory is moved up to
	// the top of the tree first, where it is shallow again.
	maxDepth = 100
	// batch is how many names are read and removed in one call.
	batch = 256
)

// tree removes the directory name of parent.
func (r treeRemover) tree(parent *os.File, name string) error {
	top, err := r.open(parent, name)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := r.contents(top, top, maxDepth); err != nil {
		return err
	}
	return r.remove(parent, name, unix.AT_REMOVEDIR)
}

// open opens a directory of parent; it refuses symlinks and mount points.
func (r treeRemover) open(parent *os.File, name string) (*os.File, error) {
	return call(r.ctx, r.calls, "open", name, func() (*os.File, error) {
		fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	})
}

func (r treeRemover) remove(parent *os.File, name string, flags int) error {
	return do(r.ctx, r.calls, "remove", name, func() error {
		err := unix.Unlinkat(int(parent.Fd()), name, flags)
		if err == nil {
			r.removed(1)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	})
}

// contents empties dir, which lies in top. What it finds too deep it moves up
// into top, whose own loop finds it there.
func (r treeRemover) contents(top, dir *os.File, depth int) error {
	for {
		entries, err := r.batch(dir)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if !e.Dir {
				continue
			}
			if err := r.directory(top, dir, e.Name, depth); err != nil {
				return err
			}
		}
	}
}

// batch removes the next files of dir and returns what else it met: the
// directories. It starts at the beginning each time, since an offset into a
// directory that shrinks would jump over names. No entry at all: dir is empty.
func (r treeRemover) batch(dir *os.File) ([]Entry, error) {
	return call(r.ctx, r.calls, "readdir", dir.Name(), func() ([]Entry, error) {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		list, err := dir.ReadDir(batch)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		entries := make([]Entry, 0, len(list))
		files := 0
		defer func() { r.removed(files) }()
		for _, e := range list {
			entry := Entry{Name: e.Name(), Dir: e.IsDir()}
			if !entry.Dir {
				var n int
				if n, entry.Dir, err = unlink(dir, entry.Name); err != nil {
					return nil, err
				}
				files += n
			}
			entries = append(entries, entry)
			if r.ctx.Err() != nil {
				return nil, context.Cause(r.ctx)
			}
		}
		return entries, nil
	})
}

// unlink removes a file, unless somebody else has, and tells how many are gone by it.
// A listing's type is a hint: isDir tells that the name is a directory after all.
func unlink(dir *os.File, name string) (removed int, isDir bool, err error) {
	err = unix.Unlinkat(int(dir.Fd()), name, 0)
	switch {
	case err == nil:
		return 1, false, nil
	case errors.Is(err, fs.ErrNotExist):
		return 0, false, nil
	case errors.Is(err, unix.EISDIR):
		return 0, true, nil
	default:
		return 0, false, &fs.PathError{Op: "remove", Path: name, Err: err}
	}
}

// directory removes one directory of dir, or hoists it when it lies too deep.
func (r treeRemover) directory(top, dir *os.File, name string, depth int) error {
	if depth == 0 {
		return r.hoist(top, dir, name)
	}
	sub, err := r.open(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := r.contents(top, sub, depth-1); err != nil {
		return err
	}
	return r.remove(dir, name, unix.AT_REMOVEDIR)
}

// hoist moves a directory to a free name at the top of the tree.
func (r treeRemover) hoist(top, dir *os.File, name string) error {
	return do(r.ctx, r.calls, "rename", name, func() error {
		for i := 0; ; i++ {
			free := fmt.Sprintf(".glustervol-purge-%d", i)
			err := unix.Renameat2(int(dir.Fd()), name, int(top.Fd()), free, 0)
			if err == nil {
				return nil
			}
			if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOTDIR) {
				return &fs.PathError{Op: "rename", Path: name, Err: err}
			}
		}
	})
}
