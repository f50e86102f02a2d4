package gluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/gluster/gfapi"
)

// API is an FS over libgfapi: no mount, and no cache of the kernel between two
// nodes. It goes through directories by handle, so that no symlink is followed.
//
// A connection is for the life of the process. Whatever it fails by, a brick or
// a glusterd that is down, a volume that is stopped or not there yet, it comes
// back by itself; libgfapi tries again every 3 s. The exception is a Gluster
// volume that was deleted and made anew, which takes another API; and now and then one that was
// asked for before its volume was made stays down (volume/control_api.go, trialIsDue).
type API struct {
	address Address
	logFile string
	calls   calls
	// graphCalls ask the library alone, and so have slots of their own: those of the store
	// may all be taken while its bricks hang.
	graphCalls calls
	// start is the one call of glfs_init, startErr what came of it, and volume what
	// it was called for, nil if it did not come to that.
	start    sync.Once
	startErr error
	volume   *gfapi.Volume
	// initialised is the same once that call has returned, whatever came of it.
	initialised atomic.Pointer[gfapi.Volume]

	// closing are files that are being closed, and that nobody waits for but Discard.
	closing sync.WaitGroup

	// keep are patterns of the directories whose handles are kept.
	keep []string

	mu   sync.Mutex
	root *gfapi.Object
	kept map[string]keptDir
	// failing is since when no call has been answered, zero if the last one was.
	failing time.Time
	// logStart is where the log of the last attempt to connect begins, and
	// explained how the last that failed was explained.
	logStart  int64
	explained *client.StartError
}

// keptDir is the handle of a directory that is looked up again now and then only.
type keptDir struct {
	handle *gfapi.Object
	inode  uint64
	// seen is when it was last looked up.
	seen time.Time
}

// keepTime is for how long a kept handle is used without looking it up, as a
// kernel does by default. Who moves the directory away has to expect that names
// are still made in it for so long.
const keepTime = time.Second

// deadServerTime is for how long a server may leave unacknowledged what was sent to it: TCP_USER_TIMEOUT
// of tcp(7), which Gluster's clients have switched off by default (client.tcp-user-timeout). Its own
// ping comes every 42 s only, and waits for as long (network.ping-timeout; rpc/rpc-lib/src/rpc-clnt-ping.c), so
// that a server that has lost its power held up all others for 42 to 84 s (60 s measured).
const deadServerTime = 30 * time.Second

var _ FS = (*API)(nil)

// LoadAPI tells whether libgfapi can be used on this machine. The error matches
// gfapi.ErrUnavailable.
func LoadAPI() error { return gfapi.Load() }

// NewAPI prepares a connection to a store; Connect makes it. The library logs to
// logFile. keep are directories that nobody moves, as path.Match has them, and whose names
// are used all the time: they are not looked up each time. The error matches gfapi.ErrUnavailable
// when the library cannot be used on this machine.
func NewAPI(address Address, logFile string, keep ...string) (*API, error) {
	if err := LoadAPI(); err != nil {
		return nil, err
	}
	return &API{address: address, logFile: logFile, calls: newCalls(), graphCalls: newCalls(), keep: keep, kept: map[string]keptDir{}, logStart: client.LogSize(logFile)}, nil
}

// Connect returns when the store answers. After an error it may be called again.
// The error is a *client.StartError.
func (a *API) Connect(ctx context.Context) error {
	logStart := a.noteLog()
	_, err := ask(ctx, a, "connect", a.address.String(), func() (struct{}, error) { return struct{}{}, a.connect(ctx) })
	if err != nil {
		return a.explain(err, logStart)
	}
	return nil
}

func (a *API) connect(ctx context.Context) error {
	a.start.Do(func() { a.startErr = a.init(ctx) })
	root, err := a.openedRoot()
	if err != nil {
		return err
	}
	// The root itself is answered from memory, its size by the bricks.
	if _, err = root.Usage(); errors.Is(err, syscall.ESTALE) || errors.Is(err, fs.ErrNotExist) {
		a.mu.Lock()
		a.root = nil // not closed: calls may be using it
		clear(a.kept)
		a.mu.Unlock()
	}
	return err
}

func (a *API) init(ctx context.Context) error {
	volume, err := gfapi.New(a.address.Volume)
	if err != nil {
		return err
	}
	if err := a.configure(ctx, volume); err != nil {
		return err // and the volume is lost: Fini takes none that Init was not called for
	}
	a.volume = volume
	err = volume.Init()
	a.initialised.Store(volume)
	if errors.Is(err, syscall.ENOTCONN) {
		return fmt.Errorf("%w: %w", client.ErrNoServer, err)
	}
	return err
}

