package volume

import (
	"context"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// controlOptions switch off what the kernel would cache of the store: what
// another node has just written has to be seen.
const controlOptions = "attribute-timeout=0,entry-timeout=0,negative-timeout=0"

// controlUser is how the control plane is counted among a client's users.
const controlUser = "(control plane)"

// fusePlane is a control plane on a mount of its own.
type fusePlane struct {
	*gluster.Dir
	client  *mount.Client
	key     string
	clients *mount.Clients
}

// fuseControl opens control planes on mounts that it has clients make.
func fuseControl(clients *mount.Clients, why string) Control {
	return Control{
		ControlInfo: ControlInfo{Kind: ControlFUSE, Why: why},
		Open: func(ctx context.Context, address gluster.Address) (ControlPlane, error) {
			return openFUSE(ctx, address, clients)
		},
		RotateLogs: func() {},
	}
}

func openFUSE(ctx context.Context, address gluster.Address, clients *mount.Clients) (ControlPlane, error) {
	options, err := mount.ParseOptions(controlOptions)
	if err != nil {
		return nil, err
	}
	source := source(address, options)
	source.Fresh = true
	client, err := clients.Use(ctx, source, controlUser)
	if err != nil {
		return nil, err
	}
	path, err := client.VerifyDir(ctx, ".")
	if err == nil {
		var dir *gluster.Dir
		if dir, err = gluster.OpenDir(ctx, path); err == nil {
			return &fusePlane{Dir: dir, client: client, key: source.Key(), clients: clients}, nil
		}
	}
	clients.Release(source.Key(), controlUser)
	return nil, err
}

// Alive implements ControlPlane.
func (p *fusePlane) Alive() bool { return p.client.PID() != 0 }

// Close implements ControlPlane.
func (p *fusePlane) Close() error {
	err := p.Dir.Close()
	p.clients.Release(p.key, controlUser)
	return err
}
