package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glustervol/glustervol/gluster/client"
)

// Clients are the Gluster clients of this node. Each serves every user of an
// equal Source: the first starts it, and a while after the last has left it is
// ended.
type Clients struct {
	config Config

	died chan struct{}
	// searched are the mount namespaces in which a search for dead mounts is.
	searched sync.Map

	mu      sync.Mutex
	clients map[string]*shared // by Source.Key
	closed  bool
}

// Config says how Clients work.
type Config struct {
	// RunDir is the directory, lost at a reboot, that each client has a
	// directory in. No part of its path may be a symlink.
	RunDir string
	// LogDir is where the clients log to.
	LogDir string
	// Binary is the glusterfs program: a path, or a name to be found in PATH.
	Binary string
	// Linger is how long a client without a user is kept, so that a restarting
	// container finds it still there.
	Linger time.Duration
	// ShowDir is a directory in which each client's mount is to be seen once more,
	// under the client's key; "" for none.
	ShowDir string
	// ControlGroups is where the machine's control groups are mounted, if clients are
	// to leave the driver's, which ends with it; else "".
	ControlGroups string
	// Log is told of clients that start, end and die.
	Log *slog.Logger
}

// shared is a client with its users.
type shared struct {
	*Client
	users  map[string]struct{}
	linger *time.Timer
}

// NewClients returns the clients of this node, none so far.
func NewClients(config Config) *Clients {
	return &Clients{config: config, died: make(chan struct{}, 1), clients: map[string]*shared{}}
}

// Died tells, now and then, that a client which has users has died since it told
// last. It needs to be revived, and what containers have of it a Graft.
func (cs *Clients) Died() <-chan struct{} { return cs.died }

// Revive starts a client unless it runs. There is an error when no client of that key
// has users.
func (cs *Clients) Revive(ctx context.Context, key string) error {
	cs.mu.Lock()
	c, found := cs.clients[key]
	inUse := found && len(c.users) > 0
	cs.mu.Unlock()
	if !inUse {
		return fmt.Errorf("client %s is not in use", key)
	}
	return cs.ensure(ctx, key, c.Client)
}

func (cs *Clients) ensure(ctx context.Context, key string, c *Client) error {
	started, err := c.ensure(ctx)
	if started != nil {
		cs.config.Log.Info("client started", "client", key, "source", c.source.String(), "options", string(c.source.Options), "pid", started.pid)
		if err := leaveGroups(cs.config.ControlGroups, started.pid); err != nil {
			cs.config.Log.Warn("client is going to end with the driver's container, and its users are healed when that is started again", "client", key, "err", err)
		}
		go cs.watch(c, started)
	}
	return err
}

// Use counts user as one of the client of source, starts the client if it does
// not run, and returns it when its mount answers. To use it twice is to use it
// once. When Use fails, user is not counted.
func (cs *Clients) Use(ctx context.Context, source Source, user string) (*Client, error) {
	c, added := cs.count(source, user)
	if err := cs.ensure(ctx, source.Key(), c.Client); err != nil {
		if added {
			cs.Release(source.Key(), user)
		}
		return nil, err
	}
	return c.Client, nil
}

// count finds or makes the client of source and counts user; added tells that
// it was not counted before.
func (cs *Clients) count(source Source, user string) (c *shared, added bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	key := source.Key()
	c, found := cs.clients[key]
	if !found {
		c = cs.add(key, source)
	}
	_, counted := c.users[user]
	c.hold(user)
	return c, !counted
}

// add makes a client without users known. cs.mu is held.
func (cs *Clients) add(key string, source Source) *shared {
	c := &shared{
		Client: newClient(source, key, cs.config),
		users:  map[string]struct{}{},
	}
	if err := c.deaths.load(); err != nil {
		cs.config.Log.Warn("containers whose client died before may have to be restarted", "client", key, "err", err)
	}
	cs.clients[key] = c
	return c
}

func (c *shared) hold(user string) {
	c.users[user] = struct{}{}
	if c.linger != nil {
		c.linger.Stop()
		c.linger = nil
	}
}

// Hold counts user as one of an adopted client. It returns false when there is
// no client of that key.
func (cs *Clients) Hold(key, user string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, found := cs.clients[key]
	if found {
		c.hold(user)
	}
	return found
}

// Release takes user off a client; the last one's leaving ends it after the
// linger. To release what is not used does nothing.
func (cs *Clients) Release(key, user string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, found := cs.clients[key]
	if !found {
		return
	}
	delete(c.users, user)
	if len(c.users) == 0 {
		cs.endLater(key, c)
	}
}

// endLater ends an idle client after the linger. cs.mu is held.
func (cs *Clients) endLater(key string, c *shared) {
	if cs.closed || c.linger != nil {
		return
	}
	c.linger = time.AfterFunc(cs.config.Linger, func() {
		ctx, cancel := context.WithTimeout(context.Background(), endPatience)
		defer cancel()
		if err := cs.endIdle(ctx, key, c); err != nil {
			cs.config.Log.Warn("client cannot be ended, trying again", "client", key, "err", err)
			cs.mu.Lock()
			defer cs.mu.Unlock()
			c.linger = nil
			if len(c.users) == 0 && cs.clients[key] == c {
				cs.endLater(key, c)
			}
		}
	})
}

// endPatience is how long the unmount of a client may take.
const endPatience = 30 * time.Second

