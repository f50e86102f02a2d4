package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/mount"
)

// lookUpTime bounds the look-up of a name: somebody waits for 'docker volume
// inspect'.
const lookUpTime = 10 * time.Second

// find asks all stores for a name at once. A name in several stores is an
// error, since nobody can tell which is meant; a store that does not answer
// matters only when no other has the name.
func (m *Manager) find(ctx context.Context, name string) (*store, Definition, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	return m.askAll(ctx, name)
}

// findBeside is find for who names the store to use: once that has answered, be it
// that it has no such name, the others do not keep it waiting any longer than they do
// in ask.
func (m *Manager) findBeside(ctx context.Context, named *store, name string) (*store, Definition, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	return m.ask(ctx, m.stores, func(ctx context.Context, s *store) (Definition, error) {
		def, err := s.lookUp(ctx, name)
		if s == named && !noAnswer(err) {
			time.AfterFunc(othersTime, cancel)
		}
		return def, err
	})
}

func (m *Manager) askAll(ctx context.Context, name string) (*store, Definition, error) {
	return m.ask(ctx, m.stores, func(ctx context.Context, s *store) (Definition, error) { return s.lookUp(ctx, name) })
}

// findIn is find, or the look-up in one store when that is named, for as long
// as ctx gives.
func (m *Manager) findIn(ctx context.Context, name, storeName string) (*store, Definition, error) {
	if storeName == "" {
		return m.askAll(ctx, name)
	}
	s, err := m.storeNamed(storeName)
	if err != nil {
		return nil, Definition{}, err
	}
	def, err := s.lookUp(ctx, name)
	return s, def, err
}

// knownOnce is the volume of that name in the one store that is known to have
// it, or in the one that is named.
func (m *Manager) knownOnce(name, storeName string) (s *store, def Definition, known bool) {
	for _, candidate := range m.stores {
		d, found := candidate.get(name)
		if !found {
			continue
		}
		if known {
			return nil, Definition{}, false
		}
		s, def, known = candidate, d, true
	}
	if known && storeName != "" {
		asked, err := m.storeNamed(storeName)
		known = err == nil && asked == s
	}
	return s, def, known
}

// findForUse is find for who mounts. A volume that is known is asked for in
// its store alone, and awaited if that has not answered yet.
func (m *Manager) findForUse(ctx context.Context, name string) (*store, Definition, error) {
	var candidates []*store
	for _, s := range m.stores {
		if _, known := s.get(name); known {
			candidates = append(candidates, s)
		}
	}
	if len(candidates) == 0 {
		candidates = m.stores
	}
	return m.ask(ctx, candidates, func(ctx context.Context, s *store) (Definition, error) { return s.lookUpForUse(ctx, name) })
}

// othersTime is how long other stores may still take when one has answered.
const othersTime = time.Second

// ask puts a question to stores, all at once, and finds the one that has the
// answer.
func (m *Manager) ask(ctx context.Context, stores []*store, question func(context.Context, *store) (Definition, error)) (*store, Definition, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defs := make([]Definition, len(stores))
	errs := make([]error, len(stores))
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			errs[i] = whileBricksReturn(ctx, func() (err error) {
				defs[i], err = question(ctx, s)
				return err
			})
			if errs[i] == nil {
				time.AfterFunc(othersTime, cancel)
			}
		})
	}
	wg.Wait()
	found := -1
	var trouble error
	for i, err := range errs {
		switch {
		case err == nil && found >= 0:
			return nil, Definition{}, fmt.Errorf("it exists in two stores, %s and %s; remove one with 'glustervol rm --store ADDRESS'", stores[found].address, stores[i].address)
		case err == nil:
			found = i
		case !errors.Is(err, ErrNotFound):
			trouble = errors.Join(trouble, err)
		}
	}
	if found >= 0 {
		return stores[found], defs[found], nil
	}
	if trouble != nil {
		return nil, Definition{}, trouble
	}
	return nil, Definition{}, ErrNotFound
}

const (
	// bricksReturnTime is how long a look-up asks again that Gluster has no quorum for.
	bricksReturnTime = 2 * time.Second
	// askAgainPause lies between two of these.
	askAgainPause = 100 * time.Millisecond
)

