package volume

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/glustervol/glustervol/gluster"
)

const (
	// refreshPause is how often a store is asked for what other nodes have
	// changed; what they did has to show within 2 s.
	refreshPause = time.Second
	// settlePause is how often it is searched for what crashes have left.
	settlePause = 30 * time.Second
	// backgroundTime bounds each of these.
	backgroundTime = 30 * time.Second
)

// Run keeps what is known of the stores up to date, settles what crashes have
// left, purges what is to be, and heals containers whose client has died, until ctx
// is done.
func (m *Manager) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { m.keepHealing(ctx) })
	for _, s := range m.stores {
		wg.Go(func() { m.keepFresh(ctx, s) })
		wg.Go(func() { m.keepPurging(ctx, s) })
		wg.Go(func() { m.keepTelling(ctx, s) })
	}
	wg.Wait()
}

// Close lets go of the stores. Mounts stay, for the driver that comes next.
func (m *Manager) Close() error {
	var errs []error
	for _, s := range m.stores {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func (m *Manager) keepFresh(ctx context.Context, s *store) {
	refreshing := trouble{log: s.log, begins: "store cannot be served", ends: "store is served again"}
	settling := trouble{log: s.log, begins: "what a crash has left cannot be settled", ends: "what a crash has left is settled"}
	referring := trouble{log: s.log, begins: "other nodes cannot be told what this one uses", ends: "other nodes know again what this one uses"}
	beating := trouble{log: s.log, begins: "other nodes cannot be told that this one is alive", ends: "other nodes are told again that this one is alive"}
	retiring := trouble{log: s.log, begins: "the trash cannot be purged", ends: "the trash can be purged again"}
	var settled, beaten, retired time.Time
	for {
		refreshing.tell(ctx, m.inBackground(ctx, s.follow))
		if s.lastTrouble() == nil {
			referring.tell(ctx, m.inBackground(ctx, func(ctx context.Context) error { return m.reconcile(ctx, s) }))
		}
		if s.lastTrouble() == nil && time.Since(beaten) >= beatPause {
			s.beat(ctx)
			beating.tell(ctx, s.lastUnwritable())
			beaten = time.Now()
		}
		if s.lastTrouble() == nil && time.Since(settled) >= settlePause {
			settling.tell(ctx, m.inBackground(ctx, func(ctx context.Context) error { return m.settle(ctx, s) }))
			settled = time.Now()
			s.purgeSoon()
		}
		if s.lastTrouble() == nil && time.Since(retired) >= retentionPause {
			retiring.tell(ctx, m.inBackground(ctx, func(ctx context.Context) error { return m.retire(ctx, s) }))
			retired = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(refreshPause):
		}
	}
}

// keepTelling tells other nodes at once what this one has changed.
func (m *Manager) keepTelling(ctx context.Context, s *store) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news.toTell:
		}
		pause := tellPause
		if m.inBackground(ctx, s.tell) != nil {
			// keepFresh tells of a store's trouble, and others find the changes without news.
			pause = beatPause
			s.news.tellSoon()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// tellPause is how long a node gathers news behind the last ones: each is a file, which costs
// as much as a volume's own.
const tellPause = 300 * time.Millisecond

// trouble is told of when it begins, changes and ends, not every second between.
type trouble struct {
	log          *slog.Logger
	begins, ends string
	last         string
}

func (t *trouble) tell(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil: // the driver ends
	case err == nil && t.last != "":
		t.log.Info(t.ends)
		t.last = ""
	case err != nil && err.Error() != t.last:
		t.log.Error(t.begins, "err", err)
		t.last = err.Error()
	}
}

func (m *Manager) inBackground(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, backgroundTime)
	defer cancel()
	return fn(ctx)
}

// beat tells other nodes that this one is alive. In a clash of two, one goes.
func (s *store) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTime)
	defer cancel()
	cat, err := s.connect(ctx)
	if err == nil {
		err = cat.beat(ctx)
	}
	if err == nil {
		err = cat.keepSpares(ctx)
	}
	if clash, found := errors.AsType[*ClashError](err); found {
		s.refuse(clash)
	}
	s.noteWritten(err)
}

