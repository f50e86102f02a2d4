package plugin

import (
	"time"

	"github.com/glustervol/glustervol/mount"
	"github.com/glustervol/glustervol/volume"
)

// VolumeInfo is a volume as the admin API and 'glustervol inspect' show it.
type VolumeInfo struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Store string `json:"store"`
	// Path is the volume's directory on the store.
	Path    string         `json:"path"`
	Created time.Time      `json:"created"`
	Options volume.Options `json:"options"`
	// Mountpoint is its path on this node while it is mounted, else "".
	Mountpoint string `json:"mountpoint"`
	// Users are the mount ids on this node.
	Users []string `json:"users"`
	// Client is the Gluster client of this node that serves it, or would.
	Client mount.Status `json:"client"`
	// Control is how its store is reached for all but the data.
	Control volume.ControlInfo `json:"control"`
	// SizeLimit is its quota in bytes, 0 when none is known.
	SizeLimit uint64 `json:"size-limit,omitempty"`
	// Trouble is why its store could not be reached lately, or "".
	Trouble string `json:"trouble,omitempty"`
	// Healings are of containers of this node whose Gluster client has died.
	Healings []volume.Healing `json:"healings,omitempty"`
}

// Info is the driver itself, as 'glustervol info' shows it.
type Info struct {
	Version string      `json:"version"`
	Node    volume.Node `json:"node"`
	PID     int         `json:"pid"`
	Socket  string      `json:"socket"`
	// Docker says whether the containers of this node are known.
	Docker string `json:"docker"`
	// RunDir, StateDir and LogDir are the driver's directories.
	RunDir   string             `json:"run-dir"`
	StateDir string             `json:"state-dir"`
	LogDir   string             `json:"log-dir"`
	Stores   []volume.StoreInfo `json:"stores"`
	Clients  []mount.Status     `json:"clients"`
}

func newVolumeInfo(v volume.Volume) VolumeInfo {
	return VolumeInfo{
		Name: v.Name, ID: v.ID, Store: v.Store, Path: v.Dir(), Created: v.Created, Options: v.Options,
		Mountpoint: v.Mountpoint, Users: v.Users, Client: v.Client, Control: v.Control, SizeLimit: v.Limit, Trouble: v.Trouble,
		Healings: v.Healings,
	}
}
