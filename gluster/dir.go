package gluster

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is an FS on a directory of this machine: a mounted Gluster volume, or
// plain disk in tests. For the promise of FS that nothing is cached, the mount
// needs attribute-timeout, entry-timeout and negative-timeout 0.
type Dir struct {
	root  *os.Root
	calls calls
}

var _ FS = (*Dir)(nil)

// OpenDir opens a directory as an FS. It stays on the directory that it opened:
// when a file system is mounted over it, or its client dies, open a new one.
func OpenDir(ctx context.Context, path string) (*Dir, error) {
	c := newCalls()
	root, err := call(ctx, c, "open", path, func() (*os.Root, error) { return os.OpenRoot(path) })
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, calls: c}, nil
}

// Close lets go of the directory, so that its file system can be unmounted. It
// waits a moment for calls that their callers have left; one that hangs in the
// kernel keeps the file system busy.
func (d *Dir) Close() error {
	d.calls.awaitIdle(closePatience)
	return d.root.Close()
}

// closePatience is how long calls that were left may take until they are through.
const closePatience = time.Second

// Mkdir implements FS.
func (d *Dir) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	return do(ctx, d.calls, "mkdir", name, func() error {
		if err := d.root.Mkdir(name, mode.Perm()); err != nil {
			return err
		}
		// mkdir(2) takes the umask off, and does not set setgid.
		info, err := d.root.Lstat(name)
		if err != nil || info.Mode() == mode|fs.ModeDir {
			return err
		}
		return d.root.Chmod(name, mode)
	})
}

// Create implements FS.
func (d *Dir) Create(ctx context.Context, name string, data []byte) (inode uint64, err error) {
	return call(ctx, d.calls, "create", name, func() (uint64, error) {
		f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return 0, err
		}
		_, err = f.Write(data)
		info, statErr := f.Stat()
		if len(data) > 0 {
			err = errors.Join(err, f.Sync())
		}
		if err = errors.Join(err, statErr, f.Close()); err != nil {
			_ = d.root.Remove(name) // half a file is worse than none
			return 0, err
		}
		stat, err := statOf(info)
		if err != nil {
			return 0, err
		}
		return stat.Ino, nil
	})
}

// statOf is what the kernel tells of a file.
func statOf(info fs.FileInfo) (*syscall.Stat_t, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: info.Name(), Err: errors.ErrUnsupported}
	}
	return stat, nil
}

// onName calls fn, which uses what a name stands for. It has the errors of package
// os.
func (d *Dir) onName(op, name string, fn func() error) error {
	err := settled(func() (found bool, err error) {
		if err = fn(); errors.Is(err, fs.ErrNotExist) {
			_, lookUpErr := d.root.Lstat(name)
			return lookUpErr == nil, err
		}
		return true, err
	})
	return ofName(op, name, err)
}

// ofName gives an error of settled's own the operation and the name.
func ofName(op, name string, err error) error {
	if errors.Is(err, errReplaced) {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return err
}

// ReadFile implements FS.
func (d *Dir) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return call(ctx, d.calls, "read", name, func() (data []byte, err error) {
		err = d.onName("read", name, func() error {
			data, err = d.readNow(name)
			return err
		})
		return data, err
	})
}

func (d *Dir) readNow(name string) ([]byte, error) {
	f, err := d.openNoFollow(name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkRegular(f, name); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, MaxFileSize))
}

func checkRegular(f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxFileSize {
		return &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// openNoFollow opens what is there, never what a symlink of that name points
// to, and does not wait for a writer on a FIFO that somebody put there.
func (d *Dir) openNoFollow(name string, flags int) (*os.File, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type()&fs.ModeSymlink != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
}

// ReadDir implements FS.
func (d *Dir) ReadDir(ctx context.Context, name string) ([]Entry, error) {
	return call(ctx, d.calls, "readdir", name, func() ([]Entry, error) {
		f, err := d.openNoFollow(name, unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		list, err := f.ReadDir(-1)
		if err != nil {
			return nil, err
		}
		entries := make([]Entry, 0, len(list))
		for _, e := range list {
			entries = append(entries, Entry{Name: e.Name(), Dir: e.IsDir()})
		}
		slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		return entries, nil
	})
}

// Lstat implements FS.
func (d *Dir) Lstat(ctx context.Context, name string) (Info, error) {
	return call(ctx, d.calls, "lstat", name, func() (info Info, err error) {
		err = settled(func() (found bool, err error) {
			info, err = d.lstatNow(name)
			return false, err // it is the look-up: its ENOENT is the answer
		})
		return info, ofName("lstat", name, err)
	})
}

func (d *Dir) lstatNow(name string) (Info, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	stat, err := statOf(info)
	if err != nil {
		return Info{}, err
	}
	return Info{Mode: info.Mode(), UID: int(stat.Uid), GID: int(stat.Gid), Inode: stat.Ino}, nil
}

// Rename implements FS.
func (d *Dir) Rename(ctx context.Context, oldName, newName string) error {
	return do(ctx, d.calls, "rename", oldName, func() error { return d.root.Rename(oldName, newName) })
}

// Remove implements FS.
func (d *Dir) Remove(ctx context.Context, name string) error {
	return do(ctx, d.calls, "remove", name, func() error { return d.root.Remove(name) })
}

// Chown implements FS.
func (d *Dir) Chown(ctx context.Context, name string, uid, gid int) error {
	return do(ctx, d.calls, "chown", name, func() error {
		return d.onName("chown", name, func() error { return d.root.Lchown(name, uid, gid) })
	})
}

// Chmod implements FS.
func (d *Dir) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	return do(ctx, d.calls, "chmod", name, func() error {
		return d.onName("chmod", name, func() error {
			f, err := d.openNoFollow(name, unix.O_DIRECTORY)
			if err != nil {
				return err
			}
			return errors.Join(f.Chmod(mode), f.Close())
		})
	})
}

// Usage implements FS.
func (d *Dir) Usage(ctx context.Context, name string) (Usage, error) {
	return call(ctx, d.calls, "statfs", name, func() (Usage, error) {
		f, err := d.openNoFollow(name, unix.O_DIRECTORY)
		if err != nil {
			return Usage{}, err
		}
		defer f.Close()
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
		block := uint64(st.Frsize)
		return Usage{Total: st.Blocks * block, Free: st.Bavail * block, Inodes: st.Files, FreeInodes: st.Ffree}, nil
	})
}
