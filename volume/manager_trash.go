package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// Trash lists what is in the trash of all stores, the oldest first. Stores and
// records that cannot be read are left out and returned as one error.
func (m *Manager) Trash(ctx context.Context) ([]Trashed, error) {
	lists := make([][]Trashed, len(m.stores))
	errs := make([]error, len(m.stores))
	var wg sync.WaitGroup
	for i, s := range m.stores {
		wg.Go(func() { lists[i], errs[i] = s.trash(ctx, nil) })
	}
	wg.Wait()
	list := slices.Concat(lists...)
	slices.SortFunc(list, func(a, b Trashed) int { return a.Removed.Compare(b.Removed) })
	return list, errors.Join(errs...)
}

// trash lists the trash of a store, for as long as somebody waits for a list. known is
// catalog.trash's.
func (s *store) trash(ctx context.Context, known map[string]Trashed) ([]Trashed, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	cat, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	list, damaged, err := cat.trash(ctx, known)
	for i := range list {
		list[i].Store = s.address.String()
	}
	return list, errors.Join(append(damaged, s.failed(err))...)
}

// trashInBackground is trash for who looks again and again: thousands of entries may wait
// there for a day.
func (s *store) trashInBackground(ctx context.Context) ([]Trashed, error) {
	s.mu.RLock()
	known := s.trashed
	s.mu.RUnlock()
	list, err := s.trash(ctx, known)
	if noAnswer(err) {
		return list, err
	}
	known = map[string]Trashed{}
	for _, t := range list {
		known[t.Entry] = t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trashed = known
	return list, err
}

// Restore brings a volume back from the trash, under the name newName, or its
// own if that is "". which is an entry, or the name of a volume that is there
// once. It returns the volume's name.
func (m *Manager) Restore(ctx context.Context, which, newName string) (string, error) {
	t, err := m.inTrash(ctx, which)
	if err != nil {
		return "", err
	}
	if newName == "" {
		newName = t.Name
	}
	if err := CheckName(newName); err != nil {
		return "", err
	}
	unlock, err := m.lockBoth(ctx, t.Name, newName)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := m.restore(ctx, t, newName); err != nil {
		return "", fmt.Errorf("restore %s as volume %s: %w", t.Entry, newName, err)
	}
	return newName, nil
}

func (m *Manager) restore(ctx context.Context, t Trashed, newName string) error {
	other, _, err := m.find(ctx, newName)
	if err == nil {
		return fmt.Errorf("volume %s exists in store %s; restore under another name with --as NAME", newName, other.address)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	s, err := m.storeNamed(t.Store)
	if err != nil {
		return err
	}
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var def Definition
	err = cat.whileUnderWay(ctx, newName, func() (err error) {
		def, err = cat.restore(ctx, t.Entry, newName)
		return err
	})
	if err != nil {
		return s.failed(err)
	}
	s.remember(def)
	m.config.Log.Info("volume restored", "volume", newName, "entry", t.Entry, "store", t.Store)
	return nil
}

// lockBoth locks two names, in an order that all keep to.
func (m *Manager) lockBoth(ctx context.Context, a, b string) (unlock func(), err error) {
	names := []string{a, b}
	slices.Sort(names)
	names = slices.Compact(names)
	unlock = func() {}
	for _, name := range names {
		next, err := m.names.lock(ctx, name)
		if err != nil {
			unlock()
			return nil, err
		}
		former := unlock
		unlock = func() { next(); former() }
	}
	return unlock, nil
}

// inTrash finds an entry by its own name or by that of its volume.
func (m *Manager) inTrash(ctx context.Context, which string) (Trashed, error) {
	list, err := m.Trash(ctx)
	var found []Trashed
	for _, t := range list {
		if t.Entry == which {
			return t, nil
		}
		if t.Name == which && !t.Purging {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Trashed{}, fmt.Errorf("%d removed volumes had the name %s, the last of them %s; name the entry to restore: 'glustervol trash ls' lists them", len(found), which, found[len(found)-1].Entry)
	}
	return Trashed{}, errors.Join(fmt.Errorf("%q: %w", which, ErrNotInTrash), err)
}

// Progress tells how far a purge is.
type Progress struct {
	// Entry is being purged, the Number-th of Total.
	Entry  string `json:"entry"`
	Number int    `json:"number"`
	Total  int    `json:"total"`
	// Removed counts its files and directories that are gone.
	Removed int `json:"removed"`
}

// EmptyTrash purges the entries that are named, by entry or by volume, or all
// of the trash. It calls report, if not nil, now and then, one call at a time.
// It takes as long as there are files; ctx stops it between two of them.
func (m *Manager) EmptyTrash(ctx context.Context, which []string, report func(Progress)) error {
	m.emptying.Add(1)
	defer m.emptying.Add(-1)
	list, err := m.Trash(ctx)
	if len(which) > 0 {
		if list, err = choose(list, which, err); err != nil {
			return err
		}
	}
	errs := []error{err}
	for i, t := range list {
		removed, stop := counter(Progress{Entry: t.Entry, Number: i + 1, Total: len(list)}, report)
		errs = append(errs, m.purge(ctx, t, removed))
		stop()
	}
	return errors.Join(errs...)
}

// choose takes from the trash what is named; nothing, if a name is wrong.
func choose(list []Trashed, which []string, listErr error) ([]Trashed, error) {
	for _, name := range which {
		if !slices.ContainsFunc(list, func(t Trashed) bool { return t.Entry == name || t.Name == name }) {
			return nil, errors.Join(fmt.Errorf("%q: %w", name, ErrNotInTrash), listErr)
		}
	}
	return slices.DeleteFunc(list, func(t Trashed) bool {
		return !slices.Contains(which, t.Entry) && !slices.Contains(which, t.Name)
	}), nil
}

// purge calls removed, if not nil, as RemoveTree does.
func (m *Manager) purge(ctx context.Context, t Trashed, removed func(n int)) error {
	s, err := m.storeNamed(t.Store)
	if err != nil {
		return err
	}
	unlock, err := m.purges.lock(ctx, t.Entry)
	if err != nil {
		return err
	}
	defer unlock()
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	ctx, progress, stop := whileItGoesOn(ctx, removed)
	defer stop()
	err = cat.purge(ctx, t.Entry, progress)
	if errors.Is(err, ErrNotInTrash) || errors.Is(err, fs.ErrNotExist) {
		return nil // restored or purged meanwhile
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", t.Entry, s.failed(err))
	}
	m.config.Log.Info("volume purged", "entry", t.Entry, "store", t.Store)
	return nil
}

// purgePatience is for how long a purge may remove nothing. Gluster does without a
// server that has lost its power after 84 s at most.
const purgePatience = 3 * time.Minute

// errStalled ends a purge that does not go on, be it that the store hangs, or that it
// lists what it says is not there. It leaves the entry to another purge.
var errStalled = fmt.Errorf("nothing could be removed for %s; call 'glustervol trash empty' again, and it goes on", purgePatience)

// whileItGoesOn returns a context that is done, because of errStalled, when progress
// has not been called for purgePatience. A purge has no other end: it takes as long as
// there are files.
func whileItGoesOn(ctx context.Context, removed func(n int)) (_ context.Context, progress func(n int), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(purgePatience, func() { cancel(errStalled) })
	progress = func(n int) {
		if removed != nil {
			removed(n)
		}
		if n > 0 {
			timer.Reset(purgePatience)
		}
	}
	return ctx, progress, func() { timer.Stop(); cancel(nil) }
}

// counter reports that a purge begins, and then what it has removed, until it
// is stopped: a call that hung may come back later.
func counter(progress Progress, report func(Progress)) (removed func(n int), stop func()) {
	if report == nil {
		return nil, func() {}
	}
	var mu sync.Mutex
	stopped := false
	removed = func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			progress.Removed += n
			report(progress)
		}
	}
	removed(0)
	return removed, func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}
}
