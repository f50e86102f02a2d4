package mount

import (
	"fmt"
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
// nor does a copy of all of it in another namespace.
func (cs *Clients) Bound(key, dir string) (pids []int, err error) {
	cs.mu.Lock()
	c, found := cs.clients[key]
	cs.mu.Unlock()
	if !found {
		return nil, nil
	}
	namespaces, err := mountNamespaces()
	if err != nil {
		return nil, err
	}
	for _, pid := range namespaces {
		bound, err := boundIn(pid, c.device.Load(), path.Join("/", dir))
		if err != nil {
			return nil, err
		}
		if bound {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// mountNamespaces returns a process of each mount namespace that has one.
func mountNamespaces() (map[string]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	namespaces := map[string]int{}
	for _, dir := range dirs {
		namespace, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil {
			continue // it has ended, and its namespace with it if nobody else is in there
		}
		if namespaces[namespace], err = strconv.Atoi(filepath.Base(dir)); err != nil {
			return nil, err
		}
	}
	return namespaces, nil
}

func boundIn(pid int, device uint64, root string) (bool, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return false, nil // ended meanwhile
	}
	defer f.Close()
	table, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		sees := unix.Mkdev(uint32(m.Major), uint32(m.Minor)) == device && (m.Root == root || strings.HasPrefix(m.Root, root+"/"))
		return !sees, sees
	})
	if err != nil {
		// A process that ends while its table is read gives half a table.
		if _, gone := os.Stat(fmt.Sprintf("/proc/%d", pid)); gone != nil {
			return false, nil
		}
		return false, fmt.Errorf("read the mounts of process %d: %w", pid, err)
	}
	return len(table) > 0, nil
}
