package volume

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
)

// faultFS is an FS whose process dies at its n-th operation: that one happens
// as outcome says, and none after it happens at all. With lives set, the
// operation fails in this way, and those after it are well.
type faultFS struct {
	gluster.FS
	n       int
	outcome outcome
	lives   bool
	// op is what the n-th operation was.
	op string
}

type outcome int

const (
	before outcome = iota // it died before the operation
	torn                  // a new file has half of its content
	after                 // the operation took effect; the answer was lost
)

var errDied = errors.New("the process died here")

// err is what the process, should it live, is told of the operation.
func (o outcome) err() error {
	return []error{unix.EPERM, unix.ENOSPC, unix.ENOTCONN}[o]
}

// run counts an operation; effect is what the FS does, half what it does when
// it is torn.
func (f *faultFS) run(op string, effect, half func() error) error {
	f.n--
	switch {
	case f.n > 0:
		return effect()
	case f.n < 0 && f.lives:
		return effect()
	case f.n < 0:
		return errDied
	}
	f.op = op
	switch {
	case f.outcome == after:
		_ = effect()
	case f.outcome == torn && half != nil:
		_ = half()
	}
	if f.lives {
		return f.outcome.err()
	}
	return errDied
}

func (f *faultFS) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	return f.run("mkdir "+name, func() error { return f.FS.Mkdir(ctx, name, mode) }, nil)
}

func (f *faultFS) Create(ctx context.Context, name string, data []byte) (inode uint64, err error) {
	create := func(data []byte) func() error {
		return func() error {
			inode, err = f.FS.Create(ctx, name, data)
			return err
		}
	}
	err = f.run("create "+name, create(data), create(data[:len(data)/2]))
	return inode, err
}

func (f *faultFS) ReadFile(ctx context.Context, name string) (data []byte, err error) {
	err = f.run("read "+name, func() error { data, err = f.FS.ReadFile(ctx, name); return err }, nil)
	return data, err
}

func (f *faultFS) ReadDir(ctx context.Context, name string) (list []gluster.Entry, err error) {
	err = f.run("readdir "+name, func() error { list, err = f.FS.ReadDir(ctx, name); return err }, nil)
	return list, err
}

func (f *faultFS) Lstat(ctx context.Context, name string) (info gluster.Info, err error) {
	err = f.run("lstat "+name, func() error { info, err = f.FS.Lstat(ctx, name); return err }, nil)
	return info, err
}

func (f *faultFS) Rename(ctx context.Context, oldName, newName string) error {
	return f.run("rename "+oldName+" to "+newName, func() error { return f.FS.Rename(ctx, oldName, newName) }, nil)
}

func (f *faultFS) Remove(ctx context.Context, name string) error {
	return f.run("remove "+name, func() error { return f.FS.Remove(ctx, name) }, nil)
}

func (f *faultFS) Chown(ctx context.Context, name string, uid, gid int) error {
	return f.run("chown "+name, func() error { return f.FS.Chown(ctx, name, uid, gid) }, nil)
}

func (f *faultFS) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	return f.run("chmod "+name, func() error { return f.FS.Chmod(ctx, name, mode) }, nil)
}

func (f *faultFS) RemoveTree(ctx context.Context, name string, removed func(int)) error {
	return f.run("remove tree "+name,
		func() error { return f.FS.RemoveTree(ctx, name, removed) },
		func() error { return f.FS.Remove(ctx, name+"/one") })
}

// plainDir is an empty store on plain disk.
func plainDir(t *testing.T) *gluster.Dir {
	t.Helper()
	dir, err := gluster.OpenDir(t.Context(), memoryDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}
