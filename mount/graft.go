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
	"sync"
	"time"

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
// what is mounted above and below them. expected are the paths at which a process
// has mounts: one that is lost has been taken away by the kernel, with the death, and
// the directory below it must not be shown instead. Mounts that were replaced
// already are not told of again. Open files stay broken. The error is about the search;
// those of single mounts are in the list.
func (cs *Clients) Graft(ctx context.Context, key string, dirs []string, expected func(pid int) []string) ([]Graft, error) {
	cs.mu.Lock()
	c, found := cs.clients[key]
	cs.mu.Unlock()
	if !found || c.deaths.none() {
		return nil, nil
	}
	c.graftable.Store(&dirs)
	namespaces, err := mountNamespaces()
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	delete(namespaces, own)
	s := &search{clients: cs, client: c.Client, expected: expected, seen: map[uint64]bool{}}
	s.run(ctx, namespaces)
	s.mu.Lock() // one that hung may go on
	defer s.mu.Unlock()
	if !s.blind {
		c.deaths.healed(s.seen)
	}
	return slices.Clone(s.grafts), nil
}

// search looks for dead mounts of a client, in all namespaces at once: in one of them
// a file system may hang.
type search struct {
	clients  *Clients
	client   *Client
	expected func(pid int) []string

	mu     sync.Mutex
	grafts []Graft
	// seen are the devices that containers have.
	seen map[uint64]bool
	// blind tells that not all of them were seen.
	blind bool
}

const (
	// searchTime bounds the work in one namespace.
	searchTime = 5 * time.Second
	// searchesAtOnce bounds the namespaces that are looked at, at once.
	searchesAtOnce = 16
)

func (s *search) run(ctx context.Context, namespaces map[string][]int) {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	slots := make(chan struct{}, searchesAtOnce)
	var wg sync.WaitGroup
	for name, members := range namespaces {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s.lookInto(ctx, name, members)
		})
	}
	wg.Wait()
}

// lookInto heals one namespace. If that hangs, it is left alone until it does not.
func (s *search) lookInto(ctx context.Context, name string, members []int) {
	if _, busy := s.clients.searched.LoadOrStore(name, true); busy {
		s.note(nil, nil, true)
		return
	}
	done := make(chan struct{})
	first := members[0]
	go func() {
		defer close(done)
		defer s.clients.searched.Delete(name)
		pid, table, err := firstTable(members)
		if err != nil {
			s.clients.config.Log.Debug("mounts of a process cannot be read", "err", err)
			s.note(nil, nil, true)
			return
		}
		ns := newNamespace(s, name, pid, table)
		grafts, seen, err := ns.heal()
		if err != nil {
			s.clients.config.Log.Warn("mounts of a container cannot be healed", "pid", pid, "err", err)
		}
		s.note(grafts, seen, err != nil)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.clients.config.Log.Warn("a file system in a container hangs; it is healed when that answers", "pid", first)
		s.note(nil, nil, true)
	}
}

func (s *search) note(grafts []Graft, seen []uint64, blind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grafts = append(s.grafts, grafts...)
	for _, device := range seen {
		s.seen[device] = true
	}
	s.blind = s.blind || blind
}