// endIdle ends a client, unless it has got a user meanwhile. A user that comes
// during the unmount waits for it and has the client started again.
func (cs *Clients) endIdle(ctx context.Context, key string, c *shared) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if !cs.idle(key, c) {
		return nil
	}
	pid := c.PID()
	if err := c.end(ctx); err != nil {
		return err
	}
	cs.config.Log.Info("client ended", "client", key, "pid", pid)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(c.users) == 0 && cs.clients[key] == c {
		delete(cs.clients, key)
	}
	return nil
}

// idle tells whether a client has no user. One that has been ended already is
// not idle: its path may be another's by now.
func (cs *Clients) idle(key string, c *shared) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(c.users) == 0 && cs.clients[key] == c
}

// watch tells of the end of a client that still has users.
func (cs *Clients) watch(c *Client, p *process) {
	<-p.exited
	key := filepath.Base(c.dir)
	cs.mu.Lock()
	shared, found := cs.clients[key]
	inUse := found && shared.Client == c && len(shared.users) > 0 && c.running.Load() == p
	cs.mu.Unlock()
	if !inUse {
		return
	}
	cs.config.Log.Error("client died", "client", key, "pid", p.pid, "log", c.logFile)
	select {
	case cs.died <- struct{}{}:
	default: // it is about to be told
	}
}

// Adopt takes over the clients that an earlier driver has left, without their
// users: Hold tells those. Call EndIdle behind it.
func (cs *Clients) Adopt() error {
	entries, err := os.ReadDir(cs.config.RunDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, cs.adopt(e.Name()))
	}
	return errors.Join(errs...)
}

func (cs *Clients) adopt(key string) error {
	dir := filepath.Join(cs.config.RunDir, key)
	data, err := os.ReadFile(filepath.Join(dir, "source.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return newClient(Source{}, key, cs.config).discard()
	}
	if err != nil {
		return err
	}
	var source Source
	if err := json.Unmarshal(data, &source); err != nil || source.Key() != key {
		return &fs.PathError{Op: "adopt", Path: dir, Err: errors.New("source.json was not written by glustervol")}
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.add(key, source)
	mounted, err := c.adopt()
	if err == nil && !mounted {
		err = c.removeDir()
	}
	if err != nil || !mounted {
		delete(cs.clients, key)
		return err
	}
	cs.config.Log.Info("client adopted", "client", key, "source", source.String(), "pid", c.PID())
	if p := c.running.Load(); p != nil {
		go cs.watch(c.Client, p)
	}
	return nil
}

// EndIdle lets every client without a user end after the linger.
func (cs *Clients) EndIdle() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for key, c := range cs.clients {
		if len(c.users) == 0 {
			cs.endLater(key, c)
		}
	}
}

// Close ends the clients without a user now, and leaves those with one to the
// next driver.
func (cs *Clients) Close(ctx context.Context) error {
	cs.mu.Lock()
	cs.closed = true
	idle := map[string]*shared{}
	for key, c := range cs.clients {
		if c.linger != nil {
			c.linger.Stop()
		}
		if len(c.users) == 0 {
			idle[key] = c
		}
	}
	cs.mu.Unlock()
	var errs []error
	for key, c := range idle {
		errs = append(errs, cs.endIdle(ctx, key, c))
	}
	return errors.Join(errs...)
}

// RotateLogs rotates the clients' logs that have grown too large.
func (cs *Clients) RotateLogs() {
	for _, status := range cs.List() {
		// On SIGHUP a glusterfs process opens its log anew (glusterfsd.c, reincarnate).
		reopen := func() error {
			if status.PID == 0 {
				return nil
			}
			return unix.Kill(status.PID, unix.SIGHUP)
		}
		if err := client.RotateLog(status.LogFile, client.MaxLogSize, reopen); err != nil {
			cs.config.Log.Warn("client log cannot be rotated", "client", status.Key, "err", err)
		}
	}
}

// Status describes a client.
type Status struct {
	Key    string `json:"key"`
	Source Source `json:"source"`
	// PID is 0 when the client does not run.
	PID int `json:"pid"`
	// Health is "alive", "dead", or "not mounted" when somebody has unmounted it.
	Health string `json:"health"`
	// Died tells that containers may have a mount of a process of it that has died.
	Died bool `json:"died,omitempty"`
	// Mount is the path of the client's mount.
	Mount   string   `json:"mount"`
	LogFile string   `json:"log"`
	Users   []string `json:"users"`
}

// List describes all clients, sorted by key, without asking any of them.
func (cs *Clients) List() []Status {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	list := make([]Status, 0, len(cs.clients))
	for _, c := range cs.clients {
		list = append(list, c.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Status describes the client of a key; its Health is "not running" when there
// is none.
func (cs *Clients) Status(key string) Status {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c, found := cs.clients[key]; found {
		return c.status()
	}
	return Status{Key: key, Health: "not running", Users: []string{}}
}

func (c *shared) status() Status {
	s := Status{
		Key:     filepath.Base(c.dir),
		Source:  c.source,
		PID:     c.PID(),
		Health:  "alive",
		Died:    !c.deaths.none(),
		Mount:   c.Path(),
		LogFile: c.logFile,
		Users:   make([]string, 0, len(c.users)),
	}
	switch {
	case s.PID == 0:
		s.Health = "dead"
	case !c.mounted():
		s.Health = "not mounted"
	}
	for user := range c.users {
		s.Users = append(s.Users, user)
	}
	slices.Sort(s.Users)
	return s
}
