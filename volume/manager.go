package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// Clients are the Gluster clients of this node, as the Manager uses them.
// mount.Clients documents the methods.
type Clients interface {
	Use(ctx context.Context, source mount.Source, user string) (*mount.Client, error)
	Mount(ctx context.Context, source mount.Source, dir mount.Dir, user string) (path string, err error)
	Hold(key, user string) bool
	Release(key, user string)
	Bound(key, dir string) (pids []int, err error)
	Status(key string) mount.Status
	Died() <-chan struct{}
	Revive(ctx context.Context, key string) error
	Graft(ctx context.Context, key string, dirs []string, expected func(pid int) []string) ([]mount.Graft, error)
}

// Config says what a Manager serves, and how.
type Config struct {
	// Stores are the stores; the first is the default.
	Stores []gluster.Address
	// Node is this run of this node's driver.
	Node Node
	// RunDir keeps what is lost at a reboot, StateDir what is not.
	RunDir, StateDir string
	// BootWait is how long after the machine's boot Create and Mount wait for a
	// store that has not answered yet.
	BootWait time.Duration
	// ClientOptions are those of volumes that have none of their own.
	ClientOptions mount.Options
	// Control opens the control planes of the stores.
	Control Control
	// TrashRetention is for how long a removed volume can be restored before it is
	// purged, 0 for ever.
	TrashRetention time.Duration
	// AwaitContainers tells that SetContainers will be called: until then, what an
	// earlier session has published stays.
	AwaitContainers bool
	// Clients mount the stores for the data.
	Clients Clients
	// Log is told of events.
	Log *slog.Logger
}

// Manager serves the volumes of its stores on this node. Each method is done,
// or has failed and left nothing, when ctx is done.
type Manager struct {
	config Config
	stores []*store
	mounts *mounts
	names  nameLocks
	// containers are those of this node.
	containers containers
	// purges keeps purges of one entry of the trash apart.
	purges nameLocks
	// emptying counts the people who wait for the trash to be emptied.
	emptying atomic.Int32
	// healings are of containers whose client died.
	healings healings
}

// New returns a Manager that goes on where an earlier one on this node has
// stopped. It asks no store; Run does.
func New(config Config) (*Manager, error) {
	m := &Manager{config: config, names: newNameLocks(), purges: newNameLocks()}
	m.containers.known = !config.AwaitContainers
	for i, address := range config.Stores {
		for _, other := range config.Stores[:i] {
			if address.Overlaps(other) {
				return nil, fmt.Errorf("stores %s and %s share files; serve one of them", other, address)
			}
		}
		s, err := newStore(address, config)
		if err != nil {
			return nil, err
		}
		m.stores = append(m.stores, s)
	}
	var err error
	if m.mounts, err = openMounts(filepath.Join(config.RunDir, "mounts"), config.Log); err != nil {
		return nil, err
	}
	for _, v := range m.mounts.list() {
		if !config.Clients.Hold(v.Client, v.Volume) {
			config.Log.Warn("volume is in use, but its client is gone; the next mount starts one", "volume", v.Volume, "client", v.Client)
		}
	}
	return m, nil
}

// Create makes a volume. A volume that is there with the same options is
// success, and so is one that is asked for by name alone.
func (m *Manager) Create(ctx context.Context, name string, options map[string]string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	request, err := ParseOptions(options)
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	unlock, err := m.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := m.storeFor(ctx, name, request)
	if err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	def := Definition{Name: name, ID: NewID(), Created: time.Now().UTC().Truncate(time.Second), Options: request.Options}
	var exists existsError
	switch def, err = m.create(ctx, s, def, request); {
	case errors.As(err, &exists):
		s.remember(exists.Definition)
		return matches(exists.Definition, s.address, request)
	case err != nil:
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	s.remember(def)
	m.config.Log.Info("volume created", "volume", name, "id", def.ID, "store", s.address.String())
	return nil
}

// storeFor is the store to create a volume in: the one that has the name
// already, the one that was asked for, or the default.
func (m *Manager) storeFor(ctx context.Context, name string, request Request) (*store, error) {
	asked := m.stores[0]
	if request.Store != "" {
		var err error
		if asked, err = m.storeNamed(request.Store); err != nil {
			return nil, err
		}
	}
	if len(m.stores) == 1 {
		return asked, nil
	}
	find := m.find
	if request.Store != "" {
		find = func(ctx context.Context, name string) (*store, Definition, error) {
			return m.findBeside(ctx, asked, name)
		}
	}
	s, _, err := find(ctx, name)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, ErrNotFound):
		return asked, nil
	case request.Store != "" && errors.Is(err, ErrUnreachable):
		return asked, nil // who names the store is not kept waiting by another
	case errors.Is(err, ErrUnreachable):
		return nil, fmt.Errorf("the volume may be there already: %w; to create it in another store, name that with '-o store=…'", err)
	default:
		return nil, err
	}
}

