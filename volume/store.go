package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/glustervol/glustervol/gluster"
)

// ErrUnreachable is in the chain of an error about a store that cannot be
// asked at the moment. It says nothing about whether a volume exists.
var ErrUnreachable = errors.New("the store cannot be reached")

// store is one store: its connection, and what is known of its volumes.
type store struct {
	address gluster.Address
	// text is the address as people write it.
	text  string
	node  Node
	open  func(context.Context, gluster.Address) (ControlPlane, error)
	cache *cache
	log   *slog.Logger
	// bootWait is Config.BootWait.
	bootWait time.Duration

	// pulse is what this node hears of others.
	pulse *pulse
	news  *news

	// toPurge is signalled when something is in the trash that has to be purged.
	toPurge chan struct{}
	// clock is what this node has last moved the trash's clock to. Only keepFresh
	// uses it.
	clock movedClock
	// connecting is held while the control plane is opened; a channel, so that
	// who waits for it can leave.
	connecting chan struct{}

	mu      sync.RWMutex
	plane   ControlPlane
	catalog *catalog
	// closed tells that the driver ends: nothing is opened any more.
	closed bool
	// refused is why the store is not served until the driver's next start, or nil.
	refused error
	// reached tells that the store answered at least once since the start.
	reached bool
	// trouble is why the last attempt to reach it failed, or nil.
	trouble error
	// unwritable is why it answers, and could not be written lately, or nil.
	unwritable error
	known      map[string]Definition
	// gone are volumes that were known, and are not on the store any more, by
	// name: those that containers of this node use are to be told of as lost.
	gone map[string]Definition
	// damaged has the names whose definition cannot be read, so that it is
	// said once.
	damaged map[string]bool
	// expired are entries of the trash that are to be purged for their age.
	expired map[string]bool
	// trashed are the entries whose records the background has read; the map is not changed.
	trashed map[string]Trashed
	// lost has the ids of volumes in use here that were removed elsewhere.
	lost map[string]bool
	// limits are the quotas in bytes of volumes that have one.
	limits map[string]uint64
	// refreshes counts them, so that each reads other volumes again.
	refreshes int
	// swept is when the last one of follow began, which alone uses it.
	swept time.Time
}

func newStore(address gluster.Address, config Config) (*store, error) {
	cache := newCache(config.StateDir, address)
	known, err := cache.load(config.Log.With("store", address.String()))
	if err != nil {
		return nil, err
	}
	return &store{
		address:    address,
		text:       address.String(),
		node:       config.Node,
		open:       config.Control.Open,
		cache:      cache,
		log:        config.Log.With("store", address.String()),
		bootWait:   config.BootWait,
		pulse:      newPulse(config.Node.Session),
		news:       newNews(config.Node.Session),
		toPurge:    make(chan struct{}, 1),
		connecting: make(chan struct{}, 1),
		known:      known,
		gone:       map[string]Definition{},
		damaged:    map[string]bool{},
		lost:       map[string]bool{},
		expired:    map[string]bool{},
		limits:     map[string]uint64{},
	}, nil
}

// connect returns the catalog over a live control plane. The error matches
// ErrUnreachable.
func (s *store) connect(ctx context.Context) (*catalog, error) {
	select {
	case s.connecting <- struct{}{}:
		defer func() { <-s.connecting }()
	case <-ctx.Done():
		return nil, s.unreachable(errors.Join(context.Cause(ctx), s.lastTrouble()))
	}
	s.mu.RLock()
	plane, cat, closed, refused := s.plane, s.catalog, s.closed, s.refused
	s.mu.RUnlock()
	if closed {
		return nil, s.unreachable(fs.ErrClosed)
	}
	if refused != nil {
		return nil, refused
	}
	if cat != nil && plane.Alive() {
		return cat, nil
	}
	if plane != nil {
		_ = plane.Close() // a dead one has nothing left to lose
	}
	plane, cat, err := s.openPlane(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && err == nil {
		plane, cat, err = nil, nil, errors.Join(fs.ErrClosed, plane.Close())
	}
	s.plane, s.catalog, s.trouble = plane, cat, err
	if err != nil {
		return nil, s.unreachable(err)
	}
	s.reached = true
	return cat, nil
}

func (s *store) openPlane(ctx context.Context) (ControlPlane, *catalog, error) {
	plane, err := s.open(ctx, s.address)
	if err != nil {
		return nil, nil, err
	}
	cat := newCatalog(plane, s.node)
	cat.pulse, cat.news, cat.log = s.pulse, s.news, s.log
	err = cat.open(ctx)
	if err == nil {
		err = cat.enter(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(explainStore(err, s.address), plane.Close())
	}
	return plane, cat, nil
}

// refuse has the store not be served any more.
func (s *store) refuse(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused, s.trouble = reason, reason
}

// noteTrouble notes why the store does not answer; nil: it does.
func (s *store) noteTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = explainStore(err, s.address)
}

// noteWritten notes why the store cannot be written; nil: it can.
func (s *store) noteWritten(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwritable = explainStore(err, s.address)
}

// lastUnwritable is nil for a store that could not be asked.
func (s *store) lastUnwritable() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.trouble != nil {
		return nil
	}
	return s.unwritable
}

