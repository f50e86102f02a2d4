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
	form := Legacy(pluginSocket)
	form.PluginID = pluginID(pluginSocket)
	if view.Driver, err = (&Engine{client: docker, form: form}).driver(ctx); err != nil {
		return view, err
	}
	list, err := docker.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return view, err
	}
	view.Warnings = list.Warnings
	info, err := docker.Info(ctx, client.InfoOptions{})
	view.Seen = slices.ContainsFunc(info.Info.Plugins.Volume, func(name string) bool {
		return driverName(name) == view.Driver
	})
	return view, err
}
