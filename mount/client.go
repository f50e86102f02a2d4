package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster/client"
)

// Client is a glusterfs process of this node and its mount. It lives in a
// directory of its own below the driver's run directory:
//
//	mnt           where it mounts
//	source.json   what it mounts, for the driver that adopts it; there from
//	              before the client is handed out until it has ended
//	dead-DEVICE   a mount of it that has died and that containers may have
type Client struct {
	source  Source
	dir     string
	logFile string
	binary  string
	// shown is a second path of the mount, for a dockerd that does not see the first;
	// "" for none.
	shown string

	// busy is held while the client is started or ended; a channel, so that
	// who waits for it can leave.
	busy chan struct{}
	// slots bound the threads that a hung mount can hold.
	slots chan struct{}
	// running is the process, or nil.
	running atomic.Pointer[process]
	// device is the mount's st_dev, with which VerifyDir recognises it.
	device atomic.Uint64
	// deaths are former mounts that containers may still have.
	deaths deaths
	// graftable are the directories that may take the place of dead ones.
	graftable atomic.Pointer[[]string]
}

// maxCalls is how many system calls on one mount run at once.
const maxCalls = 16

var (
	// ErrDead is in the chain of an error about a client that has ended, or
	// whose mount was taken away.
	ErrDead = errors.New("the Gluster client of this mount is dead")
	// ErrHung is in the chain of an error about a client that does not answer.
	ErrHung = fmt.Errorf("the Gluster client gave %w", client.ErrNoAnswer)
)

func newClient(source Source, key string, config Config) *Client {
	dir := filepath.Join(config.RunDir, key)
	c := &Client{
		source:  source,
		dir:     dir,
		logFile: filepath.Join(config.LogDir, key+".log"),
		binary:  config.Binary,
		busy:    make(chan struct{}, 1),
		slots:   make(chan struct{}, maxCalls),
		deaths:  deaths{dir: dir, noticed: map[uint64]time.Time{}},
	}
	if config.ShowDir != "" {
		c.shown = filepath.Join(config.ShowDir, key)
	}
	return c
}

// Path is where the client's mount is, whether it is there or not.
func (c *Client) Path() string { return filepath.Join(c.dir, "mnt") }

// PID is the client's process id, or 0 when none runs.
func (c *Client) PID() int {
	if p := c.running.Load(); p.alive() {
		return p.pid
	}
	return 0
}

// LogFile is where the client logs to.
func (c *Client) LogFile() string { return c.logFile }

// ensure starts the client unless its process runs and its mount is in place.
// It returns the process that it has started, nil if none.
func (c *Client) ensure(ctx context.Context) (started *process, err error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	alive, mounted := c.running.Load().alive(), c.mounted()
	if alive && mounted {
		return nil, c.show()
	}
	if mounted {
		if err := c.deaths.keep(c.Path(), c.device.Load()); err != nil {
			return nil, err
		}
	}
	if err := c.detach(); err != nil {
		return nil, &fs.PathError{Op: "unmount", Path: c.Path(), Err: err}
	}
	if started, err = c.start(ctx); err != nil {
		return nil, err
	}
	return started, c.show()
}

func (c *Client) lock(ctx context.Context) error {
	select {
	case c.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mount %s: another mount of it has not finished: %w", c.source, context.Cause(ctx))
	}
}

func (c *Client) unlock() { <-c.busy }

// start runs glusterfs and returns when its mount answers. If it does not, no
// process and no mount is left, and the error is a *client.StartError.
func (c *Client) start(ctx context.Context) (*process, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	source := c.source
	source.Servers = client.AnsweringFirst(ctx, source.Servers)
	logStart := client.LogSize(c.logFile)
	p, err := startProcess(c.binary, source.args(c.Path(), c.logFile))
	if err != nil {
		return nil, &client.StartError{Op: "mount", Target: c.source.target(), Hint: "Gluster's client cannot be run on this node; install glusterfs-client or glusterfs-fuse", Err: err}
	}
	c.running.Store(p)
	if err := c.awaitMount(ctx, p); err != nil {
		c.kill(p)
		return nil, client.NewStartError("mount", c.source.target(), err, c.logFile, logStart)
	}
	if err := c.saveSource(); err != nil {
		c.kill(p)
		return nil, err
	}
	return p, nil
}

