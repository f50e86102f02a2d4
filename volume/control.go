package volume

import (
	"context"
	"log/slog"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// ControlPlane is how a store's files are reached.
type ControlPlane interface {
	gluster.FS
	// Alive tells whether it can still be used, without asking the store. One
	// that cannot is closed and opened anew.
	Alive() bool
	// Close lets go of it.
	Close() error
}

// Control opens the control planes of all stores.
type Control struct {
	ControlInfo
	// Open opens that of one store. Two openings of one store never overlap.
	Open func(context.Context, gluster.Address) (ControlPlane, error)
	// Graph tells how a store's Gluster volume is reached: its bricks and options. It may
	// know that while Open fails, and be called at any time behind Open.
	Graph func(context.Context, gluster.Address) (gluster.Graph, error)
	// RotateLogs rotates the logs that have grown too large, other than those of
	// Gluster clients that Clients knows.
	RotateLogs func()
}

// ControlInfo tells which kind of control plane is in use.
type ControlInfo struct {
	// Kind is ControlAPI or ControlFUSE.
	Kind string `json:"kind"`
	// Why says why it is this one.
	Why string `json:"why"`
}

// The kinds of control planes, and ControlAuto to choose one.
const (
	// ControlAuto is libgfapi if it can be loaded, else a mount.
	ControlAuto = "auto"
	// ControlAPI is libgfapi.
	ControlAPI = "gfapi"
	// ControlFUSE is a mount of its own, without caches.
	ControlFUSE = "fuse"
)

// NewControl chooses a kind of control plane. The library logs to logDir; mounts
// are made by clients.
func NewControl(kind string, clients *mount.Clients, logDir string, log *slog.Logger) (Control, error) {
	unavailable := gluster.LoadAPI()
	switch {
	case kind == ControlFUSE:
		return fuseControl(clients, "as asked for"), nil
	case unavailable == nil && kind == ControlAPI:
		return apiControl(logDir, log, "as asked for"), nil
	case unavailable == nil:
		return apiControl(logDir, log, "libgfapi is on this node"), nil
	case kind == ControlAPI:
		return Control{}, unavailable
	default:
		return fuseControl(clients, unavailable.Error()), nil
	}
}
