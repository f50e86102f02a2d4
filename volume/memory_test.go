package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
)

// memoryFS is a store in memory. TestMemoryFS holds it against a real directory.
type memoryFS struct {
	files map[string]*memoryFile
	// nextInode numbers new files.
	nextInode func() uint64
}

type memoryFile struct {
	dir   bool
	data  string
	inode uint64
	mode  fs.FileMode
}

var _ gluster.FS = (*memoryFS)(nil)

func newMemoryFS() *memoryFS {
	m := &memoryFS{files: map[string]*memoryFile{".": {dir: true, inode: 1}}}
	last := uint64(1)
	m.nextInode = func() uint64 { last++; return last }
	return m
}

// parent wants a name's directory to be there.
func (m *memoryFS) parent(name string) error {
	dir := path.Dir(name)
	switch file := m.files[dir]; {
	case file == nil && dir != ".":
		return cmp.Or(m.parent(dir), error(unix.ENOENT))
	case !file.dir:
		return unix.ENOTDIR
	}
	return nil
}

func (m *memoryFS) get(name string) (*memoryFile, error) {
	if err := m.parent(name); err != nil {
		return nil, err
	}
	if m.files[name] == nil {
		return nil, unix.ENOENT
	}
	return m.files[name], nil
}

func (m *memoryFS) add(name string, file memoryFile) (*memoryFile, error) {
	if err := m.parent(name); err != nil {
		return nil, err
	}
	if m.files[name] != nil {
		return nil, unix.EEXIST
	}
	file.inode = m.nextInode()
	m.files[name] = &file
	return &file, nil
}

