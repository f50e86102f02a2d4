package volume

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
)

const (
	// replaceAfter is for how long a store has to be silent before its first
	// connection is tried against a second one. Each trial doubles the time for
	// the next, up to replaceAtMost: connections leak (gluster.API.Discard), and
	// a second one rarely helps.
	replaceAfter  = time.Minute
	replaceAtMost = time.Hour
	// The same for a connection that was never up. It leaks little, and may never come up: of some that had been waiting for a
	// Gluster volume to be made and started, one was connected to all bricks, and failed every call with EIO for the 13 min
	// that it was looked at (10.3).
	replaceNewAfter  = 15 * time.Second
	replaceNewAtMost = 5 * time.Minute
	// replaceTime bounds a trial, during which the store's requests wait.
	replaceTime = 5 * time.Second
)

// keptDirs are the directories that are not looked up each time: the store's own, and those
// of the nodes.
var keptDirs = append(slices.Clone(controlDirs), path.Join(nodesDir, "*"))

// apiConnections are the connections over libgfapi, one a store. They are kept
// whatever becomes of them, since most come back by themselves.
type apiConnections struct {
	logDir string
	log    *slog.Logger

	mu      sync.Mutex
	byStore map[string]*apiConnection
}

type apiConnection struct {
	address gluster.Address
	logFile string
	log     *slog.Logger
	// api is replaced by Open alone; replacing is held for it, and by who else uses it.
	replacing sync.Mutex
	api       *gluster.API
	// patience is how long the store may be silent until the next trial. up tells that it has answered once; of one that
	// has not, begun is since when it was asked. tried is when the last trial was.
	patience time.Duration
	up       bool
	begun    time.Time
	tried    time.Time
}

// apiPlane is a control plane over libgfapi.
type apiPlane struct {
	*gluster.API
	patience time.Duration
}

// apiControl opens control planes over libgfapi.
func apiControl(logDir string, log *slog.Logger, why string) Control {
	cs := &apiConnections{logDir: logDir, log: log, byStore: map[string]*apiConnection{}}
	return Control{ControlInfo: ControlInfo{Kind: ControlAPI, Why: why}, Open: cs.open, Graph: cs.graph, RotateLogs: cs.rotateLogs}
}

func (cs *apiConnections) open(ctx context.Context, address gluster.Address) (ControlPlane, error) {
	c, err := cs.connection(address)
	if err != nil {
		return nil, err
	}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return &apiPlane{API: c.api, patience: c.patience}, nil
}

// connection is that of a store, which may not be connected.
func (cs *apiConnections) connection(address gluster.Address) (*apiConnection, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c, found := cs.byStore[address.String()]; found {
		return c, nil
	}
	if err := os.MkdirAll(cs.logDir, 0o700); err != nil {
		return nil, err
	}
	logFile := filepath.Join(cs.logDir, source(address, "").Key()+"-gfapi.log")
	api, err := gluster.NewAPI(address, logFile, keptDirs...)
	if err != nil {
		return nil, err
	}
	c := &apiConnection{address: address, logFile: logFile, log: cs.log, api: api, patience: replaceNewAfter, begun: time.Now()}
	cs.byStore[address.String()] = c
	return c, nil
}

func (cs *apiConnections) rotateLogs() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.byStore {
		// The library has it open with O_APPEND, and no call to open another.
		if err := client.RotateOpenLog(c.logFile, client.MaxLogSize); err != nil {
			cs.log.Warn("log of libgfapi cannot be rotated", "file", c.logFile, "err", err)
		}
	}
}

// connect returns when the store answers. It replaces a connection that has been
// silent for long by one that is not.
func (c *apiConnection) connect(ctx context.Context) error {
	err := c.api.Connect(ctx)
	if err == nil {
		c.answered()
		return nil
	}
	if !c.trialIsDue(err) {
		return err
	}
	fresh, freshErr := gluster.NewAPI(c.address, c.logFile, keptDirs...)
	if freshErr != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, replaceTime)
	defer cancel()
	if fresh.Connect(ctx) != nil {
		fresh.Discard()
		return err
	}
	c.log.Warn("connection over libgfapi replaced: the store answers a new one", "store", c.address.String(), "err", err)
	c.replacing.Lock()
	former := c.api
	c.api = fresh
	c.replacing.Unlock()
	c.answered()
	former.Discard()
	return nil
}

func (c *apiConnection) answered() {
	if !c.up {
		c.up, c.patience = true, replaceAfter
	}
}

// trialIsDue tells whether a second connection is to be tried, as the first one fails with err, and
// notes that it is.
func (c *apiConnection) trialIsDue(err error) bool {
	if errors.Is(err, client.ErrNoDirectory) || errors.Is(err, syscall.ENOTDIR) {
		return false // which is an answer
	}
	silent, atMost := c.api.Failing(), replaceAtMost
	if !c.up {
		silent, atMost = time.Since(c.begun), replaceNewAtMost
	}
	if silent < c.patience || time.Since(c.tried) < c.patience {
		return false
	}
	c.tried, c.patience = time.Now(), min(2*c.patience, atMost)
	return true
}

// graph is Control.Graph.
func (cs *apiConnections) graph(ctx context.Context, address gluster.Address) (gluster.Graph, error) {
	c, err := cs.connection(address)
	if err != nil {
		return nil, err
	}
	c.replacing.Lock()
	api := c.api
	c.replacing.Unlock()
	return api.Graph(ctx)
}

// Alive implements ControlPlane.
func (p *apiPlane) Alive() bool { return p.Failing() < p.patience }

// Close implements ControlPlane. The connection stays, for the next plane.
func (p *apiPlane) Close() error { return nil }
