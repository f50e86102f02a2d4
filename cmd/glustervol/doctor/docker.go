package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"

	"github.com/glustervol/glustervol/plugin"
)

// checkPluginSocket is about where dockerd finds the driver.
func (n *Node) checkPluginSocket(ctx context.Context) []Finding {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", n.PluginSocket)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was asked of it
		return one(ok("%s is served", n.PluginSocket))
	case errors.Is(err, fs.ErrNotExist):
		return one(failure("start the driver", "there is no %s, so dockerd does not find the driver", n.PluginSocket))
	}
	return one(failure("start the driver, or remove the file", "%s is there and nobody serves it: dockerd waits 15 s for each volume (%v)", n.PluginSocket, err))
}

// checkDocker is about whether dockerd sees the driver. It is asked only when the plugin
// socket is served: it would wait for that.
func (n *Node) checkDocker(ctx context.Context) []Finding {
	if n.DockerSocket == "" {
		return one(skipped("dockerd is not asked for anything (--docker-socket is empty)"))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", n.DockerSocket)
	if err != nil {
		return one(failure("'systemctl start docker'; or name its socket by --docker-socket", "dockerd does not answer: %v", err))
	}
	_ = conn.Close() // nothing was asked of it
	if n.checkPluginSocket(ctx)[0].Level != OK {
		return one(skipped("dockerd is there; it is not asked for a driver whose socket nobody serves"))
	}
	view, err := plugin.LookFromDocker(ctx, n.DockerSocket, n.PluginSocket)
	if err != nil {
		return one(failure("dockerd's log may say why", "dockerd: %v", err))
	}
	for _, w := range view.Warnings {
		if strings.Contains(w, view.Driver) {
			return one(failure("dockerd's log, and the driver's, may say why", "dockerd %s: %s", view.Version, w))
		}
	}
	if !view.Seen {
		return one(failure("restart dockerd, unless a disabled plugin of the same name hides the driver ('docker plugin ls')", "dockerd %s does not see a driver %s", view.Version, view.Driver))
	}
	return one(ok("dockerd %s sees the driver %s", view.Version, view.Driver))
}
