package plugin

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/moby/moby/client"
)

// DockerView is how this node's dockerd sees a volume driver.
type DockerView struct {
	// Version is dockerd's.
	Version string
	// Driver is the name that it knows the driver by.
	Driver string
	// Seen tells that dockerd has the driver among its own; Warnings are what it says of
	// its drivers when it asks them for their volumes.
	Seen     bool
	Warnings []string
}

// Managed tells whether the driver is a managed plugin.
func (i Info) Managed() bool { return pluginID(i.Socket) != "" }

// pluginID is dockerd's id of the managed plugin that serves a socket, "" for a driver
// of the host. managedForm has where such sockets are.
func pluginID(socket string) string {
	dir := filepath.Dir(socket)
	if filepath.Dir(dir) == filepath.Dir(ManagedSocket) {
		return filepath.Base(dir)
	}
	return ""
}

// LookFromDocker asks the dockerd behind a socket how it sees the driver that serves
// another one. It has dockerd ask the driver for its volumes, since dockerd finds a
// driver of the host only when it needs it.
func LookFromDocker(ctx context.Context, dockerSocket, pluginSocket string) (view DockerView, err error) {
	docker, err := client.New(client.WithHost("unix://" + dockerSocket))
	if err != nil {
		return view, err
	}
	defer docker.Close()
	server, err := docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return view, err
	}
	view.Version = server.Version
	list, err := docker.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return view, err
	}
	view.Warnings = list.Warnings
	if id := pluginID(pluginSocket); id != "" {
		managed, err := docker.PluginInspect(ctx, id, client.PluginInspectOptions{})
		view.Driver, view.Seen = driverName(managed.Plugin.Name), managed.Plugin.Enabled
		return view, err
	}
	view.Driver = Legacy(pluginSocket).Driver
	info, err := docker.Info(ctx, client.InfoOptions{}) // has no managed plugins
	view.Seen = slices.Contains(info.Info.Plugins.Volume, view.Driver)
	return view, err
}