func (a *API) configure(ctx context.Context, volume *gfapi.Volume) error {
	for _, server := range client.AnsweringFirst(ctx, a.address.Servers) {
		if err := volume.AddServer(server, client.GlusterdPort); err != nil {
			return err
		}
	}
	return errors.Join(
		volume.SetLog(a.logFile, gfapi.LogWarning),
		// Else libgfapi would remember the store's files for a second.
		volume.SetOption("*-md-cache", "md-cache-timeout", "0"),
		// A node that dies while it replaces a file may have reached some of the bricks only.
		volume.SetOption("*-replicate-*", "favorite-child-policy", "majority"),
		volume.SetOption("*-client-*", "transport.tcp-user-timeout", strconv.Itoa(int(deadServerTime.Seconds()))),
	)
}

// openedRoot is the store's directory, looked up if it is not known.
func (a *API) openedRoot() (*gfapi.Object, error) {
	if root, err := a.knownRoot(); err == nil {
		return root, nil
	}
	root, err := a.openRoot()
	if err != nil {
		if a.startErr != nil && !errors.Is(err, client.ErrNoDirectory) {
			return nil, a.startErr // nothing has changed since
		}
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.root = root
	return root, nil
}

func (a *API) knownRoot() (*gfapi.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root == nil {
		return nil, syscall.ENOTCONN
	}
	return a.root, nil
}

// openRoot finds the store's directory, step by step and through no symlink.
func (a *API) openRoot() (*gfapi.Object, error) {
	if a.volume == nil {
		return nil, a.startErr
	}
	root, err := a.volume.Root()
	if err != nil || a.address.Subdir == "" {
		return root, err
	}
	for part := range strings.SplitSeq(a.address.Subdir, "/") {
		next, stat, err := root.Lookup(part)
		if errors.Is(err, fs.ErrNotExist) {
			err = client.ErrNoDirectory
		}
		if err == nil && !fileMode(stat.Mode).IsDir() {
			err = errors.Join(syscall.ENOTDIR, next.Close())
		}
		if err := errors.Join(err, root.Close()); err != nil {
			return nil, fmt.Errorf("directory /%s: %w", a.address.Subdir, err)
		}
		root = next
	}
	return root, nil
}

// noteLog notes where the log of an attempt begins, and returns it for the one
// before: what the library says between two is about the first.
func (a *API) noteLog() (before int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.logStart = a.logStart, client.LogSize(a.logFile)
	return before
}

// explain says why the store does not answer. The library complains once and
// then tries in silence, so that an earlier explanation holds until another is
// found.
func (a *API) explain(err error, logStart int64) error {
	target := client.Target{Servers: a.address.Servers, Volume: a.address.Volume, Subdir: a.address.Subdir}
	explained := client.NewStartError("connect to", target, err, a.logFile, logStart)
	a.mu.Lock()
	defer a.mu.Unlock()
	if last := a.explained; last != nil && explained.Hint == "" {
		explained.Hint, explained.Permanent, explained.Log = last.Hint, last.Permanent, last.Log
	}
	a.explained = explained
	return explained
}

// Failing is for how long the store has answered no call, 0 if it did the last.
func (a *API) Failing() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failing.IsZero() {
		return 0
	}
	return max(time.Since(a.failing), 1)
}

// note notes whether the store has answered a call.
func (a *API) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		a.failing, a.explained = time.Time{}, nil
	case !unanswered(err): // such as that there is no such Gluster volume, which stays explained
		a.failing = time.Time{}
	case a.failing.IsZero():
		a.failing = time.Now()
	}
}

