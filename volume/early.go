package volume

import (
	"context"

	"github.com/glustervol/glustervol/mount"
)

// What a Mount needs besides the store's word that the volume may be mounted is asked for at
// the same time, for the volume that is known by the name: all of it takes its time. None of it
// counts unless the store says that it is this volume.

// knownWell is the volume of a name in the one store that is known to have it, if that has
// answered lately.
func (m *Manager) knownWell(name string) (s *store, def Definition, known bool) {
	s, def, known = m.knownOnce(name, "")
	return s, def, known && s.wasReached() && s.lastTrouble() == nil
}

// earlyDir is a look-up of a volume's directory.
type earlyDir struct {
	id   string
	done chan struct{}
	// dir and err are read behind done.
	dir mount.Dir
	err error
}

// lookUpDirEarly looks up the directory of a volume, if that is known.
func (m *Manager) lookUpDirEarly(ctx context.Context, name string) *earlyDir {
	s, def, known := m.knownWell(name)
	if !known {
		return &earlyDir{}
	}
	early := &earlyDir{id: def.ID, done: make(chan struct{})}
	go func() {
		defer close(early.done)
		early.dir, early.err = s.directory(ctx, def)
	}()
	return early
}

// of is the directory of the volume that the store has. What is known by an id has had one directory
// since it was made, so that it does not matter when that was looked up.
func (e *earlyDir) of(ctx context.Context, s *store, def Definition) (mount.Dir, error) {
	if e.id == def.ID {
		if <-e.done; e.err == nil && e.dir.Path == def.Dir() {
			return e.dir, nil
		}
	}
	return s.directory(ctx, def)
}

// earlyClient is a client that starts. Nothing of it is handed out; that is for Clients.Mount,
// which verifies it.
type earlyClient struct {
	key  string
	done chan struct{}
	// err is why it has not started; read behind done.
	err error
	// end has it be ended again, unless it has another user by now.
	end func()
}

// startClientEarly starts the client that a volume will most likely want, unless it runs. The
// caller ends it; one that was not started does nothing.
func (m *Manager) startClientEarly(ctx context.Context, name string) *earlyClient {
	s, def, known := m.knownWell(name)
	if !known {
		return &earlyClient{end: func() {}}
	}
	source := m.source(s, def)
	if m.config.Clients.Status(source.Key()).PID != 0 {
		return &earlyClient{end: func() {}}
	}
	return m.startClient(ctx, source, name+" is about to be mounted") // no volume has such a name
}

func (m *Manager) startClient(ctx context.Context, source mount.Source, user string) *earlyClient {
	ctx, cancel := context.WithCancel(ctx)
	early := &earlyClient{key: source.Key(), done: make(chan struct{})}
	go func() {
		defer close(early.done)
		_, early.err = m.config.Clients.Use(ctx, source, user)
	}()
	early.end = func() {
		cancel()
		<-early.done
		if early.err == nil {
			m.config.Clients.Release(early.key, user)
		}
	}
	return early
}

// await waits for the client of key. An error that it had before the store has answered is none:
// bricks that were coming back may be there by now, so that Clients.Mount tries once more.
func (e *earlyClient) await(key string) error {
	if e.key != key {
		return nil
	}
	select {
	case <-e.done:
		return nil
	default:
	}
	<-e.done
	return e.err
}