// prepare makes the client's directory, without what would have it adopted.
func (c *Client) prepare() error {
	for _, dir := range []string{c.Path(), filepath.Dir(c.logFile)} {
		// Not for other users: on the mount lie the files of all volumes.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Remove(c.sourceFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *Client) saveSource() error {
	data, err := json.Marshal(c.source)
	if err != nil {
		return err
	}
	return replaceFile(c.sourceFile(), data)
}

func replaceFile(file string, data []byte) error {
	if err := os.WriteFile(file+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

func (c *Client) sourceFile() string { return filepath.Join(c.dir, "source.json") }

// awaitMount returns when p has mounted and the mount's root answers.
func (c *Client) awaitMount(ctx context.Context, p *process) error {
	device, err := awaitTable(ctx, c.Path(), p.exited)
	if err != nil {
		return err
	}
	c.device.Store(device)
	_, err = c.VerifyDir(ctx, ".")
	return err
}

// VerifyDir returns the path of a directory on the mount, given relative to its
// root, after it has seen that the mount is there, is this client's, is alive,
// and that no symlink lies on the way. Errors match ErrDead, ErrHung and
// fs.ErrNotExist with errors.Is, or carry the errno.
func (c *Client) VerifyDir(ctx context.Context, dir string) (string, error) {
	return c.verify(ctx, Dir{Path: dir})
}

// Dir is a directory on a client's mount.
type Dir struct {
	// Path is relative to the mount's root.
	Path string
	// Inode is its inode number, which all clients of a Gluster volume agree
	// on. 0 takes any directory of that path.
	Inode uint64
}

// ErrStale says that the client still shows the directory that had the path
// before.
var ErrStale = errors.New("the Gluster client still shows a directory that was moved away")

// AwaitDir is VerifyDir for a directory that another client, or another node,
// may just have put in the place of a former one. Kernel and client remember
// the former one for a second each, or for the client's option entry-timeout,
// and who was given that would write into a volume that was removed.
func (c *Client) AwaitDir(ctx context.Context, dir Dir) (string, error) {
	var stale error
	for missing := time.Now(); ; {
		path, err := c.verify(ctx, dir)
		if errors.Is(err, ErrStale) {
			stale = err
		}
		if stale != nil && errors.Is(err, ErrHung) {
			return "", stale // it answered, and the time is over
		}
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESTALE)
		if !errors.Is(err, ErrStale) && (!gone || dir.Inode == 0 || time.Since(missing) > stalePatience) {
			return path, err
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(stalePause):
		}
	}
}

const (
	// stalePatience is how long a directory may seem to be missing after it was
	// made elsewhere.
	stalePatience = 3 * time.Second
	stalePause    = 50 * time.Millisecond
)

func (c *Client) verify(ctx context.Context, dir Dir) (string, error) {
	path := filepath.Join(c.Path(), dir.Path)
	if err := c.call(ctx, func() error { return c.verifyDir(dir) }); err != nil {
		return "", &fs.PathError{Op: "verify", Path: path, Err: err}
	}
	return path, nil
}

// call runs a system call on the mount and leaves it when ctx is done. The
// kernel cannot be told to give up, so a call that hangs keeps its thread and
// its slot.
func (c *Client) call(ctx context.Context, fn func() error) error {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrHung, context.Cause(ctx))
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-c.slots }()
		done <- fn()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrHung, context.Cause(ctx))
	}
}

func (c *Client) verifyDir(dir Dir) error {
	root, err := unix.Open(c.Path(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrDead // it is the mount point that is gone, not dir
	}
	if err != nil {
		return c.explain(err)
	}
	defer unix.Close(root)
	if err := c.verifyRoot(root); err != nil {
		return c.explain(err)
	}
	// Opened for reading, since that asks the bricks: of a directory that is gone, an O_PATH would tell
	// what kernel and client remember.
	fd, err := unix.Openat2(root, dir.Path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return c.explain(err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return c.explain(err)
	}
	if dir.Inode != 0 && stat.Ino != dir.Inode {
		return ErrStale
	}
	return nil
}

func (c *Client) verifyRoot(fd int) error {
	var stat unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &stat); err != nil {
		return err
	}
	if unix.Mkdev(stat.Dev_major, stat.Dev_minor) != c.device.Load() {
		return ErrDead
	}
	return nil
}

// explain tells a dead client from one that has lost its bricks: both answer
// ENOTCONN. A dying one does so a moment before its process is gone, and
// ECONNABORTED to what it was asked before.
func (c *Client) explain(err error) error {
	p := c.running.Load()
	dying := errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.ENOTCONN) && p.closing()
	if dying && p.awaitExit(deathPatience) {
		return ErrDead
	}
	return err
}

