package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// deaths are the mounts of a client whose process has died, which containers may
// still have bound. Each stays mounted in the client's directory, in dead-DEVICE:
// so the kernel gives its st_dev, by which it is recognised in a container, to no
// other mount, and the driver that comes next finds it in the mount table.
type deaths struct {
	dir string

	mu sync.Mutex
	// noticed is when this driver has noticed the death of a device.
	noticed map[uint64]time.Time
}

const (
	deadPrefix = "dead-"
	// deathMemory is for how long a death is known that no container is seen to
	// suffer from: one may just be starting.
	deathMemory = time.Minute
)

func (d *deaths) keptAt(device uint64) string {
	return filepath.Join(d.dir, fmt.Sprint(deadPrefix, device))
}

// load finds what an earlier driver has kept.
func (d *deaths) load() error {
	table, err := mountinfo.GetMounts(mountinfo.FSTypeFilter(fsType))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range table {
		if m.Mountpoint == d.keptAt(deviceOf(m)) {
			d.noticed[deviceOf(m)] = time.Now()
		}
	}
	return nil
}

// keep keeps a mount that is dead and about to be taken off its path.
func (d *deaths) keep(mountPoint string, device uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, found := d.noticed[device]; found {
		return nil
	}
	kept := d.keptAt(device)
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(mountPoint, kept, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: kept, Err: err}
	}
	d.noticed[device] = time.Now()
	return nil
}

// healed lets go of deaths that no container is seen to suffer from.
func (d *deaths) healed(seen map[uint64]bool) {
	d.drop(func(device uint64) bool { return !seen[device] && time.Since(d.noticed[device]) > deathMemory })
}

// clear lets go of all.
func (d *deaths) clear() { d.drop(func(uint64) bool { return true }) }

func (d *deaths) drop(which func(device uint64) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for device := range d.noticed {
		if !which(device) {
			continue
		}
		// One that cannot be taken away is found by the next driver.
		if err := unix.Unmount(d.keptAt(device), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
			_ = os.Remove(d.keptAt(device))
		}
		delete(d.noticed, device)
	}
}

func (d *deaths) has(device uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, found := d.noticed[device]
	return found
}

func (d *deaths) none() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.noticed) == 0
}

// isKept tells the name of a directory that a dead mount is, or was, kept in.
func isKept(name string) bool { return strings.HasPrefix(name, deadPrefix) }

// removeKept removes directories in which nothing is kept any more.
func (d *deaths) removeKept() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !isKept(e.Name()) }) {
		if err := os.Remove(filepath.Join(d.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
