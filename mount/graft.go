package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Graft is a mount of a client that died, in the mount namespace of a container,
// and what came of its replacement.
type Graft struct {
	// PID is a process that sees it, and Path where.
	PID  int
	Path string
	// Dir is the directory that it shows, relative to the client's mount: one that
	// was asked for, or something in it.
	Dir string
	// Err is why it could not be replaced, nil if it was.
	Err error
}

// Graft puts directories of a client's mount where other mount namespaces have
// them bound from a process of the client that died. Their mount flags stay, and
// what is mounted above and below them. Mounts that were replaced already are not
// told of again. Open files stay broken. The error is about the search; those of
// single mounts are in the list.
func (cs *Clients) Graft(ctx context.Context, key string, dirs []string) ([]Graft, error) {
	cs.mu.Lock()
	c, found := cs.clients[key]
	cs.mu.Unlock()
	if !found || c.deaths.none() {
		return nil, nil
	}
	var grafts []Graft
	err := c.call(ctx, func() (err error) {
		grafts, err = c.graft(dirs)
		return err
	})
	return grafts, err
}

func (c *Client) graft(dirs []string) (grafts []Graft, err error) {
	dead, live := c.deaths.devices(), c.device.Load()
	namespaces, err := mountNamespaces()
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	host, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	delete(namespaces, own)
	seen := map[uint64]bool{}
	done := map[int]bool{} // by the mounts' ids, which are unique on a node
	for name, members := range namespaces {
		slices.Sort(members) // a container's first process is its oldest, as a rule
		pid, table, err := firstTable(members)
		if err != nil {
			return grafts, err
		}
		ns := namespace{name: name, pid: pid, table: table, host: host, client: c, dirs: dirs, dead: dead, live: live}
		for _, m := range table {
			if m.FSType == fsType && slices.Contains(dead, deviceOf(m)) {
				seen[deviceOf(m)] = true
			}
			if !ns.isDead(m) || ns.isReplaced(m) || done[m.ID] {
				continue
			}
			err := ns.replace(m)
			if errors.Is(err, errChanged) {
				continue // the next search sees what it is now
			}
			for _, part := range append(ns.submounts(m), m) {
				if ns.isDead(part) && (err == nil || part == m) {
					done[part.ID] = true
					grafts = append(grafts, Graft{PID: pid, Path: part.Mountpoint, Dir: strings.TrimPrefix(part.Root, "/"), Err: err})
				}
			}
		}
	}
	c.deaths.healed(seen)
	return grafts, nil
}