// unanswered tells errors of the connection from the store's answers.
func unanswered(err error) bool {
	for _, target := range []error{ErrNoAnswer, client.ErrNoServer, syscall.ENOTCONN, syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Discard ends a connection that is not needed any more, in the background, when
// its last call has returned. glfs_fini takes up to 11 s, and leaks up to 2 MB of
// a connection that was up, 50 kB of one that was not (measured with 10.3): a
// program that ends had better just end.
func (a *API) Discard() {
	go func() {
		for _, c := range []calls{a.calls, a.graphCalls} {
			for range cap(c.slots) {
				c.slots <- struct{}{}
			}
		}
		a.closing.Wait()
		if a.volume == nil {
			return
		}
		runtime.LockOSThread() // and never unlock: the thread ends as well
		_ = a.volume.Fini()    // nothing can be done about a failure
	}()
}

// ask is call, and notes whether there was an answer.
func ask[T any](ctx context.Context, a *API, op, name string, fn func() (T, error)) (T, error) {
	value, err := call(ctx, a.calls, op, name, fn)
	a.note(err)
	return value, err
}

// dir calls fn with the handle of a directory.
func (a *API) dir(name string, fn func(*gfapi.Object) error) error {
	if !fs.ValidPath(name) {
		return fs.ErrInvalid
	}
	if name == "." {
		root, err := a.knownRoot()
		if err != nil {
			return err
		}
		return fn(root)
	}
	if handle := a.keptHandle(name); handle != nil {
		err := fn(handle)
		if !errors.Is(err, syscall.ESTALE) {
			return err
		}
		a.letGo(name) // the directory was removed: as a kernel does, look whether there is another
	}
	return a.dir(path.Dir(name), func(parent *gfapi.Object) error {
		handle, stat, err := parent.Lookup(path.Base(name))
		if err != nil {
			return err
		}
		switch fileMode(stat.Mode).Type() {
		case fs.ModeDir:
			if a.keeps(name) {
				return fn(a.keepHandle(name, handle, stat.Ino))
			}
			err = fn(handle)
		case fs.ModeSymlink:
			err = syscall.ELOOP
		default:
			err = syscall.ENOTDIR
		}
		return errors.Join(err, handle.Close())
	})
}

// keeps tells whether a directory's handle is to be kept.
func (a *API) keeps(name string) bool {
	return slices.ContainsFunc(a.keep, func(pattern string) bool {
		matched, _ := path.Match(pattern, name)
		return matched
	})
}

// keptHandle is the handle of a directory that was looked up lately, or nil.
func (a *API) keptHandle(name string) *gfapi.Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept, found := a.kept[name]; found && time.Since(kept.seen) < keepTime {
		return kept.handle
	}
	return nil
}

// letGo has a directory be looked up again. Its handle is not closed: calls may be using it.
func (a *API) letGo(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kept, name)
}

// keepHandle keeps the handle of a directory that was looked up. If it is the
// same as before, the former handle goes on, which calls may be using; if not,
// that one is not closed either, for the same reason.
func (a *API) keepHandle(name string, handle *gfapi.Object, inode uint64) *gfapi.Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	if former, found := a.kept[name]; found && former.inode == inode {
		_ = handle.Close() // it does not fail
		handle = former.handle
	}
	a.kept[name] = keptDir{handle: handle, inode: inode, seen: time.Now()}
	return handle
}

// in runs an operation on a name in its directory, and gives its error the
// operation and the name.
func (a *API) in(ctx context.Context, op, name string, fn func(dir *gfapi.Object, base string) error) error {
	_, err := ask(ctx, a, op, name, func() (struct{}, error) { return struct{}{}, a.named(op, name, fn) })
	return err
}

func (a *API) named(op, name string, fn func(dir *gfapi.Object, base string) error) error {
	if err := a.dir(path.Dir(name), func(dir *gfapi.Object) error { return fn(dir, path.Base(name)) }); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Mkdir implements FS.
func (a *API) Mkdir(ctx context.Context, name string, mode fs.FileMode) error {
	return a.in(ctx, "mkdir", name, func(dir *gfapi.Object, base string) error {
		made, stat, err := dir.Mkdir(base, unixMode(mode))
		if err != nil {
			return err
		}
		if fileMode(stat.Mode) != mode|fs.ModeDir {
			err = made.SetAttributes(gfapi.Stat{Mode: unixMode(mode)}, gfapi.SetMode)
		}
		return errors.Join(err, made.Close())
	})
}

// Create implements FS.
func (a *API) Create(ctx context.Context, name string, data []byte) (inode uint64, err error) {
	return ask(ctx, a, "create", name, func() (inode uint64, err error) {
		err = a.named("create", name, func(dir *gfapi.Object, base string) error {
			if len(data) == 0 {
				inode, err = createEmpty(dir, base)
			} else {
				inode, err = a.create(dir, base, data)
			}
			return err
		})
		return inode, err
	})
}

func createEmpty(dir *gfapi.Object, base string) (inode uint64, err error) {
	made, stat, err := dir.Mknod(base, 0o600)
	if err != nil {
		return 0, err
	}
	return stat.Ino, made.Close()
}

func (a *API) create(dir *gfapi.Object, base string, data []byte) (inode uint64, err error) {
	f, stat, err := dir.Create(base, 0o600)
	if err != nil {
		return 0, err
	}
	if _, err = f.Write(data); err != nil {
		_ = f.Close()
		_ = dir.Unlink(base) // half a file is worse than none
		return 0, err
	}
	// What was written is on the disks, so that closing has nothing to say. It would wait for
	// the replication to take its marks off.
	a.closing.Go(func() { _ = f.Close() })
	return stat.Ino, nil
}

// ReadFile implements FS.
func (a *API) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return ask(ctx, a, "read", name, func() (data []byte, err error) {
		err = a.named("read", name, func(dir *gfapi.Object, base string) error {
			return onObject(dir, base, func(object *gfapi.Object, stat gfapi.Stat) (err error) {
				if !fileMode(stat.Mode).IsRegular() || stat.Size > MaxFileSize {
					return fs.ErrInvalid
				}
				data = make([]byte, stat.Size)
				n, err := object.ReadAt(data, 0)
				data = data[:n]
				if errors.Is(err, io.EOF) { // it is shorter by now
					return nil
				}
				return err
			})
		})
		return data, err
	})
}