// storeNamed is the store of an address, whatever servers it names.
func (m *Manager) storeNamed(text string) (*store, error) {
	address, err := gluster.ParseAddress(text)
	if err != nil {
		return nil, err
	}
	served := make([]string, 0, len(m.stores))
	for _, s := range m.stores {
		if s.address.Volume == address.Volume && s.address.Subdir == address.Subdir {
			return s, nil
		}
		served = append(served, s.address.String())
	}
	return nil, fmt.Errorf("store %s is not one of those that this driver serves: %s", text, strings.Join(served, ", "))
}

func (m *Manager) create(ctx context.Context, s *store, def Definition, request Request) (Definition, error) {
	cat, err := s.await(ctx)
	if err != nil {
		return Definition{}, err
	}
	if !def.ownDir() {
		if err := s.refresh(ctx); err != nil {
			return Definition{}, err
		}
		if err := checkOverlap(s.list(), def); err != nil {
			return Definition{}, err
		}
	}
	var created Definition
	err = cat.whileUnderWay(ctx, def.Name, func() (err error) {
		created, err = cat.create(ctx, def, request.Adopt)
		return err
	})
	return created, s.failed(err)
}

// checkOverlap refuses a path that lies inside another volume's, or around it:
// a container could swap a directory on the way for a symlink. The same path
// is fine.
func checkOverlap(known []Definition, def Definition) error {
	for _, other := range known {
		if other.ownDir() || other.Dir() == def.Dir() || other.Name == def.Name {
			continue
		}
		if gluster.PathWithin(def.Dir(), other.Dir()) || gluster.PathWithin(other.Dir(), def.Dir()) {
			return fmt.Errorf("path %s and path %s of volume %s lie one within the other; use separate directories, or the same", def.Dir(), other.Dir(), other.Name)
		}
	}
	return nil
}

// matches tells whether a volume that is there is what was asked for.
func matches(def Definition, address gluster.Address, request Request) error {
	if request.Empty {
		return nil
	}
	differences := def.Options.differences(request.Options)
	if request.Store != "" {
		if asked, err := gluster.ParseAddress(request.Store); err != nil || !asked.Overlaps(address) {
			differences = append(differences, fmt.Sprintf("store is %q, not %q", address, request.Store))
		}
	}
	if len(differences) == 0 {
		return nil
	}
	return fmt.Errorf("volume %s exists with other options: %s; use it with its own, or another name", def.Name, strings.Join(differences, ", "))
}

// Mount counts id as a user of a volume and returns the path of the volume's
// directory, which was just verified to be on a live mount of its store.
func (m *Manager) Mount(ctx context.Context, name, id string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	unlock, err := m.names.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	client := m.startClientEarly(ctx, name)
	defer client.end()
	looked := m.lookUpDirEarly(ctx, name)
	s, def, err := m.findForUse(ctx, name)
	if err != nil {
		return "", fmt.Errorf("mount volume %s: %w", name, err)
	}
	source := m.source(s, def)
	former, inUse := m.mounts.get(name)
	if inUse && former.ID != "" && former.ID != def.ID {
		return "", fmt.Errorf("mount volume %s: it was removed and created again while this node still uses the former one: %s; stop those first", name, strings.Join(former.ids(), ", "))
	}
	if running := m.config.Clients.Status(former.Client); inUse && running.PID != 0 {
		source = running.Source // all users on one client, though the store's servers may be written otherwise by now
	}
	v := mounted{Volume: name, ID: def.ID, Store: s.address.String(), Client: source.Key(), Dir: def.Dir()}
	if err := m.mounts.add(v, id); err != nil {
		return "", err
	}
	dir, err := looked.of(ctx, s, def)
	if err == nil {
		err = client.await(v.Client)
	}
	path := ""
	if err == nil {
		path, err = m.config.Clients.Mount(ctx, source, dir, name)
	}
	if err != nil {
		err = explainMount(err, def, s.address)
		return "", fmt.Errorf("mount volume %s: %w", name, errors.Join(err, m.drop(name, id, false)))
	}
	m.config.Log.Info("volume mounted", "volume", name, "user", id, "path", path)
	go m.measure(context.WithoutCancel(ctx), s, def)
	return path, nil
}