// firstTable returns the mount table of the first process that has not ended
// meanwhile; none if none is left.
func firstTable(members []int) (pid int, table []*mountinfo.Info, err error) {
	for _, pid := range members {
		f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if ended(err) || errors.Is(err, unix.EINVAL) { // EINVAL: nobody has waited for it yet
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		table, err := mountinfo.GetMountsFromReader(f, nil)
		f.Close()
		if err != nil {
			return 0, nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		if len(table) > 0 {
			return pid, table, nil
		}
	}
	return 0, nil, nil
}

// namespace is a mount namespace, as one of its processes sees it, in which mounts
// of a client are to be replaced.
type namespace struct {
	name  string
	pid   int
	table []*mountinfo.Info
	// host is the mount table of this process.
	host   []*mountinfo.Info
	client *Client
	dirs   []string
	// dead are the devices of the client's mounts that have died, live is that of
	// the one that is.
	dead []uint64
	live uint64
}

// isDead tells whether a mount is of one of the directories, by a client that died.
func (ns *namespace) isDead(m *mountinfo.Info) bool {
	within := func(dir string) bool {
		root := path.Join("/", dir)
		return m.Root == root || strings.HasPrefix(m.Root, root+"/")
	}
	return m.FSType == fsType && deviceOf(m) != ns.live && slices.Contains(ns.dead, deviceOf(m)) && slices.ContainsFunc(ns.dirs, within)
}

// isReplaced tells whether another mount of the client covers a dead one. That may
// have died as well since.
func (ns *namespace) isReplaced(dead *mountinfo.Info) bool {
	return slices.ContainsFunc(ns.covers(dead), func(m *mountinfo.Info) bool {
		return m.FSType == fsType && (deviceOf(m) == ns.live || ns.isDead(m))
	})
}

// isHalf tells whether the live mount lies right beneath a dead one, since not all
// that is mounted in that could be mounted in it.
func (ns *namespace) isHalf(dead *mountinfo.Info) bool {
	return slices.ContainsFunc(ns.table, func(m *mountinfo.Info) bool {
		return m.ID == dead.Parent && m.Mountpoint == dead.Mountpoint && m.FSType == fsType && deviceOf(m) == ns.live
	})
}

func deviceOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// covers are the mounts on the root of a mount, which hide all of it, the topmost
// last.
func (ns *namespace) covers(m *mountinfo.Info) (covers []*mountinfo.Info) {
	for _, above := range ns.table {
		if above.Parent == m.ID && above.Mountpoint == m.Mountpoint {
			return append([]*mountinfo.Info{above}, ns.covers(above)...)
		}
	}
	return nil
}

// submounts are the mounts in the directories below a mount, in the order in which
// they have to be made. What is on its covers stays where it is.
func (ns *namespace) submounts(m *mountinfo.Info) (submounts []*mountinfo.Info) {
	for _, sub := range ns.table {
		if sub.Parent != m.ID || sub.Mountpoint == m.Mountpoint {
			continue
		}
		for _, layer := range append([]*mountinfo.Info{sub}, ns.covers(sub)...) {
			submounts = append(append(submounts, layer), ns.submounts(layer)...)
		}
	}
	return submounts
}

// replace puts the live mount in a dead one's place. First it is mounted beneath
// the dead one, then that is taken away: there is no moment in which the container
// sees neither, and the empty directory below.
func (ns *namespace) replace(dead *mountinfo.Info) error {
	if ns.isHalf(dead) {
		return errors.New("what is mounted in it could not be mounted anew")
	}
	fresh, err := ns.clone(dead)
	if err != nil {
		return err
	}
	defer unix.Close(fresh)
	var submounts []submount
	for _, m := range ns.submounts(dead) {
		fd, err := ns.clone(m)
		if err != nil {
			return fmt.Errorf("%s, which is mounted in it, cannot be mounted anew: %w", m.Mountpoint, err)
		}
		defer unix.Close(fd)
		submounts = append(submounts, submount{fd: fd, path: strings.TrimPrefix(m.Mountpoint, dead.Mountpoint+"/")})
	}
	top := dead
	covers := ns.covers(dead)
	if len(covers) > 0 {
		top = covers[len(covers)-1]
	}
	return ns.inside(func(root int) error {
		place, err := openPlace(root, top)
		if err != nil {
			return err
		}
		defer place.close()
		return place.graft(fresh, submounts, len(covers) > 0)
	})
}

// submount is a mount to be made in a directory of another.
type submount struct {
	fd   int
	path string
}

// clone returns a mount of the same directory and with the same flags that is
// attached nowhere. What a client that died has served comes from the client that
// runs; anything else from where this process sees it.
func (ns *namespace) clone(m *mountinfo.Info) (fd int, err error) {
	dir, err := ns.open(m)
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir)
	fd, err = unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, fmt.Errorf("open_tree, which takes Linux 5.2: %w", err)
	}
	if err := copyFlags(fd, m); err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (ns *namespace) open(m *mountinfo.Info) (fd int, err error) {
	if name, removed := strings.CutSuffix(m.Root, deleted); removed {
		return 0, fmt.Errorf("directory %s was removed", name)
	}
	if ns.isDead(m) {
		return openBelow(ns.client.Path(), m.Root, ns.live)
	}
	for _, h := range slices.Backward(ns.host) { // what was mounted later hides what was there
		if deviceOf(h) != deviceOf(m) || h.FSType != m.FSType {
			continue
		}
		if rel, err := filepath.Rel(h.Root, m.Root); err == nil && filepath.IsLocal(rel) {
			if fd, err := openBelow(h.Mountpoint, rel, deviceOf(m)); err == nil {
				return fd, nil
			}
		}
	}
	return 0, fmt.Errorf("its file system, of type %s, is mounted nowhere else", m.FSType)
}

// deleted is what the kernel puts behind the root of a mount that was removed.
const deleted = "//deleted"

// openBelow opens a file or directory of the file system that is mounted on a path,
// through no symlink.
func openBelow(mountPoint, name string, device uint64) (fd int, err error) {
	root, err := unix.Open(mountPoint, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: mountPoint, Err: err}
	}
	defer unix.Close(root)
	name = path.Clean(strings.TrimPrefix(name, "/"))
	var stat unix.Stat_t
	if name == "." {
		fd, err = unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	} else {
		fd, err = unix.Openat2(root, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
	}
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: filepath.Join(mountPoint, name), Err: err}
	}
	if err = unix.Fstat(fd, &stat); err == nil && stat.Dev != device {
		err = errors.New("it is of another file system by now")
	}
	if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return 0, &fs.PathError{Op: "open", Path: filepath.Join(mountPoint, name), Err: err}
	}
	return fd, nil
}

// mountFlags are the flags of a single mount, as mountinfo calls them. Those of
// access times exclude each other; one of them is always set anew.
var mountFlags = map[string]uint64{
	"ro":          unix.MOUNT_ATTR_RDONLY,
	"nosuid":      unix.MOUNT_ATTR_NOSUID,
	"nodev":       unix.MOUNT_ATTR_NODEV,
	"noexec":      unix.MOUNT_ATTR_NOEXEC,
	"noatime":     unix.MOUNT_ATTR_NOATIME,
	"nodiratime":  unix.MOUNT_ATTR_NODIRATIME,
	"nosymfollow": unix.MOUNT_ATTR_NOSYMFOLLOW,
}