// onObject calls fn with what a name stands for.
func onObject(dir *gfapi.Object, base string, fn func(object *gfapi.Object, stat gfapi.Stat) error) error {
	return settled(func() (found bool, err error) {
		object, stat, err := dir.Lookup(base)
		if err != nil {
			return false, err
		}
		return true, errors.Join(fn(object, stat), object.Close())
	})
}

// ReadDir implements FS.
func (a *API) ReadDir(ctx context.Context, name string) ([]Entry, error) {
	return ask(ctx, a, "readdir", name, func() ([]Entry, error) {
		var entries []Entry
		err := a.dir(name, func(dir *gfapi.Object) error {
			var err error
			entries, err = list(dir, -1)
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
		}
		slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		return entries, nil
	})
}

// list returns the entries of a directory, at most limit unless that is negative.
func list(dir *gfapi.Object, limit int) ([]Entry, error) {
	entries := []Entry{}
	unknown := map[int]bool{}
	err := dir.Entries(func(e gfapi.Entry) bool {
		if e.Type == unix.DT_UNKNOWN {
			unknown[len(entries)] = true
		}
		entries = append(entries, Entry{Name: e.Name, Dir: e.Type == unix.DT_DIR})
		return len(entries) != limit
	})
	for i := range unknown {
		object, stat, lookupErr := dir.Lookup(entries[i].Name)
		if lookupErr == nil {
			entries[i].Dir = fileMode(stat.Mode).IsDir()
			lookupErr = object.Close()
		}
		if !errors.Is(lookupErr, fs.ErrNotExist) {
			err = errors.Join(err, lookupErr)
		}
	}
	return entries, err
}

// Lstat implements FS.
func (a *API) Lstat(ctx context.Context, name string) (Info, error) {
	return ask(ctx, a, "lstat", name, func() (info Info, err error) {
		err = a.named("lstat", name, func(dir *gfapi.Object, base string) error {
			return onObject(dir, base, func(_ *gfapi.Object, stat gfapi.Stat) error {
				info = Info{Mode: fileMode(stat.Mode), UID: int(stat.Uid), GID: int(stat.Gid), Inode: stat.Ino}
				return nil
			})
		})
		return info, err
	})
}

// Rename implements FS.
func (a *API) Rename(ctx context.Context, oldName, newName string) error {
	return a.in(ctx, "rename", oldName, func(from *gfapi.Object, oldBase string) error {
		return a.dir(path.Dir(newName), func(to *gfapi.Object) error {
			return from.Rename(oldBase, to, path.Base(newName))
		})
	})
}

// Remove implements FS.
func (a *API) Remove(ctx context.Context, name string) error {
	return a.in(ctx, "remove", name, func(dir *gfapi.Object, base string) error { return dir.Unlink(base) })
}

// Chown implements FS.
func (a *API) Chown(ctx context.Context, name string, uid, gid int) error {
	stat, valid := gfapi.Stat{}, 0
	if uid >= 0 {
		stat.Uid, valid = uint32(uid), valid|gfapi.SetUID
	}
	if gid >= 0 {
		stat.Gid, valid = uint32(gid), valid|gfapi.SetGID
	}
	return a.setAttributes(ctx, "chown", name, stat, valid)
}

// Chmod implements FS.
func (a *API) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	return a.setAttributes(ctx, "chmod", name, gfapi.Stat{Mode: unixMode(mode)}, gfapi.SetMode)
}

func (a *API) setAttributes(ctx context.Context, op, name string, attributes gfapi.Stat, valid int) error {
	return a.in(ctx, op, name, func(dir *gfapi.Object, base string) error {
		return onObject(dir, base, func(object *gfapi.Object, stat gfapi.Stat) error {
			if valid == gfapi.SetMode && fileMode(stat.Mode).Type() != fs.ModeDir {
				return syscall.ENOTDIR
			}
			return object.SetAttributes(attributes, valid)
		})
	})
}

// Usage implements FS.
func (a *API) Usage(ctx context.Context, name string) (Usage, error) {
	return ask(ctx, a, "statfs", name, func() (usage Usage, err error) {
		err = a.dir(name, func(dir *gfapi.Object) error {
			size, err := dir.Usage()
			usage = Usage(size)
			return err
		})
		if err != nil {
			return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
		return usage, nil
	})
}

// fileMode turns st_mode into an fs.FileMode.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	default:
		m |= fs.ModeDevice
	}
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// unixMode turns permission bits into st_mode's.
func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&flag != 0 {
			m |= bit
		}
	}
	return m
}