// below are the names in a directory, at any depth.
func (m *memoryFS) below(dir string) (names []string) {
	for name := range m.files {
		if strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	return names
}

func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (m *memoryFS) Mkdir(_ context.Context, name string, mode fs.FileMode) error {
	_, err := m.add(name, memoryFile{dir: true, mode: mode})
	return failed("mkdir", name, err)
}

func (m *memoryFS) Create(_ context.Context, name string, data []byte) (uint64, error) {
	file, err := m.add(name, memoryFile{data: string(data), mode: 0o600})
	if err != nil {
		return 0, failed("create", name, err)
	}
	return file.inode, nil
}

func (m *memoryFS) ReadFile(_ context.Context, name string) ([]byte, error) {
	file, err := m.get(name)
	if err == nil && file.dir {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, failed("read", name, err)
	}
	return []byte(file.data), nil
}

func (m *memoryFS) ReadDir(_ context.Context, name string) ([]gluster.Entry, error) {
	dir, err := m.get(name)
	if err == nil && !dir.dir {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, failed("readdir", name, err)
	}
	entries := []gluster.Entry{}
	for _, inside := range m.below(name) {
		if path.Dir(inside) == name {
			entries = append(entries, gluster.Entry{Name: path.Base(inside), Dir: m.files[inside].dir})
		}
	}
	slices.SortFunc(entries, func(a, b gluster.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (m *memoryFS) Lstat(_ context.Context, name string) (gluster.Info, error) {
	file, err := m.get(name)
	if err != nil {
		return gluster.Info{}, failed("lstat", name, err)
	}
	info := gluster.Info{Mode: file.mode, Inode: file.inode}
	if file.dir {
		info.Mode |= fs.ModeDir
	}
	return info, nil
}

func (m *memoryFS) Rename(_ context.Context, oldName, newName string) error {
	return failed("rename", oldName, m.rename(oldName, newName))
}

func (m *memoryFS) rename(oldName, newName string) error {
	if err := cmp.Or(m.parent(oldName), m.parent(newName)); err != nil {
		return err
	}
	file, err := m.get(oldName)
	if err != nil {
		return err
	}
	switch target := m.files[newName]; {
	case target == nil:
	case file.dir && !target.dir:
		return unix.ENOTDIR
	case !file.dir && target.dir:
		return unix.EEXIST // os.Root's answer; rename(2) has EISDIR
	case len(m.below(newName)) > 0:
		return unix.ENOTEMPTY
	}
	if file.dir && strings.HasPrefix(newName, oldName+"/") {
		return unix.EINVAL
	}
	moved := map[string]*memoryFile{newName: file}
	for _, name := range m.below(oldName) {
		moved[newName+strings.TrimPrefix(name, oldName)] = m.files[name]
		delete(m.files, name)
	}
	delete(m.files, oldName)
	maps.Copy(m.files, moved)
	return nil
}

func (m *memoryFS) Remove(_ context.Context, name string) error {
	file, err := m.get(name)
	if err == nil && file.dir && len(m.below(name)) > 0 {
		err = unix.ENOTEMPTY
	}
	if err == nil {
		delete(m.files, name)
	}
	return failed("remove", name, err)
}

func (m *memoryFS) Chown(_ context.Context, name string, _, _ int) error {
	_, err := m.get(name)
	return failed("chown", name, err)
}

func (m *memoryFS) Chmod(_ context.Context, name string, mode fs.FileMode) error {
	file, err := m.get(name)
	if err == nil {
		file.mode = mode
	}
	return failed("chmod", name, err)
}

func (m *memoryFS) RemoveTree(_ context.Context, name string, _ func(int)) error {
	file, err := m.get(name)
	if err == nil && !file.dir {
		err = unix.ENOTDIR
	}
	if err != nil {
		return failed("remove tree", name, err)
	}
	for _, inside := range append(m.below(name), name) {
		delete(m.files, inside)
	}
	return nil
}

func (m *memoryFS) Usage(context.Context, string) (gluster.Usage, error) { return gluster.Usage{}, nil }

// TestMemoryFS does the same random operations on a store in memory and on a
// directory, and compares what they tell.
func TestMemoryFS(t *testing.T) {
	names := []string{"a", "b", "a/x", "a/y", "b/x", "b/x/1", "a/x/1", "c"}
	name := func() string { return names[rand.IntN(len(names))] }
	for range 20 {
		memory, disk := newMemoryFS(), plainDir(t)
		inodes := map[uint64]uint64{} // of the one → of the other
		for step := range 300 {
			op, one, two, data := rand.IntN(8), name(), name(), []byte(fmt.Sprint(step))
			if target := memory.files[two]; op == 5 && (target != nil && target.dir || strings.HasPrefix(two+"/", one+"/")) {
				continue // an empty directory is replaced over libgfapi, and not on a directory
			}
			do := func(store gluster.FS) (result any, inode uint64, err error) {
				ctx := t.Context()
				switch op {
				case 0:
					err = store.Mkdir(ctx, one, 0o755)
				case 1:
					inode, err = store.Create(ctx, one, data)
				case 2:
					data, readErr := store.ReadFile(ctx, one)
					result, err = string(data), readErr
				case 3:
					result, err = store.ReadDir(ctx, one)
				case 4:
					info, statErr := store.Lstat(ctx, one)
					result, inode, err = info.Mode, info.Inode, statErr
				case 5:
					err = store.Rename(ctx, one, two)
				case 6:
					err = store.Remove(ctx, one)
				case 7:
					err = store.RemoveTree(ctx, one, nil)
				}
				return result, inode, err
			}
			r1, i1, e1 := do(memory)
			r2, i2, e2 := do(disk)
			if fmt.Sprint(r1) != fmt.Sprint(r2) || kind(e1) != kind(e2) {
				t.Fatalf("operation %d on %s, %s: in memory %v, %v; on disk %v, %v", op, one, two, r1, e1, r2, e2)
			}
			if known, found := inodes[i1]; i1 != 0 && found && known != i2 {
				t.Fatalf("inode of %s: %d was %d on disk, and is %d", one, i1, known, i2)
			}
			inodes[i1] = i2
		}
	}
}

// kind is what of an error the catalog can tell apart.
func kind(err error) string {
	for _, target := range []error{fs.ErrExist, fs.ErrNotExist, fs.ErrInvalid, unix.ENOTEMPTY, unix.ENOTDIR} {
		if errors.Is(err, target) {
			return target.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return ""
}
