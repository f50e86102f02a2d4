package gluster

import (
	"context"
	"io/fs"
	"unicode"
)

// MaxFileSize is the size in bytes of the largest file that ReadFile returns.
// What the catalog keeps is a thousandth of it; a larger file is not ours.
const MaxFileSize = 1 << 20

// FS is a store as the catalog sees it. Names are slash-separated and relative
// to the store's root, as io/fs.ValidPath has them; none leads out of the
// store, whatever symlinks lie on it: a symlink on the way is ELOOP, or is
// followed as long as it stays inside.
//
// Every method gives up when ctx is done. The outcome is then unknown: the
// operation may take effect at any later time. The same holds for ENOTCONN and
// EIO, since Gluster may have carried the operation out on some bricks.
//
// Errors match fs.ErrExist, fs.ErrNotExist and fs.ErrPermission with errors.Is,
// and otherwise carry the errno. What one node has done, every other sees with
// its next call: no implementation caches anything.
//
// Rename, Create and Mkdir are durable against the death of every process and
// of every node but the last: released bricks (Gluster 10 and 11) answer
// fsyncdir without doing it, so no call for it is made.
type FS interface {
	// Mkdir makes one directory, with exactly the permission bits of mode, or
	// fails with fs.ErrExist.
	Mkdir(ctx context.Context, name string, mode fs.FileMode) error
	// Create writes a new file and syncs its data, or fails with fs.ErrExist. Of
	// several nodes that call it at once, one succeeds. A crash on the way may
	// leave the file there with a part of data. The inode number is the file's for
	// good, whatever its name becomes.
	Create(ctx context.Context, name string, data []byte) (inode uint64, err error)
	// ReadFile returns a regular file of at most MaxFileSize bytes. Anything
	// else of that name, a symlink included, is fs.ErrInvalid.
	ReadFile(ctx context.Context, name string) ([]byte, error)
	// ReadDir lists a directory, sorted by name. With a part of the bricks
	// gone a listing can lack entries, without an error: only a look-up of the
	// name proves that something is not there.
	ReadDir(ctx context.Context, name string) ([]Entry, error)
	// Lstat looks a name up and does not follow a symlink.
	Lstat(ctx context.Context, name string) (Info, error)
	// Rename moves a file or directory atomically. It replaces a file of the new
	// name; an empty directory it replaces or refuses with fs.ErrExist, and one
	// that is not empty it refuses.
	Rename(ctx context.Context, oldName, newName string) error
	// Remove removes a file, a symlink or an empty directory.
	Remove(ctx context.Context, name string) error
	// Chown sets owner and group of a directory; -1 leaves one as it is. A
	// symlink is not followed.
	Chown(ctx context.Context, name string, uid, gid int) error
	// Chmod sets the permission bits of a directory, setuid, setgid and sticky
	// included, in the form of fs.FileMode. A symlink is an error.
	Chmod(ctx context.Context, name string, mode fs.FileMode) error
	// RemoveTree removes a directory with all that is in it. It never follows
	// a symlink, however much the tree is changed meanwhile, and never crosses
	// into another file system. It calls removed, if not nil, now and then
	// with the number of entries it has removed since the last call, from other
	// goroutines, several at a time, and waits for it. It may take hours; ctx stops it between two entries, and a later call goes on.
	// A tree that is not there is fs.ErrNotExist.
	RemoveTree(ctx context.Context, name string, removed func(n int)) error
	// Usage tells the size of the file system that holds name. For a
	// directory under a Gluster quota that is the quota.
	Usage(ctx context.Context, name string) (Usage, error)
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	// Dir is false for a symlink to a directory.
	Dir bool
}

// Info is what Lstat tells.
type Info struct {
	// Mode has the file's type and permission bits.
	Mode fs.FileMode
	// UID and GID own the file.
	UID, GID int
	// Inode is the inode number, which on a Gluster volume is the same for all
	// clients, by whatever way they come.
	Inode uint64
}

// Usage is the size of a file system and what of it is free.
type Usage struct {
	// Total and Free are in bytes.
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
	// Inodes are how many files it can have, 0 where that is not limited, and
	// FreeInodes how many more.
	Inodes     uint64 `json:"inodes"`
	FreeInodes uint64 `json:"free-inodes"`
}

// unprintable has the control characters, NUL among them, and what is no
// character at all: invalid UTF-8, and the marks that change a text's order.
func unprintable(r rune) bool {
	return r == unicode.ReplacementChar || !unicode.IsPrint(r)
}
