package plugin

import (
	"context"
	"errors"
	"slices"
	"testing"

	api "github.com/docker/go-plugins-helpers/volume"

	"github.com/glustervol/glustervol/volume"
)

// TestRelease: dockerd is told that there is no such volume while it is being released,
// and at no other time.
func TestRelease(t *testing.T) {
	d := NewDocker(&fakeManager{
		get: func(context.Context, string) (volume.Volume, error) { return webVolume(), nil },
	}, Legacy("glustervol.sock"), new(logs).logger())
	ask := func(ctx context.Context, name string) (found bool, err error) {
		_, err = d.get(ctx, api.GetRequest{Name: name})
		if errors.Is(err, volume.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	must(t, d.Release(t.Context(), "web", ask))
	other := func(ctx context.Context, _ string) (bool, error) { return ask(ctx, "other") }
	if err := d.Release(t.Context(), "web", other); err == nil {
		t.Error("dockerd was told of another volume that there is none")
	}
	if found, err := ask(t.Context(), "web"); !found || err != nil {
		t.Errorf("later: found %v, %v", found, err)
	}
}

func TestAdminRelease(t *testing.T) {
	m := &fakeManager{
		get:  func(context.Context, string) (volume.Volume, error) { return webVolume(), nil },
		list: func() []volume.Volume { return []volume.Volume{webVolume()} },
	}
	c := serveAdmin(t, m)
	released, err := c.Release(t.Context(), []string{"one", "stuck", "two"})
	wantText(t, err, "release volume stuck: no dockerd")
	if !slices.Equal(released, []string{"one", "two"}) {
		t.Errorf("released %q", released)
	}
	if released, err = c.Release(t.Context(), nil); err != nil || !slices.Equal(released, []string{"web"}) {
		t.Errorf("released %q, %v", released, err)
	}
	m.containers = []volume.ContainerRef{{ID: "1f", Name: "db", State: "exited"}}
	if released, err = c.Release(t.Context(), nil); err != nil || len(released) > 0 {
		t.Errorf("released what is in use: %q, %v", released, err)
	}
	_, err = c.Release(t.Context(), []string{"web"})
	wantText(t, err, "volume web is in use on this node by container db (exited)")
	released, err = c.ReleaseAll(t.Context())
	wantText(t, err, "volume web is in use on this node by container db (exited)")
	if len(released) > 0 {
		t.Errorf("released %q", released)
	}
	m.containers = nil
	if released, err = c.ReleaseAll(t.Context()); err != nil || !slices.Equal(released, []string{"web"}) {
		t.Errorf("released %q, %v", released, err)
	}
}
