package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/glustervol/glustervol/volume"
)

// dockerd notes with each volume by the name of which driver it has used it: it takes
// the volume from no other one, and without that driver it waits for it. It forgets
// a volume of which the driver says that there is none.

// Release has dockerd forget a volume, which stays as it is. inspect has dockerd look
// for it, and tells whether it has found it.
func (d *Docker) Release(ctx context.Context, name string, inspect func(context.Context, string) (bool, error)) error {
	d.released.Store(name, true)
	defer d.released.Delete(name)
	found, err := inspect(ctx, name)
	if err == nil && found {
		err = errors.New("dockerd has it from elsewhere")
	}
	if err != nil {
		return fmt.Errorf("release volume %s: %w", name, err)
	}
	return nil
}

// isReleased tells whether dockerd is to forget a volume just now.
func (d *Docker) isReleased(name string) bool {
	_, released := d.released.Load(name)
	return released
}

// Inspect has dockerd look for a volume.
func (e *Engine) Inspect(ctx context.Context, name string) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	_, err = e.client.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// releaseRequest asks for the release of volumes; none are all that this node's
// containers do not use.
type releaseRequest struct {
	Names []string `json:"names"`
	// All asks for all volumes, or none when one is in use.
	All bool `json:"all,omitempty"`
}

// releaseAnswer tells which were released, and why others were not.
type releaseAnswer struct {
	Released []string `json:"released"`
	Error    string   `json:"error,omitempty"`
}

func (a *Admin) releaseVolumes(r *http.Request) (any, error) {
	request, err := decode[releaseRequest](r.Body)
	if err == nil {
		err = a.listContainers(r.Context()) // what is in use is not guessed here
	}
	if err != nil {
		return nil, err
	}
	names, all := request.Names, len(request.Names) == 0
	if all {
		for v := range a.manager.List() {
			names = append(names, v.Name)
		}
	}
	answer := releaseAnswer{Released: []string{}}
	if request.All {
		if err := a.checkUnused(names); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, name := range names {
		err := a.releaseVolume(r.Context(), name)
		if inUse := (*volume.InUseError)(nil); all && errors.As(err, &inUse) {
			continue
		}
		if err == nil {
			answer.Released = append(answer.Released, name)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		answer.Error = err.Error()
	}
	return answer, nil
}

func (a *Admin) releaseVolume(ctx context.Context, name string) error {
	if _, err := a.manager.Get(ctx, name); err != nil {
		return err
	}
	if err := a.checkUnused([]string{name}); err != nil {
		return err
	}
	return a.release(ctx, name)
}

// checkUnused fails when containers of this node use volumes, and names all of them.
func (a *Admin) checkUnused(names []string) error {
	var errs []error
	for _, name := range names {
		var users []string
		for _, c := range a.manager.Containers(name) {
			users = append(users, c.String())
		}
		if len(users) > 0 {
			errs = append(errs, fmt.Errorf("release volume %s: %w", name, &volume.InUseError{Volume: name, Users: users}))
		}
	}
	return errors.Join(errs...)
}

// Release has dockerd forget volumes, all that no container of this node uses if none
// are named. The error may tell of some that were not released.
func (c *AdminClient) Release(ctx context.Context, names []string) (released []string, err error) {
	return c.askRelease(ctx, releaseRequest{Names: names})
}

// ReleaseAll has dockerd forget all volumes, or none when a container of this node uses one.
func (c *AdminClient) ReleaseAll(ctx context.Context) (released []string, err error) {
	return c.askRelease(ctx, releaseRequest{All: true})
}

func (c *AdminClient) askRelease(ctx context.Context, request releaseRequest) (released []string, err error) {
	var answer releaseAnswer
	err = c.call(ctx, http.MethodPost, "/v1/release", request, &answer)
	if answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Released, err
}
