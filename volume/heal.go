package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/glustervol/glustervol/mount"
)

const (
	// healPause is how long to wait until what could not be healed is tried again.
	healPause = time.Second
	// healPauseAtMost is how long it is for containers that are looked for only: one
	// that was starting when the client died, or that has to be restarted.
	healPauseAtMost = 30 * time.Second
	// healsAtOnce bounds the volumes that are mounted anew at once.
	healsAtOnce = 16
)

// keepHealing starts Gluster clients anew that have died, and puts their mounts into
// the containers that had the dead ones. Clients do not wait for each other.
func (m *Manager) keepHealing(ctx context.Context) {
	var healers sync.WaitGroup
	defer healers.Wait()
	wake := map[string]chan struct{}{} // of the healer of each client that has died
	for {
		for _, key := range m.wounded() {
			if wake[key] == nil {
				wake[key] = make(chan struct{}, 1)
				healers.Go(func() { m.keepHealingClient(ctx, key, wake[key]) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-m.config.Clients.Died():
			for _, w := range wake {
				select {
				case w <- struct{}{}:
				default: // it is about to look anyhow
				}
			}
		case <-time.After(healPause):
		}
	}
}

// wounded are the clients in use that do not run, or whose former mounts containers
// may still have.
func (m *Manager) wounded() (keys []string) {
	inUse := map[string]bool{}
	for _, v := range m.mounts.list() {
		inUse[v.Client] = true
	}
	delete(inUse, "") // of a volume of which nothing is known but that it is in use
	for key := range inUse {
		if client := m.config.Clients.Status(key); client.PID == 0 || client.Died {
			keys = append(keys, key)
		}
	}
	return keys
}

func (m *Manager) keepHealingClient(ctx context.Context, key string, wake <-chan struct{}) {
	healing := trouble{log: m.config.Log.With("client", key), begins: "containers whose client died cannot be healed yet", ends: "client runs again"}
	for pause := healPause; ; {
		if slices.Contains(m.wounded(), key) {
			err := m.inBackground(ctx, func(ctx context.Context) error { return m.healClient(ctx, key) })
			if healing.tell(ctx, err); err != nil {
				pause = healPause
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
			pause = healPause
		case <-time.After(pause):
			pause = min(2*pause, healPauseAtMost)
		}
	}
}

func (m *Manager) healClient(ctx context.Context, key string) error {
	volumes := slices.DeleteFunc(m.mounts.list(), func(v mounted) bool { return v.Client != key })
	errs := make([]error, len(volumes))
	slots := make(chan struct{}, healsAtOnce)
	var wg sync.WaitGroup
	for i, v := range volumes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = m.remount(ctx, v)
		})
	}
	wg.Wait()
	var dirs []string
	for i, v := range volumes {
		if errs[i] == nil {
			dirs = append(dirs, v.Dir)
		}
	}
	grafts, err := m.config.Clients.Graft(ctx, key, dirs)
	for _, g := range grafts {
		m.noteHealing(volumes, g)
	}
	return errors.Join(err, errors.Join(errs...))
}

// remount has a volume on a live mount again. Its directory must be the one that its
// containers have had, and not that of a volume which has got the name since.
func (m *Manager) remount(ctx context.Context, v mounted) error {
	unlock, err := m.names.lock(ctx, v.Volume)
	if err != nil {
		return err
	}
	defer unlock()
	if now, inUse := m.mounts.get(v.Volume); !inUse || now.ID != v.ID {
		return nil // it is unmounted by now
	}
	s, def, err := m.findForUse(ctx, v.Volume)
	if err == nil && def.ID != v.ID {
		err = errors.New("it was removed while its containers had it; stop these")
	}
	if err != nil {
		return fmt.Errorf("heal volume %s: %w", v.Volume, err)
	}
	client := m.config.Clients.Status(v.Client).Source
	if client.Key() != v.Client { // a driver that ended in the middle has left no client
		client = source(s.address, def.Options.ClientOptions)
	}
	dir, err := s.directory(ctx, def)
	if err == nil {
		_, err = m.config.Clients.Mount(ctx, client, dir, v.Volume)
	}
	if err != nil {
		return fmt.Errorf("heal volume %s: %w", v.Volume, explainMount(err, def, s.address))
	}
	return nil
}

// Healing is what came of a container whose mount of a volume was of a client that
// died. Files that it had open are lost to it in any case.
type Healing struct {
	// Container is its name, or a process of it.
	Container string `json:"container"`
	// Path is where the container has the volume, or a directory of it.
	Path string `json:"path"`
	// Error is why the container has to be restarted, "" if it is healed.
	Error string `json:"error,omitempty"`

	volume string
	pid    int
}

// String names the container and what is to be known of it.
func (h Healing) String() string {
	if h.Error != "" {
		return fmt.Sprintf("%s at %s (%s)", h.Container, h.Path, h.Error)
	}
	return fmt.Sprintf("%s at %s", h.Container, h.Path)
}

// healings are those of containers that still run.
type healings struct {
	mu   sync.Mutex
	list []Healing
}

func (m *Manager) noteHealing(volumes []mounted, g mount.Graft) {
	h := Healing{Path: g.Path, pid: g.PID}
	for _, v := range volumes {
		if g.Dir == v.Dir || strings.HasPrefix(g.Dir, v.Dir+"/") {
			h.volume = v.Volume
		}
	}
	h.Container = containerOf(g.PID, m.Containers(h.volume))
	if g.Err != nil {
		h.Error = g.Err.Error()
	}
	if !m.healings.add(h) {
		return
	}
	log := m.config.Log.With("volume", h.volume, "container", h.Container, "path", h.Path)
	if g.Err != nil {
		log.Error("container has to be restarted: its mount is dead and could not be replaced", "err", g.Err)
	} else {
		log.Warn("container was healed: it has a new mount; files that it had open on the dead one are lost to it")
	}
}

// add notes a healing, and tells whether it was not known already that it failed.
func (hs *healings) add(h Healing) (news bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	same := func(old Healing) bool { return old.pid == h.pid && old.Path == h.Path }
	i := slices.IndexFunc(hs.list, same)
	if i < 0 {
		hs.list = append(hs.list, h)
		return true
	}
	news = h.Error == "" || hs.list[i].Error != h.Error
	hs.list[i] = h
	return news
}

// of are those of a volume's containers, without containers that have ended.
func (hs *healings) of(volume string) (list []Healing) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.list = slices.DeleteFunc(hs.list, func(h Healing) bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", h.pid))
		return err != nil
	})
	for _, h := range hs.list {
		if h.volume == volume {
			list = append(list, h)
		}
	}
	return list
}

// containerOf names the container of a process: Docker has its id in the name of its
// control group.
func containerOf(pid int, containers []ContainerRef) string {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for _, c := range containers {
		if err == nil && c.ID != "" && strings.Contains(string(groups), c.ID) {
			return c.Name
		}
	}
	return fmt.Sprintf("process %d", pid)
}
