package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/mountinfo"

	"github.com/glustervol/glustervol/gluster/client"
)

// checkFUSE opens the device that each Gluster client mounts with.
func (n *Node) checkFUSE(context.Context) []Finding {
	f, err := os.OpenFile(n.fuse, os.O_RDWR, 0)
	if err != nil {
		return one(failure("load the kernel's module: 'modprobe fuse'; a container needs the device given to it", "%v", err))
	}
	_ = f.Close() // nothing was asked of it
	return one(ok("%s opens", n.fuse))
}

const installClient = "install glusterfs-client (Debian, Ubuntu) or glusterfs-fuse (Fedora and its like), Gluster 10 or later"

// checkProgram is about the Gluster client that serves the data of volumes. The driver
// starts it directly; the script mount.glusterfs is not needed.
func (n *Node) checkProgram(ctx context.Context) []Finding {
	if n.managed() {
		return one(skipped("the managed plugin brings its own"))
	}
	path, err := exec.LookPath(n.Glusterfs)
	if err != nil {
		return one(failure(installClient, "%v", err))
	}
	major, version, err := n.clientVersion(ctx)
	switch {
	case err != nil:
		return one(failure(installClient, "%s: %v", path, err))
	case major < oldestGluster:
		return one(failure(installClient, "%s is Gluster %s, which is too old", path, version))
	}
	return one(ok("%s is Gluster %s", path, version))
}

// oldestGluster is the oldest version that glustervol is tested with.
const oldestGluster = 10

var glusterVersion = regexp.MustCompile(`^glusterfs (\d+)\.\S+`)

func (n *Node) clientVersion(ctx context.Context) (major int, version string, err error) {
	out, err := exec.CommandContext(ctx, n.Glusterfs, "--version").Output()
	if err != nil {
		return 0, "", err
	}
	found := glusterVersion.FindStringSubmatch(string(out))
	if found == nil {
		return 0, "", fmt.Errorf("it does not tell its version, but %.40q", out)
	}
	major, err = strconv.Atoi(found[1])
	return major, strings.TrimPrefix(found[0], "glusterfs "), err
}

// opVersions is how many op-versions a major version has: 10.x has 100000 to 109999.
const opVersions = 10000

// checkVersions compares the client with the servers. These tell a client nothing of
// their version, neither in the volume file nor when it connects (the "opversion" that
// stands there is the client's own): only a glusterd on this node knows.
func (n *Node) checkVersions(ctx context.Context) []Finding {
	if n.managed() {
		return one(skipped("servers tell a client nothing of their version; compare 'gluster volume get all cluster.op-version' on one with 'docker plugin inspect'"))
	}
	major, version, err := n.clientVersion(ctx)
	if err != nil {
		return one(skipped("this node's client does not tell its version"))
	}
	text, err := os.ReadFile(n.glusterdInfo)
	if errors.Is(err, fs.ErrNotExist) {
		return one(skipped("no glusterd on this node, and servers tell a client nothing of their version; compare %s with 'gluster volume get all cluster.op-version' on one of them", version))
	}
	_, rest, _ := strings.Cut(string(text), "operating-version=")
	servers, numberErr := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	switch {
	case errors.Join(err, numberErr) != nil:
		return one(skipped("%s does not tell the servers' op-version", n.glusterdInfo))
	case servers/opVersions > major:
		return one(failure("upgrade Gluster's client on this node", "the servers work at op-version %d, and this node's client is Gluster %s", servers, version))
	case servers/opVersions < major:
		return one(warning(fmt.Sprintf("when all servers and clients have it: 'gluster volume set all cluster.op-version %d'", major*opVersions),
			"the servers work at op-version %d, below Gluster %s of this node", servers, version))
	}
	return one(ok("client %s, servers at op-version %d", version, servers))
}

// checkLibrary is about how the driver reaches its stores for all but the data.
func (n *Node) checkLibrary(context.Context) []Finding {
	const advice = "install the package that has libgfapi.so.0 (glusterfs-client on Debian), and restart the driver"
	if n.runs() && len(n.info.Stores) > 0 {
		control := n.info.Stores[0].Control
		if control.Kind == "gfapi" || !strings.Contains(control.Why, "cannot be used") {
			return one(ok("control plane %s: %s", control.Kind, control.Why))
		}
		return one(warning(advice, "control plane %s, so each store has a Gluster client more: %s", control.Kind, control.Why))
	}
	if err := n.LoadAPI(); err != nil {
		return one(warning(advice, "each store takes a Gluster client more: %v", err))
	}
	return one(ok("libgfapi can be loaded"))
}

const (
	// logAdvice is about logs that grow.
	logAdvice = "the driver rotates them once a minute: is it running? Then remove old ones, and leave out log-level of client options"
	// maxLogs is what the logs of all clients of a node may have together: a dozen clients
	// with three old logs each.
	maxLogs = 512 << 20
)

// checkLogs adds up the logs of the Gluster clients.
func (n *Node) checkLogs(context.Context) []Finding {
	files, err := filepath.Glob(filepath.Join(n.LogDir, "*.log*"))
	if err != nil {
		return one(failure("", "%v", err))
	}
	total, largest := int64(0), ""
	for _, file := range files {
		total += client.LogSize(file)
		if largest == "" || client.LogSize(file) > client.LogSize(largest) {
			largest = file
		}
	}
	text := fmt.Sprintf("%s of logs in %s, files: %d", units.BytesSize(float64(total)), n.LogDir, len(files))
	if total > maxLogs || client.LogSize(largest) > 10*client.MaxLogSize {
		return one(warning(logAdvice, "%s; the largest is %s", text, filepath.Base(largest)))
	}
	return one(ok("%s", text))
}

// checkMounts looks for mounts in the driver's directory that no driver knows.
func (n *Node) checkMounts(context.Context) []Finding {
	dir := filepath.Join(n.RunDir, "clients") + "/"
	table, err := mountinfo.GetMounts(mountinfo.PrefixFilter(strings.TrimSuffix(dir, "/")))
	if err != nil {
		return one(failure("", "the mount table cannot be read: %v", err))
	}
	var found []Finding
	for _, m := range table {
		key, _, below := strings.Cut(strings.TrimPrefix(m.Mountpoint, dir), "/")
		switch {
		case !below || n.knows(key):
		case n.runs():
			found = append(found, warning("when nothing uses it: 'umount "+m.Mountpoint+"'", "%s, of %s, is mounted, and the driver does not know it", m.Mountpoint, m.Source))
		default:
			found = append(found, warning("start the driver, which takes over what it knows", "%s, of %s, is mounted, and its driver's notes are gone", m.Mountpoint, m.Source))
		}
	}
	if len(found) == 0 {
		found = one(ok("none in %s that no driver knows", n.RunDir))
	}
	return found
}

// knows tells whether a client is the running driver's, or is going to be the next one's,
// which takes over those that have their source.json.
func (n *Node) knows(key string) bool {
	if n.runs() {
		for _, c := range n.info.Clients {
			if c.Key == key {
				return true
			}
		}
		return false
	}
	_, err := os.Stat(filepath.Join(n.RunDir, "clients", key, "source.json"))
	return err == nil
}