// deathPatience is how long a process may outlive the closing of its files.
const deathPatience = 5 * time.Second

// mounted tells whether the client's own mount is on its path. It asks the
// kernel alone, so it does not hang with the client.
func (c *Client) mounted() bool { return c.mountedOn(c.Path()) }

func (c *Client) mountedOn(path string) bool {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW, 0, &stat)
	return err == nil && unix.Mkdev(stat.Dev_major, stat.Dev_minor) == c.device.Load()
}

// detach takes a mount that nobody answers for off the path, and all that may
// lie below it. Containers that hold it keep it.
func (c *Client) detach() error {
	return errors.Join(c.hide(), detach(c.Path()))
}

func detach(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return nil // no mount is left there
		}
		if err != nil {
			return err
		}
	}
}

// kill ends a client that was never handed out. Its mount, which may hang, is
// taken away last, when nobody is left to make another.
func (c *Client) kill(p *process) {
	p.kill()
	_ = c.detach()
	c.running.Store(nil)
}

// ErrBusy says that files on the mount are in use.
var ErrBusy = errors.New("files on the mount are in use")

// end unmounts the client, which then ends by itself, and removes its
// directory. It is never torn from under a user: with files of it open on this
// path the error is ErrBusy, and where a container still has it bound, the
// kernel keeps the client until that is gone.
func (c *Client) end(ctx context.Context) error {
	p := c.running.Load()
	if err := c.call(ctx, func() error { return c.unmount(p) }); err != nil {
		return &fs.PathError{Op: "unmount", Path: c.Path(), Err: err}
	}
	p.awaitExit(exitPatience)
	c.running.Store(nil)
	c.deaths.clear() // nobody uses it
	return c.removeDir()
}

func (c *Client) unmount(p *process) error {
	if !p.alive() || !c.mounted() {
		return c.detach()
	}
	if c.shown != "" && c.mountedOn(c.shown) {
		if err := unmountIdle(c.shown); err != nil {
			return err
		}
	}
	if err := c.hide(); err != nil {
		return err
	}
	return unmountIdle(c.Path())
}

func unmountIdle(path string) error {
	for range busyTries {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ErrBusy
}

// busyTries is how often a busy mount is tried. For a moment it may be our own
// doing: a process that the driver starts has copies of its descriptors, those
// of a verification among them, until it runs its program.
const busyTries = 20

// removeDir removes the client's directory, one name after the other: should
// something be mounted there after all, nothing of it is lost. What is kept of deaths
// stays.
func (c *Client) removeDir() error {
	names := []string{"mnt", "source.json", "source.json.tmp"}
	if c.deaths.none() {
		if err := c.deaths.removeKept(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		names = append(names, ".")
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// adopt takes over a client that an earlier driver has started. mounted is
// false when there is nothing to take over.
func (c *Client) adopt() (mounted bool, err error) {
	device, mounted, err := lookUpTable(c.Path())
	if err != nil || !mounted {
		// A process without its mount is left alone: containers may have it bound.
		return false, err
	}
	p, err := findProcess(c.Path())
	if err != nil {
		return false, err
	}
	c.running.Store(p)
	c.device.Store(device)
	return true, nil
}

// discard ends a client that an earlier driver was killed in the start of: it
// was never handed out, and may wait for its server for ever. If it was to take the
// place of one that had died, that is not forgotten.
func (c *Client) discard() error {
	if err := c.deaths.load(); err != nil {
		return err
	}
	mounted, err := c.adopt()
	if err != nil {
		return err
	}
	if mounted {
		c.kill(c.running.Load())
	}
	return c.removeDir()
}