// Unmount counts one mount of a volume by id less. To unmount what is not
// mounted is success: Docker repeats itself, and a driver may have restarted.
func (m *Manager) Unmount(ctx context.Context, name, id string) error {
	return m.unmount(ctx, name, id, false)
}

// UnmountAll counts id as a user no more, however often it has mounted.
func (m *Manager) UnmountAll(ctx context.Context, name, id string) error {
	return m.unmount(ctx, name, id, true)
}

func (m *Manager) unmount(ctx context.Context, name, id string, all bool) error {
	unlock, err := m.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if v, inUse := m.mounts.get(name); !inUse || v.Users[id].Count == 0 {
		m.config.Log.Debug("unmount of what is not mounted", "volume", name, "user", id)
		return nil
	}
	if err := m.drop(name, id, all); err != nil {
		return fmt.Errorf("unmount volume %s: %w", name, err)
	}
	m.config.Log.Info("volume unmounted", "volume", name, "user", id)
	return nil
}

// drop counts a user less and lets go of the client behind the last one.
func (m *Manager) drop(name, id string, all bool) error {
	v, last, err := m.mounts.drop(name, id, all)
	if err != nil {
		return err
	}
	if last {
		m.config.Clients.Release(v.Client, name)
	}
	return nil
}

// InUseError says who keeps a volume from being removed.
type InUseError struct {
	Volume string
	// Users are the mount ids on this node.
	Users []string
	// Holders are the other nodes that use it.
	Holders []Holder
}

func (e *InUseError) Error() string {
	var by []string
	if len(e.Users) > 0 {
		by = append(by, "on this node by "+strings.Join(e.Users, ", "))
	}
	for _, h := range e.Holders {
		by = append(by, "on "+h.String())
	}
	return fmt.Sprintf("volume %s is in use %s; stop and remove what uses it first", e.Volume, strings.Join(by, ", and "))
}

// Remove removes a volume that nobody uses; its data goes where on-remove says,
// or stays in its directory with keepData. storeName chooses between volumes of
// one name in several stores; else it is "".
func (m *Manager) Remove(ctx context.Context, name, storeName string, keepData bool) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	unlock, err := m.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	s, def, known := m.knownOnce(name, storeName)
	if known {
		err = m.remove(ctx, s, def, keepData)
	}
	if !known || errors.Is(err, ErrNotFound) { // it may be another by now
		if s, def, err = m.findIn(ctx, name, storeName); err == nil {
			err = m.remove(ctx, s, def, keepData)
		}
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	s.forget(name)
	m.config.Log.Info("volume removed", "volume", name, "id", def.ID, "store", s.address.String(), "keep-data", keepData)
	if def.Options.OnRemove == Delete {
		s.purgeSoon()
	}
	return nil
}

func (m *Manager) remove(ctx context.Context, s *store, def Definition, keepData bool) error {
	cat, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return s.failed(cat.whileUnderWay(ctx, def.Name, func() error { return cat.remove(ctx, def, keepData, m.unused(def.Name)) }))
}

// unused is what a removal asks behind its tombstone.
func (m *Manager) unused(name string) func(context.Context) error {
	return func(context.Context) error {
		if err := m.dropStale(name); err != nil {
			return err
		}
		if v, inUse := m.mounts.get(name); inUse {
			return &InUseError{Volume: name, Users: v.ids()}
		}
		return nil
	}
}

