package volume

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/glustervol/glustervol/gluster"
)

// reconcile brings the references that this node has on a store up to what it
// uses. Mount itself publishes what it is about to use; here goes what is not
// used any more, and here comes what a former driver has counted, or what was
// lost when a person has forgotten this node.
func (m *Manager) reconcile(ctx context.Context, s *store) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := cat.members.check(ctx); errors.Is(err, errForgotten) {
		cat.references.clear()
	} else if err != nil {
		return s.failed(err)
	}
	var errs []error
	byVolume, known := m.containers.all()
	if known {
		s.dropGone(byVolume)
	}
	used := m.usedOn(s)
	cat.references.keepUsed(used)
	for _, r := range used {
		errs = append(errs, m.publish(ctx, s, cat, r))
	}
	published := cat.references.list()
	if known && !cat.references.swept() {
		number, _ := cat.members.joined()
		former, err := cat.referencesOf(ctx, number)
		if err != nil {
			return s.failed(err)
		}
		maps.Copy(published, former)
	}
	swept := true
	for id, name := range published {
		if _, inUse := used[id]; inUse {
			swept = swept && cat.references.has(id) // else it is an earlier session's still
			continue
		}
		ok, err := m.withdraw(ctx, s, cat, id, name)
		swept = swept && ok && err == nil
		errs = append(errs, err)
	}
	cat.references.setSwept(known && swept)
	return s.failed(errors.Join(errs...))
}

// usedOn is what this node uses of a store, by the volume's id. Containers name
// a volume, and mean the one that has the name, or had it until now.
func (m *Manager) usedOn(s *store) map[string]reference {
	used := map[string]reference{}
	byVolume, _ := m.containers.all()
	for name, refs := range byVolume {
		for _, id := range s.named(name) {
			used[id] = reference{Volume: name, ID: id, Containers: refs}
		}
	}
	for _, v := range m.mounts.list() {
		if address, err := gluster.ParseAddress(v.Store); err == nil && v.ID != "" && s.address.Overlaps(address) {
			used[v.ID] = reference{Volume: v.Volume, ID: v.ID, Mounts: v.ids(), Containers: used[v.ID].Containers}
		}
	}
	return used
}

// publish publishes a volume that is in use already. Should it have been removed
// meanwhile, that is told once.
func (m *Manager) publish(ctx context.Context, s *store, cat *catalog, r reference) error {
	if cat.references.same(r) || s.isLost(r.ID) {
		return nil
	}
	if cat.references.has(r.ID) {
		// Only a reconciliation, and this is it, takes it back. So Docker need not
		// wait, should the store hang.
		return cat.describe(ctx, r)
	}
	unlock, free := m.names.tryLock(r.Volume)
	if !free {
		return nil // the next reconciliation is soon
	}
	defer unlock()
	if _, inUse := m.usedOn(s)[r.ID]; !inUse {
		return nil
	}
	def := Definition{Name: r.Volume, ID: r.ID}
	err := cat.refer(ctx, def)
	if err == nil {
		err = cat.describe(ctx, r)
	}
	switch {
	case errors.Is(err, errRemoving): // it is seen to be in use, or the removal ends
		return nil
	case errors.Is(err, ErrNotFound):
		s.log.Error("volume is in use on this node, but was removed on another that did not know of it; its data is in the trash",
			"volume", def.Name, "id", def.ID, "restore", "glustervol trash restore "+def.entry())
		s.noteLost(def.ID)
		return nil
	}
	return err
}

// withdraw takes a reference back, if the volume is still not used. ok is false
// if it has to be tried again. One whose volume cannot be read may be about to be
// written, for a mount: it takes that nothing at all is under way.
func (m *Manager) withdraw(ctx context.Context, s *store, cat *catalog, id, name string) (ok bool, err error) {
	unlock, free := m.names.tryLock(name)
	if !free {
		return false, nil
	}
	defer unlock()
	if _, inUse := m.usedOn(s)[id]; inUse {
		return true, nil
	}
	if _, found := s.get(name); !found && len(m.Containers(name)) > 0 {
		return false, nil // a listing with holes may have kept this node from knowing the volume
	}
	// Docker unmounts a volume that it has filled for a new container before its
	// list has that container: what is seen once only may be in use.
	if m.config.AwaitContainers && !cat.references.unusedBefore(id) {
		return false, nil
	}
	return true, cat.unrefer(ctx, id)
}

// named are the ids of the volume that has a name, and of one that had it and is
// not known to be lost yet.
func (s *store) named(name string) (ids []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, volumes := range []map[string]Definition{s.known, s.gone} {
		if def, found := volumes[name]; found && !s.lost[def.ID] {
			ids = append(ids, def.ID)
		}
	}
	return ids
}

func (s *store) isLost(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lost[id]
}

// noteLost notes that the loss of a volume was told. Its id never comes back:
// what is restored is given another one.
func (s *store) noteLost(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[id] = true
}

// dropGone forgets volumes that are gone, when no container means them.
func (s *store) dropGone(byVolume map[string][]ContainerRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.gone, func(name string, def Definition) bool { return len(byVolume[name]) == 0 || s.lost[def.ID] })
}

// referencesOf are the names of the volumes, by id, that a node has references to.
func (c *catalog) referencesOf(ctx context.Context, number int) (map[string]string, error) {
	entries, err := c.fs.ReadDir(ctx, memberDir(number))
	if errors.Is(err, fs.ErrNotExist) { // it has not finished joining
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, e := range entries {
		id, found := strings.CutSuffix(e.Name, recordSuffix)
		if !found || !validID.MatchString(id) {
			continue
		}
		r, err := c.readReference(ctx, path.Join(memberDir(number), e.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // taken back meanwhile
			continue
		case err != nil && !errors.Is(err, ErrDamaged):
			return nil, err
		}
		names[id] = r.Volume // allNames for a damaged one
	}
	return names, nil
}
