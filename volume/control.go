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

// fuseControl is a control plane on a mount of its own.
type fuseControl struct {
	*gluster.Dir
	client  *mount.Client
	key     string
	clients *mount.Clients
}

// FUSEControl opens control planes on mounts that it has clients make.
func FUSEControl(clients *mount.Clients) func(context.Context, gluster.Address) (ControlPlane, error) {
	return func(ctx context.Context, address gluster.Address) (ControlPlane, error) {
		options, err := mount.ParseOptions(controlOptions)
		if err != nil {
			return nil, err
		}
		source := source(address, options)
		client, err := clients.Use(ctx, source, controlUser)
		if err != nil {
			return nil, err
		}
		path, err := client.VerifyDir(ctx, ".")
		if err == nil {
			var dir *gluster.Dir
			if dir, err = gluster.OpenDir(ctx, path); err == nil {
				return &fuseControl{Dir: dir, client: client, key: source.Key(), clients: clients}, nil
			}
		}
		clients.Release(source.Key(), controlUser)
		return nil, err
	}
}

// Alive implements ControlPlane.
func (c *fuseControl) Alive() bool { return c.client.PID() != 0 }

// Close implements ControlPlane.
func (c *fuseControl) Close() error {
	err := c.Dir.Close()
	c.clients.Release(c.key, controlUser)
	return err
}