// copyFlags gives a mount that is attached nowhere the flags of another. It is
// private, as Docker makes those of containers.
func copyFlags(fd int, m *mountinfo.Info) error {
	attributes := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR__ATIME, Propagation: unix.MS_PRIVATE}
	strict := true
	for option := range strings.SplitSeq(m.Options, ",") {
		attributes.Attr_set |= mountFlags[option]
		strict = strict && option != "relatime" && option != "noatime"
	}
	if strict {
		attributes.Attr_set |= unix.MOUNT_ATTR_STRICTATIME
	}
	for _, flag := range mountFlags {
		if flag != unix.MOUNT_ATTR_NOATIME {
			attributes.Attr_clr |= flag &^ attributes.Attr_set
		}
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attributes); err != nil {
		return fmt.Errorf("mount_setattr, which takes Linux 5.12: %w", err)
	}
	return nil
}

// inside calls fn with the root directory of the namespace's process, in the
// namespace. fn sees another file system: it has to do with
// descriptors, and without what the runtime may want to open.
func (ns *namespace) inside(fn func(root int) error) error {
	dir := fmt.Sprintf("/proc/%d", ns.pid)
	root, err := unix.Open(dir+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir + "/root", Err: err}
	}
	defer unix.Close(root)
	nsfs, err := unix.Open(dir+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir + "/ns/mnt", Err: err}
	}
	defer unix.Close(nsfs)
	if name, err := os.Readlink(dir + "/ns/mnt"); err != nil || name != ns.name {
		return errChanged
	}
	return onOwnThread(func() error {
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(nsfs, unix.CLONE_NEWNS)
		}
		if err != nil {
			return fmt.Errorf("enter the container's mount namespace: %w", err)
		}
		return fn(root)
	})
}

// onOwnThread calls fn on a thread that ends behind it.
func onOwnThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: so the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end, and is what /proc/self shows. While it waits
			// here, fn gets another.
			defer runtime.UnlockOSThread()
			done <- onOwnThread(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}

// errChanged says that a container has changed its mounts, or ended, while they were
// looked at.
var errChanged = errors.New("its mounts have changed meanwhile")

// place is where a mount is to be replaced.
type place struct {
	// top is the root of the topmost mount there.
	top int
	// dir is the directory that has the mount point, and name its name.
	dir  int
	name string
}

// openPlace finds a mount from the root directory of a process. What a path leads to
// by now is compared with what the mount table had.
func openPlace(root int, m *mountinfo.Info) (place, error) {
	dir, err := openInside(root, path.Dir(m.Mountpoint))
	if err != nil {
		return place{}, err
	}
	top, err := openInside(root, m.Mountpoint)
	if err != nil {
		unix.Close(dir)
		return place{}, err
	}
	p := place{top: top, dir: dir, name: path.Base(m.Mountpoint)}
	var stat unix.Statx_t
	// A dead mount is not asked: the kernel alone knows its number.
	err = unix.Statx(top, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &stat)
	if err != nil || stat.Mask&unix.STATX_MNT_ID == 0 || stat.Mnt_id != uint64(m.ID) {
		p.close()
		return place{}, errors.Join(errChanged, err)
	}
	return p, nil
}

func openInside(root int, name string) (fd int, err error) {
	fd, err = unix.Openat2(root, path.Join(".", name), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

func (p place) close() {
	unix.Close(p.top)
	unix.Close(p.dir)
}

// mountBeneath is whether mounts may be put beneath others, as Linux 6.5 can.
var mountBeneath = true

// moveMountBeneath is MOVE_MOUNT_BENEATH of move_mount(2).
const moveMountBeneath = 0x200

const emptyPaths = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH

// graft puts the fresh mount beneath the topmost one, and takes that away unless it
// is there to stay. A kernel that cannot do this has the fresh one on top.
func (p place) graft(fresh int, submounts []submount, topStays bool) error {
	err := error(unix.EINVAL)
	if mountBeneath {
		err = unix.MoveMount(fresh, "", p.top, "", emptyPaths|moveMountBeneath)
	}
	if errors.Is(err, unix.EINVAL) {
		if topStays || len(submounts) > 0 {
			return fmt.Errorf("other mounts lie on it and in it; move_mount, which takes Linux 6.5 for these: %w", err)
		}
		err = unix.MoveMount(fresh, "", p.top, "", emptyPaths)
		topStays = true
	}
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	for _, m := range submounts {
		if err := m.attach(fresh); err != nil {
			return fmt.Errorf("mount %s in it: %w", m.path, err)
		}
	}
	if topStays {
		return nil
	}
	if err := unix.Fchdir(p.dir); err != nil {
		return fmt.Errorf("go to the mount point: %w", err)
	}
	if err := unix.Unmount(p.name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount the dead one: %w", err)
	}
	return nil
}

func (m submount) attach(parent int) error {
	target, err := unix.Openat2(parent, m.path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return unix.MoveMount(m.fd, "", target, "", emptyPaths)
}