func (m *Manager) settle(ctx context.Context, s *store) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return s.failed(cat.settle(ctx, m.names.tryLock))
}

// measure notes a volume's quota, which Gluster shows as the size of the
// volume's file system.
func (m *Manager) measure(ctx context.Context, s *store, def Definition) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	cat, err := s.connect(ctx)
	if err != nil {
		return
	}
	var all, own gluster.Usage
	if all, err = cat.fs.Usage(ctx, "."); err == nil {
		own, err = cat.fs.Usage(ctx, def.Dir())
	}
	switch {
	case err != nil:
		s.log.Debug("size of the volume is not known", "volume", def.Name, "err", err)
	case own.Total != all.Total:
		s.setLimit(def.Name, own.Total)
	default:
		s.setLimit(def.Name, 0)
	}
}

// startTime is how long after a Mount a container may take until it has the
// volume bound.
const startTime = 5 * time.Minute

// dropStale drops the users of a volume that dockerd has forgotten to unmount,
// as after its own crash: they have mounted long ago, and in no process's mount
// namespace is the volume to be seen. Mounts made by hand are for the hand to
// undo.
func (m *Manager) dropStale(name string) error {
	v, inUse := m.mounts.get(name)
	if !inUse || v.Client == "" { // or nobody knows whom to ask
		return nil
	}
	pids, err := m.config.Clients.Bound(v.Client, v.Dir)
	if err != nil || len(pids) > 0 {
		return err
	}
	for _, id := range v.ids() {
		if age := sinceBoot() - v.Users[id].Since; id == ManualUser || age < startTime.Nanoseconds() {
			continue
		}
		m.config.Log.Warn("stale mount dropped: Docker never unmounted it, and no process has it", "volume", name, "user", id)
		if err := m.drop(name, id, true); err != nil {
			return err
		}
	}
	return nil
}

// ManualUser is the user of mounts that a person makes with the command line.
const ManualUser = "manual"

// purgeSoon has the background purge look at the trash.
func (s *store) purgeSoon() {
	select {
	case s.toPurge <- struct{}{}:
	default: // it is about to look anyhow
	}
}

// purges tells whether this node is the one that purges in the background.
func (s *store) purges(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	cat, err := s.connect(ctx)
	if err != nil {
		return false
	}
	purger, err := cat.isPurger(ctx)
	return purger && err == nil
}

// purgeShare is the part of the time that a purge in the background works: one in so many.
// Containers wait for the same bricks, which a purge asks for several removals at a time.
const purgeShare = 10

// gently slows a purge down to that, whatever a removal costs: it is called behind each.
// Nobody who empties the trash has to wait for it.
func (m *Manager) gently(ctx context.Context) (removed func(n int)) {
	var mu sync.Mutex
	last := time.Now()
	return func(int) {
		mu.Lock()
		defer mu.Unlock()
		if m.emptying.Load() > 0 {
			last = time.Now()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(min((purgeShare-1)*time.Since(last), time.Second)):
		}
		last = time.Now()
	}
}

// keepPurging purges what was removed with on-remove=delete, what has been in the
// trash for long enough, and what an interrupted purge has left, be it another
// node's.
func (m *Manager) keepPurging(ctx context.Context, s *store) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.toPurge:
		}
		if !s.purges(ctx) {
			continue
		}
		// keepFresh tells of a store's trouble, and damaged records are no
		// purge's business.
		list, _ := s.trashInBackground(ctx)
		for _, t := range list {
			if !t.Purging && !t.purgeAtOnce && !s.isExpired(t.Entry) || !s.purges(ctx) {
				continue
			}
			if err := m.purge(ctx, t, m.gently(ctx)); err != nil && ctx.Err() == nil {
				s.log.Warn("purge goes on later", "entry", t.Entry, "err", err)
			}
		}
	}
}
