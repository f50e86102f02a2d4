package mount

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// deaths are the mounts of a client whose process has died, by their st_dev. As
// long as a container has one bound, the kernel gives its number to no other. They
// are in a file, for the driver that comes next.
type deaths struct {
	file string

	mu   sync.Mutex
	list []death
}

type death struct {
	device uint64
	// noticed is when this driver has noticed it.
	noticed time.Time
}

// deathMemory is for how long a death is known that no container is seen to suffer
// from: one may just be starting.
const deathMemory = time.Minute

// load reads what an earlier driver has noticed. A file that is damaged is none:
// containers that it was about need a restart.
func (d *deaths) load() error {
	data, err := os.ReadFile(d.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var devices []uint64
	if err == nil {
		err = json.Unmarshal(data, &devices)
	}
	for _, device := range devices {
		d.list = append(d.list, death{device: device, noticed: time.Now()})
	}
	return err
}

// add notes the death of a mount.
func (d *deaths) add(device uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if device == 0 || slices.ContainsFunc(d.list, func(old death) bool { return old.device == device }) {
		return nil
	}
	d.list = append(d.list, death{device: device, noticed: time.Now()})
	return d.save()
}

// healed drops deaths that no container is seen to suffer from.
func (d *deaths) healed(seen map[uint64]bool) {
	d.forget(func(old death) bool { return !seen[old.device] && time.Since(old.noticed) > deathMemory })
}

// reborn drops a death whose number the kernel has given to a new mount: nobody had
// the dead one any more.
func (d *deaths) reborn(device uint64) {
	d.forget(func(old death) bool { return old.device == device })
}

// clear drops all.
func (d *deaths) clear() { d.forget(func(death) bool { return true }) }

func (d *deaths) forget(which func(death) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.list)
	if d.list = slices.DeleteFunc(d.list, which); len(d.list) < before {
		_ = d.save() // one too many in the file does no harm
	}
}

// save writes the file, or removes it. d.mu is held.
func (d *deaths) save() error {
	if len(d.list) == 0 {
		if err := os.Remove(d.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(d.known())
	if err != nil {
		return err
	}
	return replaceFile(d.file, data)
}

func (d *deaths) known() []uint64 {
	devices := make([]uint64, 0, len(d.list))
	for _, death := range d.list {
		devices = append(devices, death.device)
	}
	return devices
}

func (d *deaths) devices() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known()
}

func (d *deaths) none() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.list) == 0
}
