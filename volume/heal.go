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
	"unicode"

	"github.com/glustervol/glustervol/mount"
)

const (
	// healPause is how long to wait until what could not be healed is tried again; it
	// is doubled each time, up to healPauseAtMost.
	healPause       = time.Second
	healPauseAtMost = 5 * time.Second
	// lookPauseAtMost is how long it is for containers that are looked for only: one
	// that was starting when the client died, or that has to be restarted.
	lookPauseAtMost = 30 * time.Second
	// remountTime bounds the look at one volume, whose name is locked for so long.
	remountTime = 5 * time.Second
	// healsAtOnce bounds the volumes that are looked at, at once.
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
				w := make(chan struct{}, 1)
				wake[key] = w
				healers.Go(func() { m.keepHealingClient(ctx, key, w) })
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
		atMost := lookPauseAtMost
		if slices.Contains(m.wounded(), key) {
			err := m.healClient(ctx, key)
			if healing.tell(ctx, err); err != nil {
				atMost = healPauseAtMost
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
			pause = healPause
		case <-time.After(min(pause, atMost)):
			pause = min(2*pause, atMost)
		}
	}
}

// healClient revives a client first, without a volume's name locked: that may take
// as long as Gluster does.
func (m *Manager) healClient(ctx context.Context, key string) error {
	// One that is not known was being revived when the driver ended: remount starts it.
	if m.config.Clients.Status(key).Source.Key() == key {
		err := m.inBackground(ctx, func(ctx context.Context) error { return m.config.Clients.Revive(ctx, key) })
		if err != nil {
			return err
		}
	}
	volumes := slices.DeleteFunc(m.mounts.list(), func(v mounted) bool { return v.Client != key })
	slices.SortFunc(volumes, func(a, b mounted) int { return strings.Compare(a.Volume, b.Volume) })
	dirs, remountErr := m.remount(ctx, volumes)
	grafts, err := m.config.Clients.Graft(ctx, key, dirs, m.mountsOf)
	for _, g := range grafts {
		m.noteHealing(volumes, g)
	}
	return errors.Join(err, remountErr)
}

// remount returns the directories of those volumes that are well on a client.
func (m *Manager) remount(ctx context.Context, volumes []mounted) (dirs []string, err error) {
	errs := make([]error, len(volumes))
	slots := make(chan struct{}, healsAtOnce)
	var wg sync.WaitGroup
	for i, v := range volumes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, remountTime)
			defer cancel()
			errs[i] = m.remountOne(ctx, v)
		})
	}
	wg.Wait()
	for i, v := range volumes {
		if errs[i] == nil {
			dirs = append(dirs, v.Dir)
		}
	}
	return dirs, errors.Join(errs...)
}

// mountsOf are the paths at which the container of a process has mounts, as far as
// Docker knows.
func (m *Manager) mountsOf(pid int) []string {
	byVolume, _ := m.containers.all()
	for _, containers := range byVolume {
		if c, found := containerOf(pid, containers); found {
			return c.Mounts
		}
	}
	return nil
}

// remountOne sees a volume on the live mount again. Its directory must be the one that
// its containers have had, and not that of a volume which has got the name since.
func (m *Manager) remountOne(ctx context.Context, v mounted) error {
	unlock, err := m.names.lock(ctx, v.Volume)
	if err != nil {
		return err
	}
	defer unlock()
	if now, inUse := m.mounts.get(v.Volume); !inUse || now.ID != v.ID || now.Client != v.Client {
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
	if client.Key() != v.Client {
		client = m.source(s, def)
	}
	if client.Key() != v.Client {
		return fmt.Errorf("heal volume %s: its client died, and the store's address, or the volume's client options, are others by now; restart its containers", v.Volume)
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
	text := fmt.Sprintf("%s at %s", h.Container, h.Path)
	if h.Error != "" {
		text += fmt.Sprintf(" (%s)", h.Error)
	}
	// The container has chosen the path, and may want to write on a terminal.
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
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
	h.Container = fmt.Sprintf("process %d", g.PID)
	if c, found := containerOf(g.PID, m.Containers(h.volume)); found {
		h.Container = c.Name
	}
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
	hs.prune()
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

// of are those of a volume's containers.
func (hs *healings) of(volume string) (list []Healing) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.prune()
	for _, h := range hs.list {
		if h.volume == volume {
			list = append(list, h)
		}
	}
	return list
}

// prune drops those of processes that have ended. hs.mu is held.
func (hs *healings) prune() {
	hs.list = slices.DeleteFunc(hs.list, func(h Healing) bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", h.pid))
		return err != nil
	})
}

// containerOf finds the container of a process: Docker has its id in the name of its
// control group.
func containerOf(pid int, containers []ContainerRef) (c ContainerRef, found bool) {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ContainerRef{}, false
	}
	i := slices.IndexFunc(containers, func(c ContainerRef) bool { return c.ID != "" && strings.Contains(string(groups), c.ID) })
	if i < 0 {
		return ContainerRef{}, false
	}
	return containers[i], true
}