// source is what a client mounts for a volume.
func (m *Manager) source(s *store, def Definition) mount.Source {
	return source(s.address, cmp.Or(def.Options.ClientOptions, m.config.ClientOptions))
}

// Volume is a volume as this node sees it.
type Volume struct {
	Definition
	// Store is the address of its store.
	Store string
	// Mountpoint is its path on this node while it is mounted, else "".
	Mountpoint string
	// Users are the mount ids on this node.
	Users []string
	// Client is the Gluster client that serves it, or would.
	Client mount.Status
	// Limit is its quota in bytes, 0 when none is known.
	Limit uint64
	// Control is how its store is reached for all but the data.
	Control ControlInfo
	// Trouble is why its store could not be reached or written lately, or "".
	Trouble string
	// Healings are of its containers whose client has died.
	Healings []Healing
}

// Get describes a volume from memory. A name that is not known is looked up
// once: ErrNotFound is certain, ErrUnreachable leaves it open.
func (m *Manager) Get(ctx context.Context, name string) (Volume, error) {
	for _, s := range m.stores {
		if def, known := s.get(name); known {
			return m.describe(s, def, m.askClients()), nil
		}
	}
	if err := CheckName(name); err != nil {
		return Volume{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	s, def, err := m.find(ctx, name)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return m.describe(s, def, m.askClients()), nil
}

// List describes all volumes from memory, sorted by name, one after the other: there may be
// thousands. Of a name that is in several stores, it has the one that Get returns.
func (m *Manager) List() iter.Seq[Volume] {
	return func(yield func(Volume) bool) {
		clients := m.askClients()
		last := ""
		for _, one := range m.storedNames() {
			def, known := one.store.get(one.name)
			if !known || one.name == last {
				continue
			}
			if last = one.name; !yield(m.describe(one.store, def, clients)) {
				return
			}
		}
	}
}

// storedName is the name of a volume that is known, and where.
type storedName struct {
	name  string
	store *store
}

// storedNames are all of them, sorted by name, and then as the stores are.
func (m *Manager) storedNames() []storedName {
	var names []storedName
	for _, s := range m.stores {
		names = s.appendNames(names)
	}
	slices.SortStableFunc(names, func(a, b storedName) int { return strings.Compare(a.name, b.name) })
	return names
}

// clientsOnce asks for each client once: thousands of volumes have one.
type clientsOnce struct {
	manager *Manager
	keys    map[clientOf]string
	status  map[string]mount.Status
}

// clientOf is for which volumes a client is.
type clientOf struct {
	store   *store
	options mount.Options
}

func (m *Manager) askClients() clientsOnce {
	return clientsOnce{m, map[clientOf]string{}, map[string]mount.Status{}}
}

// key is that of the client which a volume would have.
func (c clientsOnce) key(s *store, def Definition) string {
	of := clientOf{s, def.Options.ClientOptions}
	key, found := c.keys[of]
	if !found {
		key = c.manager.source(s, def).Key()
		c.keys[of] = key
	}
	return key
}

func (c clientsOnce) of(key string) mount.Status {
	one, found := c.status[key]
	if !found {
		one = c.manager.config.Clients.Status(key)
		c.status[key] = one
	}
	return one
}

func (m *Manager) describe(s *store, def Definition, clients clientsOnce) Volume {
	v := Volume{
		Definition: def,
		Store:      s.text,
		Users:      []string{},
		Limit:      s.limit(def.Name),
		Control:    m.config.Control.ControlInfo,
	}
	in, inUse := m.mounts.get(def.Name)
	client := in.Client
	if client == "" {
		client = clients.key(s, def)
	}
	v.Client = clients.of(client)
	if inUse {
		v.Healings = m.healings.of(def.Name)
		v.Users = in.ids()
		if v.Client.Mount != "" {
			v.Mountpoint = filepath.Join(v.Client.Mount, def.Dir())
		}
	}
	if err := cmp.Or(s.lastTrouble(), s.lastUnwritable()); err != nil {
		v.Trouble = err.Error()
	}
	return v
}