func (s *store) lastTrouble() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.trouble
}

func (s *store) unreachable(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, s.address, err)
}

// retryPause is how long a request waits before it tries again to reach a
// store that has not answered yet.
const retryPause = time.Second

// await is connect for requests that Docker will not repeat: while the machine
// boots, and the cluster perhaps with it, it goes on trying until ctx is done.
// Later, or when the store has answered once, a failure is told at once.
func (s *store) await(ctx context.Context) (*catalog, error) {
	for {
		cat, err := s.connect(ctx)
		if err == nil || s.wasReached() || sinceBoot() > s.bootWait.Nanoseconds() || !waitingHelps(err) {
			return cat, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryPause):
		}
	}
}

func (s *store) wasReached() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.reached
}

// failed turns an error of the store's files into one that tells whether the
// store could be asked at all.
func (s *store) failed(err error) error {
	explained := explainStore(err, s.address)
	if err == nil || !noAnswer(err) {
		return explained
	}
	return s.unreachable(explained)
}

// lookUp asks the store for a volume and remembers the answer. The error
// matches ErrNotFound, ErrUnreachable or ErrDamaged.
func (s *store) lookUp(ctx context.Context, name string) (Definition, error) {
	cat, err := s.connect(ctx)
	if err != nil {
		return Definition{}, err
	}
	return s.lookUpBy(ctx, name, cat.find)
}

func (s *store) lookUpBy(ctx context.Context, name string, find findFunc) (Definition, error) {
	before, _ := s.get(name)
	def, err := find(ctx, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.known[name].ID != before.ID: // this node has changed it meanwhile
	case err == nil:
		s.keep(def)
	case errors.Is(err, ErrNotFound):
		if old, known := s.known[name]; known {
			s.gone[name] = old
		}
		s.drop(name)
	case errors.Is(err, ErrDamaged):
		s.distrust(name, err)
	}
	return def, s.failed(err)
}

// get returns what is known of a volume, without asking the store.
func (s *store) get(name string) (Definition, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	def, known := s.known[name]
	return def, known
}

// appendNames appends all names that are known, in any order.
func (s *store) appendNames(names []storedName) []storedName {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names = slices.Grow(names, len(s.known))
	for name := range s.known {
		names = append(names, storedName{name, s})
	}
	return names
}

