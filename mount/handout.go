package mount

import (
	"context"
	"errors"
)

// Mount counts user as one of the client of source, starts the client if it
// does not run, and returns the path of a directory on its mount that was just
// verified as AwaitDir does. When it fails, user is not counted, unless it was before.
func (cs *Clients) Mount(ctx context.Context, source Source, dir Dir, user string) (string, error) {
	counted := cs.uses(source.Key(), user)
	path, err := cs.mountOnce(ctx, source, dir, user)
	if errors.Is(err, ErrDead) { // it died between the start and the look
		path, err = cs.mountOnce(ctx, source, dir, user)
	}
	if err != nil && !counted {
		cs.Release(source.Key(), user)
	}
	return path, err
}

func (cs *Clients) mountOnce(ctx context.Context, source Source, dir Dir, user string) (string, error) {
	c, err := cs.Use(ctx, source, user)
	if err != nil {
		return "", err
	}
	return c.AwaitDir(ctx, dir)
}

// uses tells whether user is counted.
func (cs *Clients) uses(key, user string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, found := cs.clients[key]
	if !found {
		return false
	}
	_, counted := c.users[user]
	return counted
}
