package volume

import (
	"context"
	"errors"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/mount"
)

// controlOptions switch off what the kernel would cache of the store: what
// another node has just written has to be seen.
const controlOptions = "attribute-timeout=0,entry-timeout=0,negative-timeout=0"

// controlUser is how the control plane is counted among a client's users.
const controlUser = "(control plane)"

// graphUser is the same for who asks for the Gluster volume's bricks and options, so that
// the end of the one is not that of the other.
const graphUser = "(doctor)"

// fusePlane is a control plane on a mount of its own.
type fusePlane struct {
	*gluster.Dir
	client  *mount.Client
	key     string
	user    string
	clients *mount.Clients
}

// fuseControl opens control planes on mounts that it has clients make.
func fuseControl(clients *mount.Clients, why string) Control {
	return Control{
		ControlInfo: ControlInfo{Kind: ControlFUSE, Why: why},
		Open: func(ctx context.Context, address gluster.Address) (ControlPlane, error) {
			plane, err := openFUSE(ctx, address, clients, controlUser)
			if err != nil {
				return nil, err // and no plane: a nil pointer in an interface is not nil
			}
			return plane, nil
		},
		Graph: func(ctx context.Context, address gluster.Address) (gluster.Graph, error) {
			plane, err := openFUSE(ctx, address, clients, graphUser)
			if err != nil {
				return nil, err
			}
			g, err := plane.Graph(ctx)
			return g, errors.Join(err, plane.Close())
		},
		RotateLogs: func() {},
	}
}

func openFUSE(ctx context.Context, address gluster.Address, clients *mount.Clients, user string) (*fusePlane, error) {
	options, err := mount.ParseOptions(controlOptions)
	if err != nil {
		return nil, err
	}
	source := source(address, options)
	source.Fresh = true
	client, err := clients.Use(ctx, source, user)
	if err != nil {
		return nil, err
	}
	path, err := client.VerifyDir(ctx, ".")
	if err == nil {
		var dir *gluster.Dir
		if dir, err = gluster.OpenDir(ctx, path); err == nil {
			return &fusePlane{Dir: dir, client: client, key: source.Key(), user: user, clients: clients}, nil
		}
	}
	clients.Release(source.Key(), user)
	return nil, err
}

// Alive implements ControlPlane.
func (p *fusePlane) Alive() bool { return p.client.PID() != 0 }

// Close implements ControlPlane.
func (p *fusePlane) Close() error {
	err := p.Dir.Close()
	p.clients.Release(p.key, p.user)
	return err
}