// list returns all that is known, sorted by name.
func (s *store) list() []Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := slices.AppendSeq(make([]Definition, 0, len(s.known)), maps.Values(s.known))
	slices.SortFunc(list, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// remember notes a volume that this node has made or read.
func (s *store) remember(def Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(def)
}

// forget notes that there is no volume of that name.
func (s *store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(name)
}

// keep is remember with s.mu held.
func (s *store) keep(def Definition) {
	delete(s.damaged, def.Name)
	if old, known := s.known[def.Name]; known && old.ID == def.ID {
		if def.inode != 0 {
			s.known[def.Name] = def
		}
		return
	}
	s.known[def.Name] = def
	if err := s.cache.put(def); err != nil {
		s.log.Warn("volume is not remembered across a restart", "volume", def.Name, "err", err)
	}
}

// distrust says once that a definition is damaged, and has it be read again before anything
// is done to the volume: it would be taken for the one that was read, since it has not been
// replaced. s.mu is held.
func (s *store) distrust(name string, err error) {
	if !s.damaged[name] {
		s.damaged[name] = true
		s.log.Error("volume cannot be served; its definition is left as it is", "volume", name, "err", err)
	}
	if def, known := s.known[name]; known {
		def.inode = 0
		s.known[name] = def
	}
}

// drop is forget with s.mu held.
func (s *store) drop(name string) {
	delete(s.damaged, name)
	delete(s.limits, name)
	if _, known := s.known[name]; !known {
		return
	}
	delete(s.known, name)
	if err := s.cache.drop(name); err != nil {
		s.log.Warn("removed volume stays remembered across a restart", "volume", name, "err", err)
	}
}

// sweepPause is how often all volumes of a store are listed, though nobody has told of a
// change: a node may have been killed before it could, and people edit files.
const sweepPause = 30 * time.Second

// follow brings what is known up to what other nodes have told since it was called last.
// Now and then, and when some of it was missed, that is a refresh.
func (s *store) follow(ctx context.Context) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	heard, err := cat.hearNews(ctx)
	if err == nil {
		err = cat.checkDefinitions(ctx)
	}
	s.noteTrouble(err)
	if err != nil {
		return s.failed(err)
	}
	if heard.all || time.Since(s.swept) > sweepPause {
		begin := time.Now()
		if err = s.refresh(ctx); err == nil {
			s.swept = begin
		}
	} else {
		slices.Sort(heard.names)
		err = s.learnAll(ctx, cat, slices.Compact(heard.names)) // one name at a time: the later answer counts
	}
	if err == nil {
		s.news.note(heard)
	}
	return err
}

// tell tells other nodes what this one has changed.
func (s *store) tell(ctx context.Context) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return s.failed(cat.tell(ctx))
}

// rereadAtOnce is how many known volumes a refresh reads again.
const rereadAtOnce = 25

// refresh brings what is known up to what the store has. A name is forgotten
// only when its look-up says so: a listing can lack what a brick that is down has.
// A name that is listed still may be another volume by now, so the known ones
// are read again too, a part each time.
func (s *store) refresh(ctx context.Context) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	names, err := cat.names(ctx)
	s.noteTrouble(err)
	if err != nil {
		return s.failed(err)
	}
	listed := make(map[string]bool, len(names))
	var unknown []string
	turns, turn := 1+len(names)/rereadAtOnce, s.countRefresh()
	for i, name := range names {
		listed[name] = true
		if _, known := s.get(name); !known {
			unknown = append(unknown, name)
		} else if (i+turn)%turns == 0 {
			_ = s.learn(ctx, name, cat.find) // it stays known
		}
	}
	for _, def := range s.list() {
		if !listed[def.Name] {
			unknown = append(unknown, def.Name)
		}
	}
	return s.learnAll(ctx, cat, unknown)
}

// fewNames are looked up one by one. For more, to list the trash costs less than a look into it for each.
const fewNames = 25

// learnAll learns of names, some at a time: a node that is new to a store has thousands
// to read.
func (s *store) learnAll(ctx context.Context, cat *catalog, names []string) error {
	find := findFunc(cat.find)
	if len(names) > fewNames {
		var err error
		if find, err = cat.finder(ctx); err != nil {
			return s.failed(err)
		}
	}
	var group errgroup.Group
	group.SetLimit(lookUpsAtOnce)
	errs := make([]error, len(names))
	for i, name := range names {
		group.Go(func() error {
			errs[i] = s.learn(ctx, name, find)
			return nil
		})
	}
	_ = group.Wait() // all are tried
	return errors.Join(errors.Join(errs...), ctx.Err())
}

func (s *store) countRefresh() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	return s.refreshes
}

// learn looks up a name of which the listing tells something new.
func (s *store) learn(ctx context.Context, name string, find findFunc) error {
	_, err := s.lookUpBy(ctx, name, find)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) { // lookUp has told
		return nil
	}
	return err
}

// setLimit notes the quota of a volume in bytes, 0 for none.
func (s *store) setLimit(name string, limit uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit == 0 {
		delete(s.limits, name)
	} else {
		s.limits[name] = limit
	}
}

func (s *store) limit(name string) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.limits[name]
}

// leaveTime is how long a driver that stops tries to tell so.
const leaveTime = 2 * time.Second

// close lets go of the control plane.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.plane == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if err := s.catalog.leave(ctx); err != nil {
		s.log.Warn("other nodes cannot be told that this one stops", "err", err)
	}
	err := s.plane.Close()
	s.plane, s.catalog = nil, nil
	return err
}