// whileBricksReturn calls fn again while Gluster says that too few bricks can be
// reached. A brick that comes back does not know yet what has changed, and for a second
// or two Gluster says that now of one file, now of another. dockerd cannot ask again
// itself: its retry has no body.
func whileBricksReturn(ctx context.Context, fn func() error) error {
	for begin := time.Now(); ; {
		err := fn()
		if !errors.Is(err, unix.ENOTCONN) || time.Since(begin) > bricksReturnTime {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askAgainPause):
		}
	}
}

// lookUpForUse asks the store for a volume that is about to be used. A removal
// that is under way is waited for: it may be refused. The caller holds the name.
func (s *store) lookUpForUse(ctx context.Context, name string) (Definition, error) {
	cat, err := s.await(ctx)
	if err != nil {
		return Definition{}, err
	}
	def, known := s.get(name)
	err = cat.whileUnderWay(ctx, name, func() (err error) {
		if known && !cat.references.has(def.ID) {
			// Whether it still is what it was, is looked at behind the reference anyhow.
			known = false
			unread := def
			unread.inode = 0 // its definition may be damaged where it lies
			err = cat.refer(ctx, unread)
			if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
				return err
			}
		}
		def, err = cat.find(ctx, name)
		if errors.Is(err, ErrDamaged) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.distrust(name, err)
		}
		if err == nil {
			err = cat.refer(ctx, def)
		}
		return err
	})
	if err == nil {
		s.remember(def)
	}
	if errors.Is(err, ErrNotFound) {
		s.forget(name)
	}
	return def, s.failed(err)
}

// directory is a volume's directory as the store has it now, which a client may
// not have noticed yet.
func (s *store) directory(ctx context.Context, def Definition) (mount.Dir, error) {
	cat, err := s.connect(ctx)
	if err != nil {
		return mount.Dir{}, err
	}
	info, err := cat.fs.Lstat(ctx, def.Dir())
	return mount.Dir{Path: def.Dir(), Inode: info.Inode}, s.failed(err)
}

// noAnswer tells an error of a store that could not be asked from an answer.
func noAnswer(err error) bool {
	if _, failed := errors.AsType[*client.StartError](err); failed {
		return true
	}
	for _, target := range []error{
		gluster.ErrNoAnswer, mount.ErrDead, mount.ErrHung, context.DeadlineExceeded, context.Canceled, fs.ErrClosed,
		unix.ENOTCONN, unix.EIO, unix.ETIMEDOUT, unix.ECONNABORTED, unix.ECONNRESET, unix.EHOSTDOWN, unix.ESTALE,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// waitingHelps tells a store that may answer later from one that refused.
func waitingHelps(err error) bool {
	if start, failed := errors.AsType[*client.StartError](err); failed {
		return !start.Permanent
	}
	return noAnswer(err)
}

// explainMount turns the error of a client into one about the volume.
func explainMount(err error, def Definition, address gluster.Address) error {
	_, notStarted := errors.AsType[*client.StartError](err) // it says more itself
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("its directory %s is not on %s any more; somebody removed it beside glustervol: bring it back, or remove the volume (%w)", def.Dir(), address, err)
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("a symlink lies on the way to its directory %s, and glustervol follows none (%w)", def.Dir(), err)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s on %s is not a directory (%w)", def.Dir(), address, err)
	case errors.Is(err, mount.ErrHung) && !notStarted:
		return fmt.Errorf("the Gluster client of %s hangs, or its bricks do; 'glustervol info' names its process and its log (%w)", address, err)
	}
	return explainStore(err, address)
}

// explainStore says what to do about an error of a store's files that has to do
// with all of the store.
func explainStore(err error, address gluster.Address) error {
	switch {
	case errors.Is(err, unix.ENOTCONN): // the client runs
		return fmt.Errorf("too few bricks of Gluster volume %s can be reached; see 'gluster volume status %s' (%w)", address.Volume, address.Volume, err)
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s is full; 'glustervol trash empty' frees what removed volumes hold (%w)", address, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("a brick of Gluster volume %s is read-only; the kernel's log on its server says why: mend its file system, and mount it for writing again (%w)", address.Volume, err)
	}
	return err
}