// firstTable returns the mount table of the first process that has not ended
// meanwhile, rather of one that sees all of its namespace; none if none is left.
func firstTable(members []int) (pid int, table []*mountinfo.Info, err error) {
	slices.Sort(members) // a container's first process is its oldest, as a rule
	whole := func(pid int) bool {
		root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
		return err == nil && root == "/"
	}
	if i := slices.IndexFunc(members, whole); i > 0 {
		members = slices.Concat(members[i:], members[:i])
	}
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
// are to be replaced.
type namespace struct {
	name  string
	pid   int
	table []*mountinfo.Info
	// children are the mounts of the table by their parent's id.
	children map[int][]*mountinfo.Info
	client   *Client
	clients  []*Client
	expected func(pid int) []string
}

func newNamespace(s *search, name string, pid int, table []*mountinfo.Info) *namespace {
	ns := &namespace{name: name, pid: pid, table: table, children: map[int][]*mountinfo.Info{}, client: s.client, expected: s.expected}
	for _, m := range table {
		ns.children[m.Parent] = append(ns.children[m.Parent], m)
	}
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	for _, c := range s.clients.clients {
		ns.clients = append(ns.clients, c.Client)
	}
	return ns
}

// maxDead is how many dead mounts a namespace may have: it is a container that makes
// them, and the driver that has the work.
const maxDead = 1000

// heal replaces the client's dead mounts. seen are those that are there.
func (ns *namespace) heal() (grafts []Graft, seen []uint64, err error) {
	done := map[int]bool{}
	for _, m := range ns.table {
		if ns.owner(m) != ns.client {
			continue
		}
		if seen = append(seen, deviceOf(m)); len(seen) > maxDead {
			return grafts, seen, fmt.Errorf("it has more than %d dead mounts", maxDead)
		}
		if done[m.ID] || ns.isReplaced(m) {
			continue
		}
		err := ns.replace(m)
		if errors.Is(err, errChanged) {
			continue // the next search sees what it is now
		}
		for _, part := range append(ns.submounts(m), m) {
			if ns.owner(part) == ns.client && (err == nil || part == m) {
				done[part.ID] = true
				grafts = append(grafts, Graft{PID: ns.pid, Path: part.Mountpoint, Dir: strings.TrimPrefix(part.Root, "/"), Err: err})
			}
		}
	}
	return grafts, seen, nil
}

// owner is the client whose dead mount a mount is, of a directory that may be
// replaced; nil if it is none.
func (ns *namespace) owner(m *mountinfo.Info) *Client {
	if m.FSType != fsType {
		return nil
	}
	for _, c := range ns.clients {
		dirs := c.graftable.Load()
		if dirs == nil || !c.deaths.has(deviceOf(m)) {
			continue
		}
		within := func(dir string) bool {
			root := path.Join("/", dir)
			return m.Root == root || strings.HasPrefix(m.Root, root+"/")
		}
		if slices.ContainsFunc(*dirs, within) {
			return c
		}
	}
	return nil
}

// isLive tells whether a mount is of the client's process that runs.
func (ns *namespace) isLive(m *mountinfo.Info) bool {
	return m.FSType == fsType && deviceOf(m) == ns.client.device.Load()
}

// isReplaced tells whether another mount of the client covers a dead one. That may
// have died as well since.
func (ns *namespace) isReplaced(dead *mountinfo.Info) bool {
	return slices.ContainsFunc(ns.covers(dead), func(m *mountinfo.Info) bool { return ns.isLive(m) || ns.owner(m) == ns.client })
}

// isHalf tells whether the live mount lies right beneath a dead one: a driver has
// ended before it could take that away, or not all that is mounted in it could be
// mounted anew.
func (ns *namespace) isHalf(dead *mountinfo.Info) bool {
	return slices.ContainsFunc(ns.table, func(m *mountinfo.Info) bool {
		return m.ID == dead.Parent && m.Mountpoint == dead.Mountpoint && ns.isLive(m)
	})
}

func deviceOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// covers are the mounts on the root of a mount, which hide all of it, the topmost
// last.
func (ns *namespace) covers(m *mountinfo.Info) (covers []*mountinfo.Info) {
	for _, above := range ns.children[m.ID] {
		if above.Mountpoint == m.Mountpoint {
			return append([]*mountinfo.Info{above}, ns.covers(above)...)
		}
	}
	return nil
}

// submounts are the mounts in the directories below a mount, in the order in which
// they have to be made. What is on its covers stays where it is.
func (ns *namespace) submounts(m *mountinfo.Info) (submounts []*mountinfo.Info) {
	for _, sub := range ns.children[m.ID] {
		if sub.Mountpoint == m.Mountpoint {
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
	covers, subs := ns.covers(dead), ns.submounts(dead)
	switch half := ns.isHalf(dead); {
	case dead.Mountpoint == "/":
		return errors.New("it is the root directory of a process")
	case half && len(covers)+len(subs) > 0:
		return errors.New("what is mounted in it could not be mounted anew")
	case half:
		return ns.inside(dead, place.takeAway)
	}
	if len(covers) > 0 && !ns.isOwnUser() {
		return errLocked
	}
	if lost := ns.lost(dead); lost != "" {
		return fmt.Errorf("what was mounted on %s was lost while the client was dead", lost)
	}
	fresh, err := ns.clone(dead)
	if err != nil {
		return err
	}
	defer unix.Close(fresh)
	g := graft{fresh: fresh, covered: len(covers) > 0}
	for _, m := range subs {
		fd, err := ns.clone(m)
		if err != nil {
			return fmt.Errorf("%s, which is mounted in it, cannot be mounted anew: %w", m.Mountpoint, err)
		}
		defer unix.Close(fd)
		g.submounts = append(g.submounts, submount{fd: fd, path: strings.TrimPrefix(m.Mountpoint, dead.Mountpoint+"/")})
	}
	top := dead
	if len(covers) > 0 {
		top = covers[len(covers)-1]
	}
	return ns.inside(top, g.into)
}

// isOwnUser tells whether the process is in the user namespace of this one.
func (ns *namespace) isOwnUser() bool {
	own, ownErr := os.Readlink("/proc/self/ns/user")
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", ns.pid))
	return ownErr == nil && err == nil && own == its
}

// lost is where something was mounted in a dead mount and is not any more: when a
// process looks for a name in it and its client does not answer, the kernel may take
// the mounts on that name away.
func (ns *namespace) lost(dead *mountinfo.Info) string {
	if ns.expected == nil {
		return ""
	}
	for _, name := range ns.expected(ns.pid) {
		inside := strings.HasPrefix(name, dead.Mountpoint+"/")
		if inside && !slices.ContainsFunc(ns.table, func(m *mountinfo.Info) bool { return m.Mountpoint == name }) {
			return name
		}
	}
	return ""
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
	if owner := ns.owner(m); owner != nil {
		fd, err := openBelow(owner.Path(), m.Root, owner.device.Load())
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, errOther) {
			return 0, errors.Join(errChanged, err) // it has died again
		}
		return fd, err
	}
	host, err := mountinfo.GetMounts(mountinfo.FSTypeFilter(m.FSType))
	if err != nil {
		return 0, err
	}
	for _, h := range slices.Backward(host) { // what was mounted later hides what was there
		if deviceOf(h) != deviceOf(m) {
			continue
		}
		if rel, err := filepath.Rel(h.Root, m.Root); err == nil && filepath.IsLocal(rel) {
			if fd, err := openBelow(h.Mountpoint, rel, deviceOf(m)); err == nil {
				return fd, nil
			}
		}
	}
	if slices.ContainsFunc(ns.clients, func(c *Client) bool { return c.deaths.has(deviceOf(m)) }) {
		return 0, errChanged // its own client is dead as well, and about to be revived
	}
	return 0, fmt.Errorf("its file system, of type %s, is mounted nowhere else", m.FSType)
}

// errOther says that another file system is mounted where one was.
var errOther = errors.New("it is of another file system by now")

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
		err = errOther
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

// inside calls fn with the place of a mount, in the namespace. fn sees another file
// system: it has to do with descriptors, and without what the runtime may want to open.
func (ns *namespace) inside(m *mountinfo.Info, fn func(place) error) error {
	dir := fmt.Sprintf("/proc/%d", ns.pid)
	root, err := unix.Open(dir+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Join(errChanged, err)
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
	p, err := openPlace(root, m)
	if err != nil {
		return err
	}
	defer p.close()
	return onOwnThread(func() error {
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(nsfs, unix.CLONE_NEWNS)
		}
		if err != nil {
			return fmt.Errorf("enter the container's mount namespace: %w", err)
		}
		return fn(p)
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

// place is where a mount is.
type place struct {
	// id is the mount's, and top its root.
	id, top int
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
	p := place{id: m.ID, top: top, dir: dir, name: path.Base(m.Mountpoint)}
	if !isMount(top, "", p.id) {
		p.close()
		return place{}, errChanged
	}
	return p, nil
}

// isMount tells whether a file is on the mount of an id. A dead mount is not asked:
// the kernel alone knows its number.
func isMount(dir int, name string, id int) bool {
	var stat unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &stat)
	return err == nil && stat.Mask&unix.STATX_MNT_ID != 0 && stat.Mnt_id == uint64(id)
}

func openInside(root int, name string) (fd int, err error) {
	fd, err = unix.Openat2(root, path.Join(".", name), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOTCONN) {
		return 0, errChanged // it is in another dead mount, which is healed first
	}
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

func (p place) close() {
	unix.Close(p.top)
	unix.Close(p.dir)
}

// takeAway unmounts what is on top.
func (p place) takeAway() error {
	if !isMount(p.dir, p.name, p.id) {
		return errChanged
	}
	if err := unix.Fchdir(p.dir); err != nil {
		return fmt.Errorf("go to the mount point: %w", err)
	}
	if err := unix.Unmount(p.name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount the dead one: %w", err)
	}
	return nil
}

// checkLocks wants the mount on top to be one that its container may change as it
// likes. A user namespace locks the flags of mounts that it got from outside, and
// what is mounted in them, and a fresh mount would be without these locks.
func (p place) checkLocks() error {
	probe, err := unix.OpenTree(p.top, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		return errLocked
	}
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(probe)
	// The flags of access times are always locked, and protect nothing.
	free := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(probe, "", unix.AT_EMPTY_PATH, free); errors.Is(err, unix.EPERM) {
		return errLocked
	} else if err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

var errLocked = errors.New("a user namespace in the container has locked it")

// mountBeneath is whether mounts may be put beneath others, as Linux 6.5 can.
var mountBeneath = true

// moveMountBeneath is MOVE_MOUNT_BENEATH of move_mount(2).
const moveMountBeneath = 0x200

const emptyPaths = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH

// graft is a fresh mount and what is to be mounted in it.
type graft struct {
	fresh     int
	submounts []submount
	// covered tells that the topmost mount is not the dead one, and stays.
	covered bool
}

// into puts the fresh mount beneath the topmost one, and takes that away if it is the
// dead one. A kernel that cannot do this has the fresh one on top.
func (g graft) into(p place) error {
	if err := p.checkLocks(); err != nil {
		return err
	}
	err := error(unix.EINVAL)
	if mountBeneath {
		err = unix.MoveMount(g.fresh, "", p.top, "", emptyPaths|moveMountBeneath)
	}
	onTop := errors.Is(err, unix.EINVAL)
	if onTop && (g.covered || len(g.submounts) > 0) {
		return fmt.Errorf("other mounts lie on it or in it; move_mount, which takes Linux 6.5 for these: %w", err)
	}
	if onTop {
		err = unix.MoveMount(g.fresh, "", p.top, "", emptyPaths)
	}
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	for _, m := range g.submounts {
		if err := m.attach(g.fresh); err != nil {
			return fmt.Errorf("mount %s in it: %w", m.path, err)
		}
	}
	if onTop || g.covered {
		return nil
	}
	return p.takeAway()
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
