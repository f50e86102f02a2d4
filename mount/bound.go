package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Bound tells which processes of this node see a directory of a client's mount,
// or something below it, bound in their mount namespace: containers that use
// it. One process stands for each namespace. The mount itself does not count,
// nor does a copy of all of it in another namespace. In doubt a mount counts:
// that of an earlier, dead client does, and of a client that is not known, that
// of every glusterfs.
func (cs *Clients) Bound(key, dir string) (pids []int, err error) {
	cs.mu.Lock()
	c, found := cs.clients[key]
	cs.mu.Unlock()
	source := ""
	if found {
		source = c.source.remote()
	}
	root := path.Join("/", dir)
	sees := func(m *mountinfo.Info) bool {
		return m.FSType == fsType && strings.HasSuffix(m.Source, source) && (m.Root == root || strings.HasPrefix(m.Root, root+"/"))
	}
	namespaces, err := mountNamespaces()
	if err != nil {
		return nil, err
	}
	for _, members := range namespaces {
		pid, err := firstThatSees(members, sees)
		if err != nil {
			return nil, err
		}
		if pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// mountNamespaces returns the processes of each mount namespace.
func mountNamespaces() (map[string][]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	namespaces := map[string][]int{}
	for _, dir := range dirs {
		namespace, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if ended(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		namespaces[namespace] = append(namespaces[namespace], pid)
	}
	return namespaces, nil
}

// firstThatSees asks the first process of a namespace that has not ended
// meanwhile; 0 if it does not see such a mount, or if none is left.
func firstThatSees(members []int, sees func(*mountinfo.Info) bool) (pid int, err error) {
	for _, pid := range members {
		f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if ended(err) || errors.Is(err, unix.EINVAL) { // EINVAL: nobody has waited for it yet
			continue
		}
		if err != nil {
			return 0, err
		}
		table, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) { return !sees(m), sees(m) })
		f.Close()
		switch {
		case err != nil:
			return 0, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		case len(table) > 0:
			return pid, nil
		default:
			return 0, nil
		}
	}
	return 0, nil
}
