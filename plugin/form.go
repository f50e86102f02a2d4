package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Form is how dockerd has the driver: as a process of the node, or as a managed plugin,
// which dockerd runs itself (docs.docker.com/engine/extend).
type Form struct {
	// Socket is where dockerd finds the driver.
	Socket string
	// Driver is the name of the driver, if it is no managed plugin.
	Driver string
	// PluginID is dockerd's id of a managed plugin, which tells its name.
	PluginID string
	// Long bounds Create and Mount, Short the other calls. An answer that comes later
	// than dockerd waits is lost, and no Unmount follows such a Mount.
	Long, Short func() time.Duration
	// Path is what the answers to Mount and Path have for a path: dockerd looks for what
	// a managed plugin names there where it sees the plugin's mounts. The answers to Get
	// and List are shown to people, as they are.
	Path func(string) string
}

// dockerd waits two minutes for Create and Mount and one for the others (moby,
// pkg/plugins and volume/drivers); for a managed plugin that was enabled from the
// command line 30 s, until dockerd is started again.
const (
	longDeadline    = 110 * time.Second
	deadline        = 50 * time.Second
	managedDeadline = 28 * time.Second
)

func always(t time.Duration) func() time.Duration { return func() time.Duration { return t } }

// Legacy is a process that dockerd finds by its socket, whose name is the driver's.
func Legacy(socket string) Form {
	return Form{
		Socket: socket,
		Driver: strings.TrimSuffix(filepath.Base(socket), filepath.Ext(socket)),
		Long:   always(longDeadline), Short: always(deadline),
		Path: func(path string) string { return path },
	}
}

// What hack/plugin/config.json gives a managed plugin.
const (
	// ManagedSocket is where dockerd finds it, in its container.
	ManagedSocket = "/run/docker/plugins/glustervol.sock"
	// ManagedMounts is where dockerd sees what it mounts.
	ManagedMounts = "/mnt/glustervol"
	// ManagedHost has directories of the host.
	ManagedHost = "/host"
)

// Managed is a managed plugin, whose clients are mounted in the directory clients, and
// shown in ManagedMounts. booting tells that the machine has just been started, and
// dockerd with it: containers may wait for their stores then.
func Managed(clients string, booting func() bool) (Form, error) {
	id, err := managedID()
	if err != nil {
		return Form{}, err
	}
	return managedForm(id, clients, booting), nil
}

func managedForm(id, clients string, booting func() bool) Form {
	return Form{
		// dockerd has a directory of the plugin's where the plugin sees the parent.
		Socket:   filepath.Join(filepath.Dir(ManagedSocket), id, filepath.Base(ManagedSocket)),
		PluginID: id,
		Long: func() time.Duration {
			if booting() {
				return longDeadline
			}
			return managedDeadline
		},
		Short: always(managedDeadline),
		Path:  func(path string) string { return managedPath(clients, path) },
	}
}

// managedPath is where dockerd sees clients/KEY/mnt/DIR.
func managedPath(clients, path string) string {
	rel, err := filepath.Rel(clients, path)
	if path == "" || err != nil || !filepath.IsLocal(rel) {
		return path
	}
	key, rest, _ := strings.Cut(rel, "/")
	_, dir, _ := strings.Cut(rest, "/")
	return filepath.Join(ManagedMounts, key, dir)
}

// managedID finds the plugin's id: dockerd has mounted plugins/ID/propagated-mount of
// its own directory.
func managedID() (string, error) {
	table, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(ManagedMounts))
	if err != nil {
		return "", err
	}
	if len(table) == 0 || filepath.Base(table[0].Root) != "propagated-mount" {
		return "", errors.New("this is no managed plugin: dockerd has nothing mounted on " + ManagedMounts)
	}
	return filepath.Base(filepath.Dir(table[0].Root)), nil
}

// Shown tells whether dockerd sees what is mounted in ManagedMounts: whether the host
// still has the mount that this one is a peer of. A dockerd that starts after its own
// crash may take that away when it cleans up behind the former plugin, and makes another
// only when it starts the plugin again.
func Shown() (bool, error) {
	own, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(ManagedMounts))
	if err != nil || len(own) == 0 {
		return false, err
	}
	f, err := os.Open("/proc/1/mountinfo")
	if err != nil {
		return false, err
	}
	defer f.Close()
	peers, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		return m.Root != own[0].Root || m.Optional != own[0].Optional, false
	})
	return len(peers) > 0, err
}

// EnterHost has directories of the host at the same path here. What is mounted in them
// later, on one side, is on the other as well.
func EnterHost(dirs ...string) error {
	for _, dir := range dirs {
		host := filepath.Join(ManagedHost, dir)
		for _, d := range []string{host, dir} {
			if err := os.MkdirAll(d, 0o711); err != nil {
				return fmt.Errorf("%w; does the plugin's config.json give it the host's %s?", err, filepath.Dir(dir))
			}
		}
		if err := unix.Mount(host, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return &os.PathError{Op: "mount", Path: dir, Err: err}
		}
	}
	return nil
}
