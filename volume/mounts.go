package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mounts counts who on this node has which volume mounted. Each volume in use
// has a file in the run directory, so that a restarted driver counts on.
type mounts struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex
	byVolume map[string]mounted
}

// mounted is a volume in use on this node.
type mounted struct {
	Volume string `json:"volume"`
	ID     string `json:"id"`
	// Store and Client are the store's address and the client's key.
	Store  string `json:"store"`
	Client string `json:"client"`
	// Dir is the volume's directory relative to the client's mount.
	Dir string `json:"dir"`
	// Users are Docker's mount ids. Docker repeats the id of a running container
	// for docker cp, so each has a count.
	Users map[string]user `json:"users"`
}

type user struct {
	Count int `json:"count"`
	// Since is when the last mount was, in nanoseconds since the boot.
	Since int64 `json:"since"`
}

// lostUsers stands for the users of a volume whose file was damaged.
const lostUsers = "unknown users (the file of its mounts was damaged)"

// bootIDFile changes with every boot.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// openMounts reads what an earlier driver has counted since the boot. What is
// from before the boot is gone with its containers, and is dropped. Files that
// are damaged are set aside and told to log.
func openMounts(dir string, log *slog.Logger) (*mounts, error) {
	m := &mounts{dir: dir, log: log, byVolume: map[string]mounted{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := dropOtherBoots(dir, log); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		if err := m.load(name); err != nil {
			aside, asideErr := setAside(m.file(name))
			err = errors.Join(err, asideErr)
			log.Error("mounts of a volume are not known; it counts as in use until the driver is started anew", "volume", name, "file", aside, "err", err)
			m.byVolume[name] = mounted{Volume: name, Users: map[string]user{lostUsers: {Count: 1, Since: sinceBoot()}}}
		}
	}
	return m, nil
}

// dropOtherBoots drops what is from before the boot. If that cannot be known, since
// the file that tells is damaged or gone, nothing is dropped: containers may have it.
func dropOtherBoots(dir string, log *slog.Logger) error {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "boot-id")
	last, err := os.ReadFile(file)
	switch {
	case err == nil && string(last) == string(boot):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(file, boot)
	case err != nil || len(last) != len(boot):
		aside, asideErr := setAside(file)
		log.Error("it is not known which mounts are from before the boot; all of them count", "file", aside, "err", errors.Join(err, asideErr))
		return replaceFile(file, boot)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"+recordSuffix+"*"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return replaceFile(file, boot)
}

func (m *mounts) load(name string) error {
	data, err := os.ReadFile(m.file(name))
	if err != nil {
		return err
	}
	var v mounted
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if v.Volume != name || len(v.Users) == 0 {
		return fmt.Errorf("it tells of %d users of volume %q", len(v.Users), v.Volume)
	}
	m.byVolume[name] = v
	return nil
}

func (m *mounts) file(name string) string { return filepath.Join(m.dir, name+recordSuffix) }

// add counts one more mount of v by id.
func (m *mounts) add(v mounted, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, found := m.byVolume[v.Volume]; found {
		v.Users = maps.Clone(old.Users)
	} else {
		v.Users = map[string]user{}
	}
	v.Users[id] = user{Count: v.Users[id].Count + 1, Since: sinceBoot()}
	return m.save(v)
}

// drop counts one mount by id less, or all with all set. last tells that it was
// the last of the volume; to drop what is not counted does nothing.
func (m *mounts) drop(name, id string, all bool) (v mounted, last bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, found := m.byVolume[name]
	u, counted := v.Users[id]
	if !found || !counted {
		return v, false, nil
	}
	v.Users = maps.Clone(v.Users)
	if u.Count--; u.Count > 0 && !all {
		v.Users[id] = u
	} else {
		delete(v.Users, id)
	}
	return v, len(v.Users) == 0, m.save(v)
}

// save writes v, or removes it when nobody uses it. m.mu is held.
func (m *mounts) save(v mounted) error {
	if len(v.Users) == 0 {
		if err := os.Remove(m.file(v.Volume)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(m.byVolume, v.Volume)
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := m.replace(v.Volume, data); err != nil {
		return fmt.Errorf("note the mount of %s: %w", v.Volume, err)
	}
	m.byVolume[v.Volume] = v
	return nil
}

// replace writes the file of a volume. Should the directory be gone, all of it is
// written anew.
func (m *mounts) replace(name string, data []byte) error {
	err := replaceFile(m.file(name), data)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.log.Warn("directory of the mounts was gone, and is made anew", "dir", m.dir)
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return err
	}
	files := map[string][]byte{filepath.Join(m.dir, "boot-id"): boot}
	for other, v := range m.byVolume {
		if files[m.file(other)], err = json.Marshal(v); err != nil {
			return err
		}
	}
	files[m.file(name)] = data
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	for file, data := range files {
		if err := replaceFile(file, data); err != nil {
			return err
		}
	}
	return nil
}

// get returns a volume in use.
func (m *mounts) get(name string) (v mounted, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, found = m.byVolume[name]
	return v, found
}

func (m *mounts) list() []mounted {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.byVolume))
}

// ids are the users of v, sorted.
func (v mounted) ids() []string { return slices.Sorted(maps.Keys(v.Users)) }

// SinceBoot is the time since the boot, suspension included. No clock that somebody
// may set is in it.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for unknown clocks only
	return time.Duration(ts.Nano())
}

func sinceBoot() int64 { return SinceBoot().Nanoseconds() }
